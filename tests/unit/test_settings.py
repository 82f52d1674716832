"""Every setting says where it comes from, and an unusable one is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from handoff.contracts.errors import SettingsInvalid
from handoff.settings import (
    REPOSITORY,
    ResolvedSettings,
    Settings,
    WorkerSettings,
    environment_of,
    load_settings,
    model_path,
)


def resolve(
    tmp_path: Path, text: str = "", *, environment: dict[str, str] | None = None, **flags: object
) -> ResolvedSettings:
    """Resolve settings from a file's text, an environment and flags (`a__b` stands for `a.b`)."""
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(flags=dotted, file=path, environment=environment or {})


def origin_of(resolved: ResolvedSettings, name: str) -> tuple[object, str]:
    """A setting's value and origin."""
    return next((value, origin) for found, value, origin in resolved.rows() if found == name)


def test_a_flag_beats_the_environment_the_file_and_the_default(tmp_path: Path) -> None:
    """Each layer covers those below it, and the origin names the layer that won."""
    text, environment = "worker: {threads: 1}", {"FASHION_WORKER_THREADS": "2"}
    name = "worker.threads"
    assert origin_of(resolve(tmp_path), name) == (0, "default")
    assert origin_of(resolve(tmp_path, text), name) == (1, "file settings.yaml")
    assert origin_of(resolve(tmp_path, text, environment=environment), name) == (
        2,
        "environment FASHION_WORKER_THREADS",
    )
    assert origin_of(resolve(tmp_path, text, environment=environment, worker__threads=3), name) == (3, "flag")


def test_a_flag_that_was_not_given_covers_nothing(tmp_path: Path) -> None:
    """None means not given, an empty variable too."""
    resolved = resolve(tmp_path, "broker: pubsub://p", environment={"FASHION_BROKER": ""}, broker=None)
    assert origin_of(resolved, "broker") == ("pubsub://p", "file settings.yaml")


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    """FASHION_CONFIG stands for --config, which goes first."""
    named, flagged = tmp_path / "named.yaml", tmp_path / "flagged.yaml"
    named.write_text("store: file:named", encoding="utf-8")
    flagged.write_text("store: file:flagged", encoding="utf-8")
    environment = {"FASHION_CONFIG": str(named)}
    assert load_settings(environment=environment).settings.store == "file:named"
    assert load_settings(environment=environment, file=flagged).settings.store == "file:flagged"


