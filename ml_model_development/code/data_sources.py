"""Where Fashion-MNIST can come from, nearest first."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import decompress_idx
from handoff.progress import Progress
from ml_model_development.code.data_set import DIGESTS, DataSet, find_file, read_data_set, verify

PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# As given in the README of the data set's authors.
DOWNLOAD_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_APT_TIMEOUT_S = 180
_SOCKET_TIMEOUT_S = 20
_CHUNK_BYTES = 1 << 16
# The largest of the four files has 26 MB; more than this is another file.
_MAX_DOWNLOAD_BYTES = 64 << 20

Fetch = Callable[[Path], None]
"""Puts the four files into a folder, or raises DataSetUnavailable."""


def find_data_set(
    named: Path | None,
    *,
    places: Sequence[Path],
    cache: Path,
    fetches: Sequence[Fetch],
    digests: Mapping[str, str] = DIGESTS,
) -> DataSet:
    """Read the data set from the folder named, else the first place that holds it, else fetch it into `cache`.

    Raises: DataSetUnavailable: the folder named does not hold it, a file found is not the published one, or it is
        nowhere and cannot be fetched
    """
    if named is not None:
        return read_data_set(named, digests=digests)
    for place in (*places, cache):
        if holds_data_set(place, digests):
            return read_data_set(place, digests=digests)
    failures = []
    for fetch in fetches:
        try:
            fetch(cache)
            return read_data_set(cache, digests=digests)
        except DataSetUnavailable as error:
            failures.append(str(error))
    raise DataSetUnavailable(
        "Fashion-MNIST is not here and cannot be fetched; pass its folder with --data or FASHION_MNIST_DIR"
        f" (looked in {', '.join(map(str, places))}). {' '.join(failures)}"
    )


def usual_places(repository: Path, home: Path) -> list[Path]:
    """Where it lies on machines that have it: a checkout beside the repository, Keras' cache, the system's package."""
    checkout = repository.parent / "fashion-mnist"
    return [checkout, checkout / "data" / "fashion", home / ".keras" / "datasets" / "fashion-mnist", PACKAGE_FOLDER]


def holds_data_set(folder: Path, digests: Mapping[str, str] = DIGESTS) -> bool:
    """Whether a folder has a file of each name; says nothing of their contents."""
    return all(find_file(folder, name) for name in digests)


def fetch_package(cache: Path) -> None:
    """Fetch the operating system's package and unpack its four files; installs nothing, needs no privileges.

    Raises: DataSetUnavailable: no apt here, or it does not deliver
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataSetUnavailable(f"The package {PACKAGE} needs apt-get and dpkg-deb, which are not here.")
    with tempfile.TemporaryDirectory() as folder:
        _run("apt-get", "download", PACKAGE, folder=folder)
        for package in Path(folder).glob(f"{PACKAGE}_*.deb"):
            _run("dpkg-deb", "-x", str(package), folder, folder=folder)
        _keep(Path(folder) / PACKAGE_FOLDER.relative_to("/"), cache)


def download(cache: Path, *, url: str = DOWNLOAD_URL, digests: Mapping[str, str] = DIGESTS) -> None:
    """Download the four files from the authors' server, verify each, and keep them.

    Raises: DataSetUnavailable: the server does not answer, or sends another file
    """
    cache.mkdir(parents=True, exist_ok=True)
    for name, digest in digests.items():
        address = f"{url}/{name}.gz"
        raw = _download_file(address)
        verify(decompress_idx(raw, name=address), digest, name=address)
        partial = cache / f"{name}.gz.partial"
        partial.write_bytes(raw)
        partial.replace(cache / f"{name}.gz")


def _run(*command: str, folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_APT_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise DataSetUnavailable(f"{' '.join(command[:2])} did not end within {_APT_TIMEOUT_S} s.") from error
    except (subprocess.CalledProcessError, OSError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise DataSetUnavailable(
            f"{' '.join(command[:2])} failed: {said[-1] if said else 'no reason given'}."
        ) from error


def _keep(folder: Path, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    for name in DIGESTS:
        path = find_file(folder, name)
        if path is None:
            raise DataSetUnavailable(f"The package {PACKAGE} holds no {name}.")
        shutil.copyfile(path, cache / path.name)


def _download_file(address: str) -> bytes:
    try:
        # A fixed http address.
        with urllib.request.urlopen(address, timeout=_SOCKET_TIMEOUT_S) as response:  # noqa: S310 # nosec B310
            return _read_all(response, address, int(response.headers.get("Content-Length") or 0))
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataSetUnavailable(f"{address} did not answer ({reason}); check the network connection.") from error


def _read_all(response: BinaryIO, address: str, size_bytes: int) -> bytes:
    content = bytearray()
    with Progress(address.rsplit("/", 1)[-1], total=size_bytes or None, unit="bytes") as progress:
        while chunk := response.read(_CHUNK_BYTES):
            content += chunk
            progress.advance(len(chunk))
            if len(content) > _MAX_DOWNLOAD_BYTES:
                raise DataSetUnavailable(
                    f"{address} sends more than {_MAX_DOWNLOAD_BYTES} bytes: not the file expected."
                )
    return bytes(content)
