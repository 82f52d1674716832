"""What is deployed agrees with the programs: images, compose files and the README beside them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import click
import msgspec
import pytest
import yaml

from deploy.engines import program_pid
from fashion import main
from handoff.brokers.urls import ADAPTERS as BROKERS
from handoff.settings import Settings, load_settings
from handoff.stores.urls import ADAPTERS as STORES

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
README = (ROOT / "deploy" / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]
DEPLOYMENTS = ("kafka.yaml", "pubsub.yaml")
OURS = ("init", "worker", "client")
# Read by the SDKs, not by us.
FOREIGN_VARIABLES = {"GOOGLE_CLOUD_PROJECT", "PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"}

Service = dict[str, Any]


@cache
def services(name: str) -> dict[str, Service]:
    """The services of a compose file, with what they extend and the defaults of its variables filled in."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (COMPOSE / name).read_text())
    return {service: extended(told) for service, told in yaml.safe_load(text)["services"].items()}


def extended(told: Service) -> Service:
    """A service with what it extends."""
    if "extends" not in told:
        return told
    below = services(told["extends"]["file"])[told["extends"]["service"]]
    own = {name: value for name, value in told.items() if name != "extends"}
    environment = below.get("environment", {}) | own.get("environment", {})
    volumes = below.get("volumes", []) + own.get("volumes", [])
    return below | own | {"environment": environment, "volumes": volumes}


def our_services() -> Iterator[tuple[str, str, Service]]:
    """Each service of ours in each deployment."""
    for name in DEPLOYMENTS:
        for service in OURS:
            yield name, service, services(name)[service]


def stages() -> dict[str, str]:
    """The Dockerfile's stages, by name."""
    found = re.split(r"(?m)^FROM (\S+) AS (\S+)$", DOCKERFILE)[1:]
    return {name: f"FROM {base}\n{body}" for base, name, body in zip(*[iter(found)] * 3, strict=True)}


