"""Reading IDX strictly, and finding the data set in the stated order."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import decode_idx, encode_idx
from ml_model_development.code import data_sources, make_sample
from ml_model_development.code.data_set import DIGESTS, read_data_set
from ml_model_development.code.data_sources import download, fetch_package, find_data_set, usual_places

SPLITS = {"train": 30, "t10k": 10}
HEADER = b"\x00\x00\x08\x01\x00\x00\x00\x03"


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """Made-up files of the four names, gzip-compressed."""
    generator = np.random.default_rng(0)
    made = {}
    for prefix, count in SPLITS.items():
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        made |= {f"{prefix}-images-idx3-ubyte": encode_idx(images), f"{prefix}-labels-idx1-ubyte": encode_idx(labels)}
    return made


@pytest.fixture(scope="module")
def digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    """The digests of the made-up files, decompressed."""
    return {name: hashlib.sha256(gzip.decompress(raw)).hexdigest() for name, raw in contents.items()}


@pytest.fixture
def fill(contents: Mapping[str, bytes]) -> Callable[[Path], Path]:
    """Puts the made-up files into a folder."""

    def fill_folder(folder: Path) -> Path:
        folder.mkdir(parents=True)
        for name, raw in contents.items():
            (folder / f"{name}.gz").write_bytes(raw)
        return folder

    return fill_folder


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=6)))
def test_idx_survives_a_round_trip(array: NDArray[np.uint8]) -> None:
    """What is written is what is read, compressed or not, and equal arrays give equal bytes."""
    raw = encode_idx(array)
    assert raw == encode_idx(array.copy())
    for form in (raw, gzip.decompress(raw)):
        read = decode_idx(form, name="x")
        assert read.shape == array.shape
        assert (read == array).all()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "too short"),
        (b"\x00\x00\x08", "too short"),
        (b"\x00\x01\x08\x01" + HEADER[4:] + b"abc", "does not begin like"),
        (b"\x00\x00\x0d\x01" + HEADER[4:] + b"abc", "does not begin like"),
        (b"\x00\x00\x08\x00", "does not begin like"),
        (b"\x00\x00\x08\x05" + b"\x00\x00\x00\x01" * 5 + b"a", "does not begin like"),
        (HEADER[:6], "within its IDX header"),
        (HEADER + b"ab", "announces 3 bytes"),
        (HEADER + b"abcd", "announces 3 bytes"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12 + b"abc", "but holds 3"),
        (b"\x00\x00\x08\x04" + b"\x00" * 4 + b"\xff" * 12, "announces 0 bytes"),
        (gzip.compress(HEADER + b"abc", mtime=0)[:-4], "cut off"),
        (gzip.compress(HEADER + b"abc", mtime=0) + b"more", "followed by other bytes"),
        (b"\x1f\x8bnonsense", "no readable gzip"),
    ],
)
def test_a_broken_idx_file_is_refused_by_name(raw: bytes, said: str) -> None:
    """Every way of being no IDX file is refused in a sentence that names the file."""
    with pytest.raises(DataSetUnavailable, match=said) as refusal:
        decode_idx(raw, name="images.gz")
    assert "images.gz" in str(refusal.value)


def test_an_idx_file_over_the_limit_is_refused() -> None:
    """A gzip file that unpacks to more than allowed is given up early, a plain one at once."""
    for raw in (gzip.compress(HEADER + b"abc" + bytes(10_000)), HEADER + bytes(2_000)):
        with pytest.raises(DataSetUnavailable, match="more than 1000 bytes"):
            decode_idx(raw, name="x", max_bytes=1_000)


def test_a_folder_is_read_and_verified(fill: Callable[[Path], Path], digests: dict[str, str], tmp_path: Path) -> None:
    """Images come with a channel axis, compressed files mix with plain ones."""
    folder = fill(tmp_path / "here")
    packed = folder / "t10k-labels-idx1-ubyte.gz"
    (folder / "t10k-labels-idx1-ubyte").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    data_set = read_data_set(folder, digests=digests)
    assert data_set.train.images.shape == (30, 28, 28, 1)
    assert data_set.test.labels.shape == (10,)
    assert data_set.source == str(folder)


def test_files_of_another_origin_are_refused(fill: Callable[[Path], Path], tmp_path: Path) -> None:
    """Well-formed files that are not the published ones are refused by their digest."""
    with pytest.raises(DataSetUnavailable, match=r"train-images-idx3-ubyte\.gz is not Fashion-MNIST's file"):
        read_data_set(fill(tmp_path / "other"))


def test_a_missing_file_is_named(fill: Callable[[Path], Path], digests: dict[str, str], tmp_path: Path) -> None:
    """A folder named by the user that lacks a file is an error, not a reason to look elsewhere."""
    folder, elsewhere = fill(tmp_path / "here"), fill(tmp_path / "there")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataSetUnavailable, match="t10k-images-idx3-ubyte"):
        find_data_set(folder, places=[elsewhere], cache=tmp_path / "cache", fetches=[], digests=digests)


def test_the_nearest_place_wins(fill: Callable[[Path], Path], digests: dict[str, str], tmp_path: Path) -> None:
    """Folder named, places in their order, cache, and only then the fetches in theirs."""
    cache = tmp_path / "cache"
    fetched: list[str] = []

    def fail(_folder: Path) -> None:
        fetched.append("first")
        raise DataSetUnavailable("no network")

    def deliver(folder: Path) -> None:
        fetched.append("second")
        fill(folder)

    def find(named: Path | None = None) -> str:
        places = [tmp_path / "a", tmp_path / "b"]
        return find_data_set(named, places=places, cache=cache, fetches=[fail, deliver], digests=digests).source

    assert find() == str(cache)
    assert find() == str(cache)
    assert fetched == ["first", "second"]
    for name in ("b", "a"):
        fill(tmp_path / name)
        assert find() == str(tmp_path / name)
    assert find(fill(tmp_path / "named")) == str(tmp_path / "named")


def test_the_usual_places_stand_in_the_stated_order(tmp_path: Path) -> None:
    """Checkout beside the repository, its data folder, Keras' cache, the system's package."""
    places = [str(place) for place in usual_places(tmp_path / "repository", tmp_path / "home")]
    assert places == [
        str(tmp_path / "fashion-mnist"),
        str(tmp_path / "fashion-mnist" / "data" / "fashion"),
        str(tmp_path / "home" / ".keras" / "datasets" / "fashion-mnist"),
        "/usr/share/datasets/fashion-mnist",
    ]


def test_nowhere_to_be_found_says_what_to_do(tmp_path: Path) -> None:
    """The last refusal names the option and every reason."""

    def fail(_folder: Path) -> None:
        raise DataSetUnavailable("the server is away")

    with pytest.raises(DataSetUnavailable, match=r"--data or FASHION_MNIST_DIR.*the server is away"):
        find_data_set(None, places=[tmp_path], cache=tmp_path / "cache", fetches=[fail])


def test_a_download_is_verified_and_kept(fill: Callable[[Path], Path], digests: dict[str, str], tmp_path: Path) -> None:
    """Files from the server are kept once their digests hold, and refused otherwise."""
    url = fill(tmp_path / "server").as_uri()
    download(tmp_path / "cache", url=url, digests=digests)
    assert read_data_set(tmp_path / "cache", digests=digests).source == str(tmp_path / "cache")
    with pytest.raises(DataSetUnavailable, match="digest differs"):
        download(tmp_path / "refused", url=url)
    assert list((tmp_path / "refused").iterdir()) == []


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """Without the file the sentence names the address and what to check."""
    with pytest.raises(DataSetUnavailable, match=r"train-images-idx3-ubyte\.gz did not answer"):
        download(tmp_path / "cache", url=(tmp_path / "nothing").as_uri())


def test_the_systems_package_needs_its_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no apt the sentence says so, and nothing is written."""
    monkeypatch.setattr(data_sources.shutil, "which", lambda _name: None)
    with pytest.raises(DataSetUnavailable, match="apt-get and dpkg-deb"):
        fetch_package(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_systems_package_is_unpacked_into_the_cache(
    contents: Mapping[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is fetched, unpacked and its four files are kept."""
    monkeypatch.setattr(data_sources.shutil, "which", lambda name: name)

    def run(command: tuple[str, ...], *, cwd: str, **_options: object) -> None:
        if command[0] == "apt-get":
            (Path(cwd) / f"{command[-1]}_1_all.deb").touch()
            return
        folder = Path(command[-1]) / "usr/share/datasets/fashion-mnist"
        folder.mkdir(parents=True)
        for name, raw in contents.items():
            (folder / f"{name}.gz").write_bytes(raw)

    monkeypatch.setattr(data_sources.subprocess, "run", run)
    fetch_package(tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(f"{name}.gz" for name in DIGESTS)


def test_a_package_that_cannot_be_fetched_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of what apt said is the reason given."""
    monkeypatch.setattr(data_sources.shutil, "which", lambda name: name)

    def run(command: tuple[str, ...], **_options: object) -> None:
        raise subprocess.CalledProcessError(100, command, stderr="noise\nE: Unable to locate package\n")

    monkeypatch.setattr(data_sources.subprocess, "run", run)
    with pytest.raises(DataSetUnavailable, match="apt-get download failed: E: Unable to locate package"):
        fetch_package(tmp_path / "cache")


def test_the_shipped_sample_is_whole() -> None:
    """1,000 images with their labels, each label about as often, and the licence beside them."""
    sample = Path(__file__).parents[2] / "fashion_client" / "sample"
    images = decode_idx((sample / "images.idx3-ubyte.gz").read_bytes(), name="images")
    labels = decode_idx((sample / "labels.idx1-ubyte.gz").read_bytes(), name="labels")
    assert images.shape == (1_000, 28, 28)
    assert np.bincount(labels, minlength=10).min() > 80
    assert "Zalando SE" in (sample / "LICENSE-fashion-mnist").read_text()


def test_the_sample_is_the_beginning_of_the_test_split(
    fill: Callable[[Path], Path], digests: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample is cut from the test images, and its labels stay unsigned bytes."""
    data_set = read_data_set(fill(tmp_path / "here"), digests=digests)
    monkeypatch.setattr(make_sample, "load_data_set", lambda _named: data_set)
    monkeypatch.setattr(make_sample, "SAMPLE_COUNT", 4)
    ended = CliRunner().invoke(make_sample.command, ["--output", str(tmp_path / "sample")])
    assert ended.exit_code == 0
    images = decode_idx((tmp_path / "sample" / "images.idx3-ubyte.gz").read_bytes(), name="images")
    labels = decode_idx((tmp_path / "sample" / "labels.idx1-ubyte.gz").read_bytes(), name="labels")
    assert (images == data_set.test.images[:4, ..., 0]).all()
    assert (labels == data_set.test.labels[:4]).all()
