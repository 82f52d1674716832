"""Looks at the built images and runs each program inside them: `python deploy/check_images.py`, after build_images.sh.

Workers and clients meet on an embedded broker and a folder, or where --broker and --store say.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from engines import Prefix, Surroundings, config_of, engine_here, opened, output_of, program_pid

ROOT = Path(__file__).resolve().parent.parent
USER = 10001
WITHIN_S = 60.0
WORKER_COUNT = 2

LARGEST_BYTES = {"worker": 600_000_000, "client": 600_000_000, "demo": 600_000_000}
ABSENT = {
    "worker": ("tensorflow", "keras", "pandas", "PIL", "pip"),
    "client": ("tensorflow", "keras", "openvino", "onnxruntime", "pip"),
    "demo": ("tensorflow", "keras", "pip"),
}
HELP = {
    "worker": ("worker", "init", "status"),
    "client": ("request", "receive", "classify"),
    "demo": ("demo", "worker"),
}

# Every file's size, without what only a running container has.
SIZE = """
import os
tops = [path for path in os.scandir('/') if path.is_dir(follow_symlinks=False)]
print(sum(os.lstat(os.path.join(at, name)).st_size
          for top in tops if top.name not in ('dev', 'proc', 'run', 'store', 'sys', 'tmp', 'work')
          for at, _, names in os.walk(top.path) for name in names))
"""
FOUND = "import importlib.util, sys; print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))"
WRITABLE = "import os, sys; print(*(path for path in sys.path[1:] + ['/opt/fashion'] if os.access(path, os.W_OK)))"


class ImageFailed(Exception):
    """An image is not what it should be."""


def expect(true: object, sentence: str) -> None:
    """Say what holds, or end with what does not."""
    if not true:
        raise ImageFailed(sentence)
    click.echo(f"  {sentence}")


def check_config(engine: str, image: str, *, version: str) -> None:
    """Look at what the image says of itself."""
    config = config_of(engine, image)
    expect(config["User"] == f"{USER}:{USER}", f"user {config['User']}, of no special rights")
    expect(config["Entrypoint"] == ["fashion"], f"starts {config['Entrypoint']} {config['Cmd']}")
    expect(config.get("StopSignal") == "SIGTERM", "is stopped with SIGTERM")
    labels = config["Labels"]
    expect(labels["org.opencontainers.image.version"] == version, f"says that it is version {version}")
    names = {line.partition("=")[0] for line in config["Env"]}
    odd = {name for name in names if not name.startswith(("FASHION_WORKER_HEALTH_", "PYTHON"))} - {
        "PATH",
        "LANG",
        "GPG_KEY",
    }
    expect(not odd, f"sets {', '.join(sorted(names))}")


def check_inside(prefix: Prefix, target: str, *, version: str) -> None:
    """Run what needs no broker."""

    def python(code: str, *arguments: str) -> str:
        return output_of([*prefix, "python", "-c", code, *arguments])

    size_bytes = int(python(SIZE))
    expect(size_bytes <= LARGEST_BYTES[target], f"{size_bytes / 1e6:.0f} MB, uncompressed")
    user = python("import os; print(os.getuid(), os.getgid())")
    expect(user == f"{USER} {USER}", f"runs as {user}")
    expect(not python(FOUND, *ABSENT[target]), f"has no {', '.join(ABSENT[target])}")
    expect(not python(WRITABLE), "cannot write where its code lies")
    expect(output_of([*prefix, "fashion", "--version"]).endswith(version), f"fashion --version: {version}")
    for name in ((), *((name,) for name in HELP[target])):
        said = output_of([*prefix, "fashion", *name, "--help"])
        expect(said.startswith(" ".join(("Usage: fashion", *name))), " ".join(("fashion", *name, "--help")))


def check_demo(prefix: Prefix) -> None:
    """Run the demo, and show it."""
    said = output_of([*prefix, "fashion", "demo"])
    click.echo(said)
    expect("accuracy     95" in said, "fashion demo: two workers, 1,000 images, 95 % right")


def check_deployment(engine: str, images: Mapping[str, str], given: Surroundings) -> None:
    """Run two workers and a client, each in a container of its own, against one broker and store."""
    with ExitStack() as stack:
        client = stack.enter_context(opened(engine, images["client"], given))
        init = stack.enter_context(opened(engine, images["worker"], given))
        click.echo(output_of([*init, "fashion", "init"]))
        for number in range(1, WORKER_COUNT + 1):
            stack.enter_context(running_worker(engine, images["worker"], given, name=f"worker-{number}"))
        check_client([*client, "fashion", "request", "--wait", "--batch-size", "10"], ends_with=0)
        check_client([*client, "fashion", "request", "--wait", "--count", "1", "--model", "another"], ends_with=1)


def check_client(command: Sequence[str], *, ends_with: int) -> None:
    """Run a client, show its summary, look at its exit code."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    summary = [line for line in lines if not line[:1].isalnum() or " images  " not in line]
    click.echo("\n".join(summary))
    what = " ".join(command[command.index("fashion") :])
    expect(done.returncode == ends_with, f"{what}: ended with {done.returncode}")