def parse(arguments: list[str]) -> None:
    """Have the command line read, without running it.

    Raises: click.ClickException: there is no such program, option or value
    """
    with main.make_context("fashion", list(arguments)) as context:
        name, command, rest = main.resolve_command(context, list(arguments))
        assert command is not None
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_has_its_servers_and_our_programs(name: str) -> None:
    """Whoever is waited for is there, with a health check where health is waited for; volumes are declared."""
    file = yaml.safe_load((COMPOSE / name).read_text())
    found = services(name)
    assert set(OURS) < set(found)
    for service in found.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "test" in found[other]["healthcheck"]
            assert how["condition"] != "service_completed_successfully" or other == "init"
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in file["volumes"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_images_are_pinned(name: str) -> None:
    """No tag that means something else tomorrow."""
    for service in services(name).values():
        tag = service["image"].rpartition(":")[2]
        assert re.match(r"\d+\.\d+\.\d+", tag), service["image"]
    assert re.search(r"(?m)^ARG PYTHON_IMAGE=\S+:3\.11-", DOCKERFILE)


def test_our_images_are_built_from_the_dockerfile() -> None:
    """Each service's image is a stage of it, under this version."""
    for _, _, service in our_services():
        build = service["build"]
        assert (COMPOSE / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).read_text() == DOCKERFILE
        assert build["target"] in stages()
        assert service["image"] == f"fashion-{build['target']}:{VERSION}"
        assert build["args"] == {"VERSION": VERSION}
    targets = re.findall(r"for target in \$\{TARGETS:-(.*)\};", (ROOT / "deploy" / "build_images.sh").read_text())
    assert [target.split() for target in targets] == [["worker", "client", "demo"]]


def test_commands_and_variables_are_the_programs_own() -> None:
    """Each service's command line is understood, and each of its variables is a setting with a usable value."""
    for _, _, service in our_services():
        parse(service["command"])
        variables: Mapping[str, str] = {name: str(value) for name, value in service["environment"].items()}
        ours = {name: value for name, value in variables.items() if name not in FOREIGN_VARIABLES}
        settings = load_settings(environment=ours, file=Path(os.devnull))
        assert set(settings.origins.values()) == {f"environment {name}" for name in ours}
        assert settings.settings.store.partition(":")[0] in STORES
        assert settings.settings.broker.partition(":")[0] in BROKERS
    with pytest.raises(click.ClickException):
        parse(["request", "--no-such-option"])


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_workers_can_be_scaled(name: str) -> None:
    """Nothing that only one container can have; each takes a core, and has a minute to finish what it holds."""
    worker = services(name)["worker"]
    assert not {"container_name", "hostname", "ports", "network_mode"} & set(worker)
    assert worker["environment"]["FASHION_WORKER_THREADS"] == 1
    assert worker["stop_grace_period"] == "60s"
    assert worker["restart"] == "on-failure"
    # Compose sets what a container that it runs depends on back to one of each.
    assert "worker" not in services(name)["client"]["depends_on"]


def test_the_end_of_init_does_not_end_the_deployment() -> None:
    """`up --exit-code-from client` ends with the first container it is attached to that ends: that is the client."""
    for name in DEPLOYMENTS:
        attached = {service for service, told in services(name).items() if told.get("attach", True)}
        assert attached == {"worker", "client"}


def test_programs_have_no_rights_to_spare() -> None:
    """Of a user of their own, on a file system that they cannot write to."""
    found = stages()
    for target in ("worker", "client", "demo"):
        assert found[target].startswith("FROM program\n")
        assert "USER" not in found[target]
    assert "\nUSER 10001:10001\n" in found["program"]
    for _, _, service in our_services():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service
        assert "privileged" not in service


def test_the_image_has_every_package() -> None:
    """What pyproject.toml installs is copied into the build, and .dockerignore lets it through."""
    copied = {word for line in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", DOCKERFILE) for word in line.split()}
    tools = PROJECT["tool"]["setuptools"]
    assert {name.partition(".")[0] for name in tools["packages"]} <= copied
    assert {f"{name}.py" for name in tools["py-modules"]} <= copied
    assert all((ROOT / path).exists() for path in copied)
    ignored, *_ = lines = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert ignored == "*"
    allowed = {path for line in lines if line.startswith("!") for path in ROOT.glob(line[1:])}
    assert {ROOT / path for path in copied} <= allowed


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A worker's health port, as far as the check can tell."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"draining")

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_whether_the_worker_is_ready(status: int, code: int) -> None:
    """On the port of the settings, past any proxy; the reason is what it says."""
    found = re.search(r"HEALTHCHECK .*? CMD (\[.*\])$", stages()["worker"].replace("\\\n", ""), re.MULTILINE)
    assert found
    python, *arguments = json.loads(found[1])
    assert python == "python"
    with answering(status) as port:
        environment = {"FASHION_WORKER_HEALTH_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (code, "draining\n" if code else "")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux tells a process's children so")
def test_a_signal_reaches_the_program_itself() -> None:
    """The innermost process, for the one around it would only kill it."""
    with subprocess.Popen(
        ["/bin/sh", "-c", "echo; /bin/sh -c 'echo; read line; echo'; echo"], stdin=-1, stdout=-1
    ) as outer:
        assert outer.stdin
        assert outer.stdout
        assert outer.stdout.readline() == outer.stdout.readline() == b"\n"  # both shells are there
        inner = program_pid(outer.pid)
        assert inner != outer.pid
        assert program_pid(inner) == inner
        outer.stdin.close()


def test_the_readme_names_what_there_is() -> None:
    """Its compose files exist, its images have this version, and what it has containers run is understood."""
    commands = [line.strip() for line in README.splitlines() if line.startswith("    docker ")]
    assert commands
    for line in commands:
        words = shlex.split(line, comments=True)
        for flag, name in pairwise(words):
            assert flag != "-f" or (ROOT / name).is_file(), line
        for image in (word for word in words if word.startswith("fashion-")):
            assert image.partition(":")[2] == VERSION
        places = [
            place for place, word in enumerate(words) if word in ("client", "init") or word.startswith("fashion-")
        ]
        if "run" in words and words[places[-1] + 1 :]:
            parse(words[places[-1] + 1 :])


def test_every_variable_of_the_dockerfile_is_a_setting() -> None:
    """A misspelt one would be without effect."""
    known = {f"FASHION_{group}_{name}".upper() for group, name in setting_names()}
    assert set(re.findall(r"\b(FASHION_\w+)=", DOCKERFILE)) <= known


def setting_names() -> Iterator[tuple[str, str]]:
    """Group and name of every setting that is in a group."""
    for group, value in msgspec.to_builtins(Settings()).items():
        if isinstance(value, dict):
            yield from ((group, name) for name in value)