def test_the_file_beside_the_caller_goes_before_the_repositorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's own config.yaml is used there, the repository's everywhere else."""
    monkeypatch.chdir(tmp_path)
    assert load_settings(environment={}).origins["broker"] == "file config.yaml"
    (tmp_path / "config.yaml").write_text("store: gs://bucket", encoding="utf-8")
    resolved = load_settings(environment={})
    assert resolved.settings.store == "gs://bucket"
    assert set(resolved.origins) == {"store"}


def test_the_shipped_file_names_every_setting_at_its_default() -> None:
    """config.yaml documents the defaults, so it may neither lack one nor differ from one."""
    resolved = load_settings(file=REPOSITORY / "config.yaml", environment={})
    assert resolved.settings == Settings()
    assert {name for name, _, _ in resolved.rows()} == set(resolved.origins)


def test_text_becomes_the_settings_type(tmp_path: Path) -> None:
    """Variables are text; figures among them become figures."""
    environment = {"FASHION_CLIENT_TIMEOUT_S": "2.5", "FASHION_TOPOLOGY_MAX_ATTEMPTS": "7"}
    settings = resolve(tmp_path, environment=environment).settings
    assert (settings.client.timeout_s, settings.topology.max_attempts) == (2.5, 7)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("brocker: x", "Unknown setting brocker .file settings.yaml.; `fashion config` lists the settings."),
        ("worker: {thread: 1}", "Unknown setting worker.thread "),
        ("worker: 3", "Unknown setting worker "),
        ("broker: {url: x}", "Unknown setting broker.url "),
        ("worker: {threads: many}", "worker.threads .file settings.yaml. has an unusable value 'many'"),
        ("worker: {runtime: torch}", "worker.runtime .* unusable value 'torch'"),
        ("client: {format: png}", "client.format .* unusable value 'png'"),
        ("broker: [1, 2]", "broker .* unusable value"),
        ("- a\n- b", "must hold names and values"),
        ("a: [", "settings.yaml cannot be read"),
        ("worker: {transfer_threads: 0}", "worker.transfer_threads is 0; it must be at least 1"),
        ("worker: {micro_batch_images: -5}", "worker.micro_batch_images is -5"),
        ("worker: {max_in_flight: 0}", "worker.max_in_flight is 0"),
        ("worker: {max_images: 0}", "worker.max_images is 0"),
        ("worker: {max_batch_bytes: 0}", "worker.max_batch_bytes is 0"),
        ("worker: {max_batch_images: 0}", "worker.max_batch_images is 0"),
        ("worker: {threads: -1}", "worker.threads is -1; it must be at least 0"),
        ("worker: {serving_url: 'http://s/v1/models/m'}", "serving_url .--url. goes with the runtime tf-serving, not"),
        ("worker: {runtime: tf-serving}", "needs the URL of a model, worker.serving_url: use --url http://HOST:8501"),
        ("worker: {runtime: tf-serving, serving_url: 'http://s/x'}", "The model's URL 'http://s/x' names no model"),
        ("worker: {serving_timeout_s: 0}", "worker.serving_timeout_s is 0.0; it must be at least 0.1"),
        ("worker: {serving_patience_s: -1}", "worker.serving_patience_s is -1.0; it must be at least 0"),
        ("worker: {serving_patience_s: 301}", "worker.serving_patience_s is 301; it must be at most 300"),
        ("worker: {health_port: -1}", "worker.health_port is -1; it must be at least 0"),
        ("worker: {health_port: 65536}", "worker.health_port is 65536; it must be at most 65535"),
        ("log_format: xml", "log_format .* unusable value 'xml': use one of text, json"),
        ("scaling: {min_workers: 0}", "scaling.min_workers is 0; it must be at least 1"),
        ("scaling: {max_workers: -1}", "scaling.max_workers is -1"),
        ("scaling: {min_workers: 3, max_workers: 2}", "scaling.max_workers is 2, which is below scaling.min_workers"),
        ("scaling: {backlog_per_worker: -1}", "scaling.backlog_per_worker is -1"),
        ("scaling: {oldest_unacked_age_s: 0}", "scaling.oldest_unacked_age_s is 0"),
        ("scaling: {scale_down_after_s: -1}", "scaling.scale_down_after_s is -1"),
        ("scaling: {period_s: 0}", "scaling.period_s is 0"),
        ("client: {batch_size: 0}", "client.batch_size is 0"),
        ("client: {timeout_s: -1}", "client.timeout_s is -1"),
        ("client: {max_publications: 0}", "client.max_publications is 0"),
        ("topology: {ack_deadline_s: 0.5}", "topology.ack_deadline_s is 0.5"),
        ("topology: {ack_deadline_s: .nan}", "topology.ack_deadline_s is nan"),
        ("topology: {ack_deadline_s: .inf}", "topology.ack_deadline_s is inf"),
        ("topology: {retention_s: 0}", "topology.retention_s is 0"),
        ("topology: {max_attempts: 0}", "topology.max_attempts is 0"),
        ("store_retention_s: -1", "store_retention_s is -1"),
        ("store_retention_s: 3600", "store_retention_s is 3600, but a message may come again .* 604800, and needs its"),
        ("topology: {retention_s: 1209600}", "store_retention_s is 604800, .* or 0 to keep objects for ever"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """The sentence names the setting, where it stands and what is wrong with it."""
    with pytest.raises(SettingsInvalid, match=sentence) as refused:
        resolve(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_the_standard_variable_names_the_endpoint_too(tmp_path: Path) -> None:
    """Over the file, under our own variable; it is handed on to the programs started from here."""
    name, standard = "telemetry.endpoint", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}
    text, own = 'telemetry: {endpoint: ""}', {"FASHION_TELEMETRY_ENDPOINT": "http://b:4318"}
    resolved = resolve(tmp_path, text, environment=standard)
    assert origin_of(resolved, name) == ("http://a:4318", "environment OTEL_EXPORTER_OTLP_ENDPOINT")
    resolved = resolve(tmp_path, text, environment=standard | own)
    assert origin_of(resolved, name) == ("http://b:4318", "environment FASHION_TELEMETRY_ENDPOINT")
    assert load_settings(environment=environment_of(resolved.settings)).settings == resolved.settings


def test_a_program_started_from_here_traces_only_where_this_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard variable may stand in the environment for others."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://other:4318")
    assert load_settings(environment=environment_of(Settings())).settings.telemetry.endpoint == ""


def test_objects_may_be_kept_for_ever_or_as_long_as_messages(tmp_path: Path) -> None:
    """What is refused is only what would lose an object that is still needed."""
    text = "topology: {retention_s: 60}\nstore_retention_s: "
    assert resolve(tmp_path, text + "60").settings.store_retention_s == 60
    assert resolve(tmp_path, "topology: {retention_s: 1209600}\nstore_retention_s: 0").settings.store_retention_s == 0


def test_an_unusable_variable_is_named(tmp_path: Path) -> None:
    """The origin in the sentence is the variable's name."""
    with pytest.raises(SettingsInvalid, match="environment FASHION_WORKER_THREADS"):
        resolve(tmp_path, environment={"FASHION_WORKER_THREADS": "two"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A file that was asked for must exist."""
    with pytest.raises(SettingsInvalid, match=r"nowhere.yaml cannot be read"):
        load_settings(file=tmp_path / "nowhere.yaml", environment={})


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 end in the same sentence."""
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00broker")
    with pytest.raises(SettingsInvalid, match=r"binary.yaml cannot be read"):
        load_settings(file=path, environment={})


def test_a_program_started_from_here_gets_the_same_settings(tmp_path: Path) -> None:
    """Settings survive the way through the environment, whatever files the other program finds."""
    settings = resolve(
        tmp_path, broker="pubsub://p", worker__threads=3, client__timeout_s=1.5, topology__requests_topic="r"
    ).settings
    other = load_settings(environment=environment_of(settings)).settings
    assert other == settings


def test_the_environment_that_is_there_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH and the like reach the other program; a variable that says otherwise does not."""
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    monkeypatch.setenv("FASHION_BROKER", "pubsub://other")
    environment = environment_of(Settings(broker="embedded:q.db"))
    assert environment["SOMETHING_ELSE"] == "kept"
    assert environment["FASHION_BROKER"] == "embedded:q.db"


def test_the_model_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the caller's folder, then the repository."""
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert model_path(settings) == REPOSITORY / settings.worker.model
    own = tmp_path / settings.worker.model
    own.mkdir(parents=True)
    assert model_path(settings).resolve() == own
    missing = Settings(worker=WorkerSettings(model="nowhere/1"))
    assert model_path(missing) == Path("nowhere/1")


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"ML_APP_BROKER": "google-pubsub", "GOOGLE_CLOUD_PROJECT": "shop"}, "pubsub://shop"),
        ({"ML_APP_BROKER": "apache-kafka"}, "kafka://localhost:9092"),
        ({"ML_APP_BROKER": "apache-kafka", "KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2"}, "kafka://a:1,b:2"),
    ],
)
def test_the_earlier_names_of_brokers_are_understood(tmp_path: Path, environment: dict[str, str], url: str) -> None:
    """They go before the settings file, as every variable does."""
    resolved = resolve(tmp_path, "broker: embedded:q.db", environment=environment)
    assert origin_of(resolved, "broker") == (url, "environment ML_APP_BROKER")


def test_an_earlier_name_gives_way_to_a_url(tmp_path: Path) -> None:
    """Also one that stands for nothing."""
    environment = {"ML_APP_BROKER": "no-such-broker"}
    assert origin_of(resolve(tmp_path, environment=environment, broker="embedded:q.db"), "broker")[1] == "flag"
    environment |= {"FASHION_BROKER": "pubsub://p"}
    assert origin_of(resolve(tmp_path, environment=environment), "broker")[1] == "environment FASHION_BROKER"


@pytest.mark.parametrize(
    ("name", "said"), [("google-pubsub", "GOOGLE_CLOUD_PROJECT names no project"), ("rabbitmq", "'rabbitmq'")]
)
def test_an_earlier_name_that_says_too_little_is_refused(tmp_path: Path, name: str, said: str) -> None:
    """In a sentence that names what to set."""
    with pytest.raises(SettingsInvalid, match=said) as refused:
        resolve(tmp_path, environment={"ML_APP_BROKER": name})
    assert "FASHION_BROKER" in str(refused.value)
