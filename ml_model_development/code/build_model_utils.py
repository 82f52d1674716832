"""What `build_model.py` needs around the training itself: folders, provenance, options and quiet imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from handoff.contracts.errors import SettingsInvalid
from ml_model_development.code.data_set import DataSet
from ml_model_development.code.data_sources import download, fetch_package, find_data_set, usual_places

REPOSITORY = Path(__file__).resolve().parents[2]
# The packages that shape a trained model, or the graph written from it.
PACKAGES = ("keras", "tensorflow", "torch", "jax", "numpy", "onnx", "onnxruntime", "openvino", "tf2onnx")
_STDERR = 2

DATA_OPTION = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="FASHION_MNIST_DIR",
    show_envvar=True,
    help="Folder with the four Fashion-MNIST files. [default: looked for, else downloaded]",
)


def load_data_set(named: Path | None) -> DataSet:
    """Find Fashion-MNIST: the folder named, else where it usually lies, else from the system's packages or its authors.

    Raises: DataSetUnavailable
    """
    home = Path.home()
    return find_data_set(
        named,
        places=usual_places(REPOSITORY, home),
        cache=home / ".cache" / "fashion-analysis" / "fashion-mnist",
        fetches=(fetch_package, download),
    )


@contextmanager
def new_version_folder(artifacts: Path) -> Iterator[Path]:
    """Make the folder of the next version, one more than the highest number there; gone again if the body fails.

    Raises: SettingsInvalid: it cannot be written
    """
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name) for path in artifacts.iterdir() if path.name.isascii() and path.name.isdigit()]
        folder = artifacts / str(max(taken, default=0) + 1)
        folder.mkdir()
    except OSError as error:
        raise SettingsInvalid(f"{artifacts} cannot be written ({error.strerror}); name another --output.") from error
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def find_artifact(name: str) -> Path:
    """The folder that a path or the number of a version means."""
    path = Path(name)
    return path if path.is_dir() or not name.isdigit() else REPOSITORY / "ml_model_development" / "artifacts" / name


def describe_commit(repository: Path = REPOSITORY) -> str:
    """The revision of the code, with `-dirty` after it where the trainer differs from it; "unknown" outside git."""
    described = _git(repository, "rev-parse", "HEAD")
    if described is None:
        return "unknown"
    changed = _git(repository, "status", "--porcelain", "--", "ml_model_development/code")
    return f"{described}-dirty" if changed else described


def list_packages(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """The installed version of each package; those not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keep what native libraries write to stderr while they are imported to the case that the import fails.

    TensorFlow greets with lines about CUDA and CPU features before its own log level applies.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    shown = os.dup(_STDERR)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(shown, kept.read())
            raise
        finally:
            os.dup2(shown, _STDERR)
            os.close(shown)


def _git(repository: Path, *arguments: str) -> str | None:
    command = ("git", "-C", str(repository), *arguments)
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
