"""Settings, each with its origin: flag > environment > settings file > default.

The one module that reads the environment.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import msgspec
import yaml
from msgspec import Struct, field

from handoff import earlier_names
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.messages import PayloadFormat
from handoff.contracts.serving_url import parse_serving_url
from handoff.contracts.topology import DAY_S, Topology

PREFIX = "FASHION_"
# The OpenTelemetry specification's own variable, "OTLP Exporter Configuration"; ours goes first.
ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
REPOSITORY = Path(__file__).resolve().parent.parent
FILE_NAME = "config.yaml"
LAST_PORT = 65_535
# Half of the time without progress after which a worker is taken for dead (ml_server/vitals.py): a request of several
# micro-batches may wait for its server twice.
_LONGEST_PATIENCE_S = 300.0

T = TypeVar("T")


class WorkerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one worker runs and how much it holds at a time."""

    model: str = "ml_model_development/artifacts/1"
    runtime: Literal["auto", "openvino", "onnx", "keras", "tf-serving"] = "auto"
    serving_url: str = ""
    serving_timeout_s: float = 10.0
    serving_patience_s: float = 120.0
    threads: int = 0
    transfer_threads: int = 4
    micro_batch_images: int = 128
    max_in_flight: int = 64
    max_images: int = 4096
    max_batch_bytes: int = 64 * 1024 * 1024
    max_batch_images: int = 20_000
    health_port: int = 0
    health_host: str = "127.0.0.1"


class ScalingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `fashion worker --workers auto` follows the backlog of requests."""

    min_workers: int = 1
    max_workers: int = 0
    backlog_per_worker: int = 0
    oldest_unacked_age_s: float = 30.0
    scale_down_after_s: float = 60.0
    period_s: float = 2.0


class ClientSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clients cut and send images."""

    batch_size: int = 100
    format: PayloadFormat = "csv"
    timeout_s: float = 60.0
    max_publications: int = 5
    journals: str = "var/journals"


class TelemetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where traces of requests are sent."""

    endpoint: str = ""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a program can be told."""

    broker: str = "embedded:var/queue.db"
    store: str = "file:var/store"
    store_retention_s: float = 7 * DAY_S
    log_format: Literal["text", "json"] = "text"
    topology: Topology = Topology()
    worker: WorkerSettings = WorkerSettings()
    scaling: ScalingSettings = ScalingSettings()
    client: ClientSettings = ClientSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


class ResolvedSettings(Struct, frozen=True):
    """Settings beside where each value came from, by its dotted name."""

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, object, str]]:
        """Yield (dotted name, value, origin) in the order of the settings file."""
        flat = _flatten(msgspec.to_builtins(self.settings))
        return ((name, value, self.origins.get(name, "default")) for name, value in flat.items())


