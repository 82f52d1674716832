"""What runs a built image: docker, podman, or buildah where nothing may run containers, inside a chroot."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

Prefix = list[str]
"""What a command line begins with to be run inside an image."""


class Surroundings(NamedTuple):
    """What a container is given."""

    environment: Mapping[str, str]
    volumes: Mapping[Path, str]


def output_of(command: Sequence[str]) -> str:
    """What a command prints; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def engine_here() -> str:
    """The first that works, as deploy/build_images.sh chooses it."""
    if shutil.which("docker") and subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0:
        return "docker"
    return next((name for name in ("podman", "buildah") if shutil.which(name)), "docker")


def config_of(engine: str, image: str) -> dict[str, Any]:
    """What an image says of itself: User, Entrypoint, Cmd, Env, Labels, StopSignal, Healthcheck."""
    if engine == "buildah":
        config: dict[str, Any] = json.loads(output_of(["buildah", "inspect", "--type", "image", image]))["Docker"][
            "config"
        ]
        return config
    found = json.loads(output_of([engine, "image", "inspect", image]))[0]
    health = found.get("HealthCheck") or found.get("Healthcheck")  # podman's places for it
    return {"Healthcheck": health, **found["Config"]}


@contextmanager
def opened(engine: str, image: str, given: Surroundings) -> Iterator[Prefix]:
    """Yield what runs a command in a container of an image, on this machine's network."""
    options = [each for name, value in given.environment.items() for each in ("--env", f"{name}={value}")]
    options += [each for path, place in given.volumes.items() for each in ("--volume", f"{path}:{place}")]
    if engine != "buildah":
        yield [engine, "run", "--rm", "--init", "--network", "host", *options, "--entrypoint", "", image]
        return
    container = output_of(["buildah", "from", "--pull-never", image])
    try:
        yield ["buildah", "run", "--isolation", "chroot", *options, container, "--"]
    finally:
        subprocess.run(["buildah", "rm", container], check=True, capture_output=True)


def program_pid(pid: int) -> int:
    """The process that a signal is for: docker hands signals on; buildah kills, so there it is its children's child."""
    while children := [
        child for each in Path(f"/proc/{pid}/task").glob("*/children") for child in each.read_text().split()
    ]:
        pid = int(children[0])
    return pid