@contextmanager
def running_worker(engine: str, image: str, given: Surroundings, *, name: str) -> Iterator[None]:
    """Run a worker that the image's own health check finds ready; at the end SIGTERM must drain it."""
    port = free_port()
    environment = {**given.environment, "FASHION_WORKER_HEALTH_PORT": str(port)}
    health = config_of(engine, image)["Healthcheck"]["Test"]
    with opened(engine, image, given._replace(environment=environment)) as prefix:
        started_at = time.monotonic()
        worker = subprocess.Popen([*prefix, "fashion", "worker", "--quiet", "--name", name])
        try:
            wait_until(lambda: is_healthy(worker, [*prefix, *health[1:]]), what=f"{name} is healthy")
            expect(health[0] == "CMD", f"{name} is healthy after {time.monotonic() - started_at:.1f} s")
            yield
            os.kill(program_pid(worker.pid), signal.SIGTERM)
            code = worker.wait(WITHIN_S)
            expect(code == 0, f"{name} drained and ended with {code}")
        finally:
            if worker.poll() is None:
                os.kill(program_pid(worker.pid), signal.SIGKILL)
                worker.wait(WITHIN_S)


def is_healthy(worker: subprocess.Popen[bytes], check: Sequence[str]) -> bool:
    """Ask once."""
    if worker.poll() is not None:
        raise ImageFailed(f"a worker ended with {worker.returncode}")
    return subprocess.run(check, check=False, capture_output=True).returncode == 0


def wait_until(true: Callable[[], bool], *, what: str) -> None:
    """Look again and again until something is so."""
    deadline = time.monotonic() + WITHIN_S
    while not true():
        if time.monotonic() > deadline:
            raise ImageFailed(f"not within {WITHIN_S:.0f} s: {what}")
        time.sleep(0.1)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that the user of the images may write to."""
    with tempfile.TemporaryDirectory(prefix="fashion-images-") as path:
        if os.getuid() == 0:
            os.chown(path, USER, USER)
        else:
            Path(path).chmod(0o777)  # another user than ours, whom we may not give it to
        yield Path(path)


@click.command(context_settings={"show_default": True})
@click.option(
    "--engine", type=click.Choice(["docker", "podman", "buildah"]), help="What runs them [default: what is here]."
)
@click.option("--broker", default="embedded:/store/queue.db", help="Broker URL, as the containers reach it.")
@click.option("--store", default="file:/store", help="Store URL; /store is a folder that all of them share.")
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="One more variable for them.")
def command(engine: str | None, broker: str, store: str, environment: tuple[str, ...]) -> None:
    """Check the images of this version, and run the programs inside them."""
    engine = engine or engine_here()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {target: f"fashion-{target}:{version}" for target in HELP}
    variables = dict(each.partition("=")[::2] for each in environment)
    with shared_folder() as folder:
        variables |= {"FASHION_BROKER": broker, "FASHION_STORE": store}
        try:
            for target, image in images.items():
                click.echo(image)
                check_config(engine, image, version=version)
                with opened(engine, image, Surroundings({}, {})) as prefix:
                    check_inside(prefix, target, version=version)
                    if target == "demo":
                        check_demo(prefix)
            click.echo(f"{WORKER_COUNT} workers and a client on {broker} and {store}")
            check_deployment(engine, images, Surroundings(variables, {folder: "/store"}))
        except (ImageFailed, subprocess.CalledProcessError) as error:
            click.echo(f"Error: not so: {error} {getattr(error, 'stderr', '')}", err=True)
            sys.exit(1)


if __name__ == "__main__":
    command()