def load_settings(
    *,
    flags: Mapping[str, object] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ResolvedSettings:
    """Read every source; `flags` maps dotted names to values, None meaning not given.

    Raises: SettingsInvalid: an unknown name or a value of another type, naming where it stands
    """
    environment = os.environ if environment is None else environment
    layers = [
        *_file_layers(file, environment),
        {} if (flags or {}).get("broker") else _earlier_layer(environment),
        _environment_layer(environment),
        {name: (value, "flag") for name, value in (flags or {}).items() if value is not None},
    ]
    given = {name: entry for layer in layers for name, entry in layer.items()}
    values = Settings()
    for name, (value, origin) in given.items():
        values = _with_value(values, name.split("."), value, where=f"{name} ({origin})")
    _check(values)
    return ResolvedSettings(values, {name: origin for name, (_, origin) in given.items()})


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment that makes a program started from here work with these settings, whatever its own say."""
    told = {_variable(name): str(value) for name, value in _flatten(msgspec.to_builtins(settings)).items()}
    told[ENDPOINT_VARIABLE] = settings.telemetry.endpoint
    # An empty file: what stands in the program's own config.yaml was read here already, and may not be readable there.
    return {**os.environ, **told, f"{PREFIX}CONFIG": os.devnull}


def model_path(settings: Settings) -> Path:
    """Where the model artifact lies: relative paths are looked up here, then in the repository."""
    path = Path(settings.worker.model)
    return path if path.exists() or not (REPOSITORY / path).exists() else REPOSITORY / path


def _file_layers(file: Path | None, environment: Mapping[str, str]) -> list[dict[str, tuple[object, str]]]:
    chosen = file or (Path(environment["FASHION_CONFIG"]) if environment.get("FASHION_CONFIG") else None)
    usual = [path for path in (Path(FILE_NAME), REPOSITORY / FILE_NAME) if path.is_file()]
    if chosen is None and not usual:
        return []
    path = chosen or usual[0]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsInvalid(f"The settings file {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SettingsInvalid(f"The settings file {path} must hold names and values, as config.yaml does.")
    return [{name: (value, f"file {path.name}") for name, value in _flatten(content).items()}]


def _environment_layer(environment: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    variables = {name: _variable(name) for name in _flatten(msgspec.to_builtins(Settings()))}
    if not environment.get(variables["telemetry.endpoint"]):
        variables["telemetry.endpoint"] = ENDPOINT_VARIABLE
    return {
        name: (environment[variable], f"environment {variable}")
        for name, variable in variables.items()
        if environment.get(variable)
    }


def _earlier_layer(environment: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    if environment.get(_variable("broker")):
        return {}
    url = earlier_names.broker_url(environment)
    return {"broker": (url, f"environment {earlier_names.BROKER_VARIABLE}")} if url else {}


def _variable(name: str) -> str:
    return PREFIX + name.replace(".", "_").upper()


def _flatten(tree: Mapping[str, Any], above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{above}{name}."))
        else:
            flat[f"{above}{name}"] = value
    return flat


def _with_value(settings: T, path: list[str], value: object, *, where: str) -> T:
    """Replace one value, converted to its field's type, in a tree of structs."""
    fields = {found.name: found for found in msgspec.structs.fields(settings)}  # type: ignore[arg-type]
    name, *below = path
    if name not in fields or bool(below) != isinstance(getattr(settings, name), Struct):
        raise SettingsInvalid(f"Unknown setting {where}; `fashion config` lists the settings.")
    if below:
        changed: object = _with_value(getattr(settings, name), below, value, where=where)
    else:
        try:
            changed = msgspec.convert(value, fields[name].type, strict=False)
        except msgspec.ValidationError as error:
            choices = get_args(fields[name].type) if get_origin(fields[name].type) is Literal else ()
            why = f"use one of {', '.join(choices)}" if choices else str(error)
            raise SettingsInvalid(f"The setting {where} has an unusable value {value!r}: {why}.") from error
    return msgspec.structs.replace(settings, **{name: changed})  # type: ignore[type-var]


def _check(settings: Settings) -> None:
    """Refuse figures with which nothing could work."""
    least = {
        "worker.serving_timeout_s": 0.1,
        "worker.serving_patience_s": 0,
        "worker.threads": 0,
        "worker.transfer_threads": 1,
        "worker.micro_batch_images": 1,
        "worker.max_in_flight": 1,
        "worker.max_images": 1,
        "worker.max_batch_bytes": 1,
        "worker.max_batch_images": 1,
        "worker.health_port": 0,
        "scaling.min_workers": 1,
        "scaling.max_workers": 0,
        "scaling.backlog_per_worker": 0,
        "scaling.oldest_unacked_age_s": 1,
        "scaling.scale_down_after_s": 0,
        "scaling.period_s": 0.1,
        "store_retention_s": 0,
        "client.batch_size": 1,
        "client.timeout_s": 0,
        "client.max_publications": 1,
        "topology.ack_deadline_s": 1,
        "topology.max_attempts": 1,
        "topology.retention_s": 1,
    }
    figures = _flatten(msgspec.to_builtins(settings))
    for name, bound in least.items():
        figure = cast("float", figures[name])
        # Written so that NaN is refused too.
        if not bound <= figure < math.inf:
            raise SettingsInvalid(f"The setting {name} is {figure}; it must be at least {bound}.")
    _check_together(settings)


def _check_together(settings: Settings) -> None:
    """Refuse figures that are too large, or too large for one another."""
    if settings.worker.health_port > LAST_PORT:
        raise SettingsInvalid(
            f"The setting worker.health_port is {settings.worker.health_port}; it must be at most {LAST_PORT}."
        )
    _check_serving(settings.worker)
    if 0 < settings.scaling.max_workers < settings.scaling.min_workers:
        raise SettingsInvalid(
            f"The setting scaling.max_workers is {settings.scaling.max_workers}, which is below scaling.min_workers "
            f"({settings.scaling.min_workers}); raise it, or lower scaling.min_workers."
        )
    if 0 < settings.store_retention_s < settings.topology.retention_s:
        raise SettingsInvalid(
            f"The setting store_retention_s is {settings.store_retention_s:g}, but a message may come again for"
            f" topology.retention_s, {settings.topology.retention_s:g}, and needs its objects;"
            " use at least that, or 0 to keep objects for ever."
        )


def _check_serving(worker: WorkerSettings) -> None:
    """Refuse a remote runtime without its server, and a server without its runtime."""
    if worker.serving_patience_s > _LONGEST_PATIENCE_S:
        raise SettingsInvalid(
            f"The setting worker.serving_patience_s is {worker.serving_patience_s:g}; "
            f"it must be at most {_LONGEST_PATIENCE_S:g}."
        )
    if worker.serving_url and worker.runtime != "tf-serving":
        raise SettingsInvalid(
            f"The setting worker.serving_url (--url) goes with the runtime tf-serving, not with {worker.runtime};"
            " use --runtime tf-serving, or leave out the URL."
        )
    if worker.runtime == "tf-serving":
        if not worker.serving_url:
            raise SettingsInvalid(
                "The runtime tf-serving needs the URL of a model, worker.serving_url:"
                " use --url http://HOST:8501/v1/models/NAME."
            )
        parse_serving_url(worker.serving_url)
