"""The ways to install the project agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def _declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = list(project["project"]["dependencies"])
    listed += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    listed += [line for group in project["dependency-groups"].values() for line in group]
    return {line.partition(";")[0].lower() for line in listed}  # conda solves for one platform at a time


def _conda() -> tuple[set[str], set[str]]:
    listed = yaml.safe_load((ROOT / "conda_env.yaml").read_text())["dependencies"]
    from_conda = {line for line in listed if isinstance(line, str)}
    from_pip = {line for entry in listed if isinstance(entry, dict) for line in entry["pip"]}
    return from_conda, {line.partition(";")[0] for line in from_pip}


def test_conda_names_the_same_direct_dependencies() -> None:
    """What pip installs, conda installs too, with the same bounds."""
    from_conda, from_pip = _conda()
    python_and_pip = {line for line in from_conda if re.fullmatch(r"python>=.*|pip", line)}
    # conda-forge spells some names as they are imported, and has its own prefix for bindings of C libraries
    as_pip_has_them = {line.replace("_", "-").removeprefix("python-") for line in from_conda - python_and_pip}
    assert as_pip_has_them | from_pip == _declared()


def test_conda_understands_every_line() -> None:
    """Each line is a valid conda match specification."""
    rattler = pytest.importorskip("rattler")
    for line in _conda()[0]:
        assert rattler.MatchSpec(line, strict=True).name is not None


@pytest.mark.parametrize("lock", ["run.lock", "dev.lock", "build.lock", "worker.lock", "client.lock", "kserve.lock"])
def test_locks_pin_hashes_and_name_no_index(lock: str) -> None:
    """A lock file pins every package by hash and leaves the index to whoever installs."""
    text = (ROOT / "requirements" / lock).read_text()
    assert not re.search(r"https?://|--index|--find-links", text)
    requirements = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", text).strip())
    assert requirements
    assert all("==" in requirement and "--hash=sha256:" in requirement for requirement in requirements)


def _pinned(lock: str) -> set[str]:
    return set(re.findall(r"(?m)^(\S+==\S+)", (ROOT / "requirements" / lock).read_text()))


def test_the_run_lock_is_part_of_the_dev_lock() -> None:
    """Tests run against the versions that are served."""
    assert _pinned("run.lock") <= _pinned("dev.lock")


def test_the_images_have_the_versions_of_the_run_lock() -> None:
    """Worker, client and what builds them, each with its part of it and together all of it."""
    parts = [_pinned(lock) for lock in ("build.lock", "worker.lock", "client.lock")]
    assert set().union(*parts) == _pinned("run.lock")


def test_a_worker_and_a_client_install_no_trainer() -> None:
    """What runs in production never brings TensorFlow, Keras or Matplotlib, nor one image what the other needs."""
    names = {
        lock: {pin.partition("==")[0] for pin in _pinned(lock)} for lock in ("run.lock", "worker.lock", "client.lock")
    }
    assert not names["run.lock"] & {"tensorflow", "keras", "matplotlib", "tf2onnx", "onnx"}
    assert not names["worker.lock"] & {"pandas", "pillow", "tqdm"}
    assert not names["client.lock"] & {"onnxruntime", "openvino"}


def test_every_package_of_the_checkout_is_installed() -> None:
    """A folder with modules that pyproject.toml forgot would be missing from an installation."""
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    top = ("classifiers", "fashion_client", "handoff", "ml_model_development", "ml_server")
    found = {
        init.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for package in top
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert found == named
