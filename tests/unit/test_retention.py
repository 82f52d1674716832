"""How old requests and results go: the folder's sweep, the worker that does it, `fashion clean`."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fashion import main
from handoff.brokers.embedded import statements
from handoff.brokers.embedded.database import open_connection
from handoff.brokers.urls import open_broker
from handoff.contracts.errors import ExitCode, StoreUnavailable
from handoff.contracts.protocols import Limits, Message, Removed, Store, SweptStore
from handoff.contracts.topology import DAY_S, Topology
from handoff.stores import file, file_sweep
from handoff.stores.file import PARTIAL_FOLDER, SWEEP_LOCK, FileStore, connect
from handoff.stores.file_sweep import SLICE, sweep_lock
from ml_server import store_sweeper
from ml_server.store_sweeper import GRACE_S, StoreSweeper, store_swept

NOW = 1_000_000_000.0
TOPOLOGY = Topology()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a store."""
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> FileStore:
    """The store."""
    return connect(f"file://{root}")


def put(store: FileStore, key: str, *, age_s: float, data: bytes = b"12345", now: float = NOW) -> None:
    """Create an object as if it were so old, its folder with it."""
    assert store.create(f"{store.root}/{key}", data)
    path = Path(store.root.removeprefix("file://"), key)
    os.utime(path, (now - age_s, now - age_s))
    newest = max(each.stat().st_mtime for each in path.parent.iterdir())
    os.utime(path.parent, (newest, newest))


def keys(store: FileStore) -> list[str]:
    """Every object."""
    return [each.uri.removeprefix(f"{store.root}/") for each in store.list(store.root)]


def swept(store: FileStore, *, older_than_s: float = 100.0, dry_run: bool = False) -> tuple[int, int]:
    """Sweep to the end: objects and bytes."""
    parts = list(store.sweep(older_than_s=older_than_s, now=NOW, dry_run=dry_run))
    return sum(part.object_count for part in parts), sum(part.size_bytes for part in parts)


def test_old_requests_and_results_go_with_their_folders(store: FileStore, root: Path) -> None:
    """What is younger stays; so does what is neither a request nor a result."""
    for name, age_s in (("old", 101), ("young", 99)):
        put(store, f"requests/{name}/images.csv", age_s=age_s)
        put(store, f"results/{name}/predictions.csv", age_s=age_s)
        put(store, f"results/{name}/response.json", age_s=age_s - 1)
    put(store, "reports/old/x", age_s=1e6)
    assert swept(store) == (1, 5)
    assert keys(store) == [
        "reports/old/x",
        "requests/young/images.csv",
        "results/old/predictions.csv",
        "results/old/response.json",
        "results/young/predictions.csv",
        "results/young/response.json",
    ]
    assert not (root / "requests" / "old").exists()
    assert swept(store, older_than_s=99.5) == (2, 10)
    assert not (root / "results" / "old").exists()


def test_a_result_goes_as_a_whole(store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its response first: cut short, the sweep leaves predictions without a response, which a worker answers from."""
    put(store, "results/1/predictions.csv", age_s=200)
    put(store, "results/1/response.json", age_s=200)
    real, order = Path.unlink, []

    def unlink(path: Path, **options: bool) -> None:
        order.append(path.name)
        real(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert swept(store) == (2, 10)
    assert order == ["response.json", "predictions.csv"]
    assert not (root / "results" / "1").exists()


def test_a_dry_run_counts_and_removes_nothing(store: FileStore) -> None:
    """The figures are those that the sweep then reports."""
    for number in range(5):
        put(store, f"requests/{number}/images.csv", age_s=200, data=b"x" * number)
    assert swept(store, dry_run=True) == (5, 10)
    assert len(keys(store)) == 5
    assert swept(store) == (5, 10)
    assert keys(store) == []


def test_a_sweep_goes_in_slices(store: FileStore) -> None:
    """So that a million requests are no one long stall."""
    for number in range(2 * SLICE + 1):
        put(store, f"requests/{number}/images.csv", age_s=200)
    sweep = store.sweep(older_than_s=100, now=NOW)
    assert next(sweep).object_count == SLICE
    assert len(keys(store)) == SLICE + 1
    assert [part.object_count for part in sweep] == [SLICE, 1]


def test_odd_things_in_the_folders_do_no_harm(store: FileStore, root: Path, tmp_path: Path) -> None:
    """Objects without a folder, deep ones, empty folders go; links, and what they lead to, stay."""
    put(store, "requests/bare", age_s=200)
    put(store, "requests/deep/a/b/c", age_s=200)
    put(store, "requests/linked/x", age_s=200)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"")
    (root / "requests" / "linked" / "link").symlink_to(tmp_path / "outside")
    (root / "requests" / "link").symlink_to(tmp_path / "outside")
    (root / "results" / "empty").mkdir(parents=True)
    for path in (root / "requests" / "linked", root / "requests" / "deep", root / "results" / "empty"):
        os.utime(path, (NOW - 200, NOW - 200))
    os.utime(root / "requests" / "link", (NOW - 200, NOW - 200), follow_symlinks=False)
    assert swept(store) == (3, 15)
    assert sorted(path.name for path in (root / "requests").iterdir()) == ["link", "linked"]
    assert not (root / "results" / "empty").exists()
    assert (tmp_path / "outside" / "kept").exists()


def test_what_cannot_be_removed_stops_nothing_else(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named in the end."""
    for number in range(5):
        put(store, f"requests/{number}/images.csv", age_s=200)
    real = Path.unlink

    def unlink(path: Path, **options: bool) -> None:
        if path.parent.name == "2":
            raise PermissionError(13, "Permission denied")
        real(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(StoreUnavailable, match="Permission denied"):
        swept(store)
    assert [path.name for path in (root / "requests").iterdir()] == ["2"]


def test_one_process_sweeps_at_a_time(store: FileStore, root: Path) -> None:
    """Another is told so; the lock goes with whoever holds it."""
    put(store, "requests/1/images.csv", age_s=200)
    with sweep_lock(root / PARTIAL_FOLDER / SWEEP_LOCK), pytest.raises(StoreUnavailable, match="Another process"):
        swept(store)
    assert swept(store) == (1, 5)


def test_a_sweep_is_not_repeated_within_its_period(store: FileStore) -> None:
    """All workers of a machine together sweep once a period; a dry run and a clock that jumped back do not count."""

    def sweep(now: float, *, dry_run: bool = False) -> int:
        put(store, "requests/1/images.csv", age_s=1e6)
        parts = list(store.sweep(older_than_s=100, now=now, period_s=3_600, dry_run=dry_run))
        store.delete(f"{store.root}/requests/1/images.csv")
        return sum(part.object_count for part in parts)

    assert sweep(NOW, dry_run=True) == 1
    assert [sweep(NOW), sweep(NOW + 3_599), sweep(NOW + 3_600), sweep(NOW + 10)] == [1, 0, 1, 1]


class Machine:
    """A start of the machine and the time since then, as the sweep is told them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot, self.awake_s = "boot-1", 1_000.0
        monkeypatch.setattr(file_sweep, "boot_id", lambda: self.boot)
        monkeypatch.setattr(file_sweep, "since_boot_s", lambda: self.awake_s)


def test_a_calendar_that_is_put_forward_makes_nothing_old(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers sweep nothing until what was there has been kept for its time again."""
    machine = Machine(monkeypatch)
    put(store, "requests/1/images.csv", age_s=60)
    week_s = 7 * DAY_S

    def sweep(now: float, *, period_s: float = 3_600) -> int:
        parts = list(store.sweep(older_than_s=week_s, now=now, period_s=period_s))
        return sum(part.object_count for part in parts)

    assert sweep(NOW) == 0
    machine.awake_s += 4_000
    jumped = NOW + 4_000 + 10 * DAY_S
    assert sweep(jumped) == 0
    assert "the calendar was put forward by 864000 s: nothing is swept for 604800 s" in caplog.text
    machine.awake_s += week_s - 1
    assert sweep(jumped + week_s - 1) == 0
    machine.awake_s += 2
    put(store, "requests/2/images.csv", age_s=2 * week_s)
    assert sweep(jumped + week_s + 1) == 2


def test_who_asks_for_a_sweep_is_not_kept_from_it(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fashion clean` says what goes."""
    Machine(monkeypatch)
    put(store, "requests/1/images.csv", age_s=60)
    assert list(store.sweep(older_than_s=100, now=NOW, period_s=1)) != []
    assert list(store.sweep(older_than_s=100, now=NOW + DAY_S, period_s=1)) == []
    assert sum(part.object_count for part in store.sweep(older_than_s=100, now=NOW + DAY_S)) == 1


def test_a_calendar_that_is_put_back_again_ends_the_wait(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jump was a mistake: from then on nothing is kept longer than a week from now."""
    Machine(monkeypatch)
    put(store, "requests/1/images.csv", age_s=0)

    def sweep(now: float) -> int:
        return sum(part.object_count for part in store.sweep(older_than_s=100, now=now, period_s=1))

    assert [sweep(NOW), sweep(NOW + 10 * DAY_S), sweep(NOW + 50), sweep(NOW + 151)] == [0, 0, 0, 1]


def test_another_start_of_the_machine_is_no_jump(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been off for so long."""
    machine = Machine(monkeypatch)
    put(store, "requests/1/images.csv", age_s=0)
    assert list(store.sweep(older_than_s=100, now=NOW, period_s=1)) != []
    machine.boot, machine.awake_s = "boot-2", 10.0
    parts = store.sweep(older_than_s=100, now=NOW + 10 * DAY_S, period_s=1)
    assert sum(part.object_count for part in parts) == 1


def test_a_sweep_clears_what_dead_writers_left(store: FileStore, root: Path) -> None:
    """Partial files a day old, wherever the program that declares never runs; the lock is none."""
    put(store, "requests/1/images.csv", age_s=0)
    for name, age_s in (("old", DAY_S + 1), ("fresh", 1.0)):
        (root / PARTIAL_FOLDER / name).write_bytes(b"half")
        os.utime(root / PARTIAL_FOLDER / name, (NOW - age_s, NOW - age_s))
    swept(store)
    assert {path.name for path in (root / PARTIAL_FOLDER).iterdir()} == {"fresh", SWEEP_LOCK}


def test_a_store_that_holds_nothing_is_not_made_by_a_sweep(store: FileStore, root: Path) -> None:
    """There is nothing to do, and nothing to complain of."""
    assert swept(store) == (0, 0)
    assert not root.exists()


def test_an_object_is_created_though_its_folder_is_swept_away(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty folder may go between its making and its first object."""
    real, swept_away = os.link, iter([True, True, False])

    def link(partial: Path, path: Path) -> None:
        if next(swept_away):
            path.parent.rmdir()
        real(partial, path)

    monkeypatch.setattr(file.os, "link", link)
    assert store.create(f"{store.root}/results/1/response.json", b"x") is True
    assert (root / "results" / "1" / "response.json").read_bytes() == b"x"


def old_list(root: Path, beginning: str) -> list[str]:
    """Keys as the store listed them when it sorted every path at once."""
    folder = root / beginning.rpartition("/")[0]
    found = sorted(path.relative_to(root).as_posix() for path in folder.rglob("*") if path.is_file())
    return [key for key in found if key.startswith(beginning) and not key.startswith(PARTIAL_FOLDER)]


def test_a_listing_is_what_it_was_when_all_paths_were_sorted_at_once(store: FileStore, root: Path) -> None:
    """The same keys in the same order, whatever the names, from any prefix; now folder by folder."""
    chosen = random.Random(7)
    names = ["a", "a-b", "a b", "ab", "Z", "ü", "画", "1", "10", "2", "~", "0x", "\U0001f600"]
    for _ in range(300):
        key = "/".join(chosen.choices(names, k=chosen.randint(1, 4)))
        path = root / key
        if not path.exists() and not any(above.is_file() for above in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    every = old_list(root, "")
    assert keys(store) == every == sorted(every, key=str.encode)
    assert len(every) > 50
    for prefix in ["a", "a/", "a/a", "a-", "ü/画", "none", "none/x", f"{every[0]}", f"{every[0]}/x"]:
        listed = [each.uri.removeprefix(f"{store.root}/") for each in store.list(f"{store.root}/{prefix}")]
        assert listed == old_list(root, prefix)


class Recording:
    """A store that is swept, in three slices."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.asked: list[dict[str, float]] = []
        self.yielded = 0
        self._failure = failure

    def sweep(self, **asked: float) -> Iterator[Removed]:
        """Remember what was asked for."""
        self.asked.append(asked)
        for _ in range(3):
            self.yielded += 1
            yield Removed(object_count=1, size_bytes=2)
        if self._failure:
            raise self._failure


@pytest.fixture
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices follow each other at once."""
    monkeypatch.setattr(store_sweeper, "PAUSE_S", 0.0)


@pytest.mark.usefixtures("_no_pause")
def test_a_worker_sweeps_its_store(caplog: pytest.LogCaptureFixture) -> None:
    """At the age it was told, at most once a period; the log says what went."""
    caplog.set_level("INFO")
    store = Recording()
    StoreSweeper(store, older_than_s=500.0).sweep(now=NOW)  # type: ignore[arg-type]
    assert store.asked == [{"older_than_s": 500.0, "now": NOW, "period_s": store_sweeper.PERIOD_S}]
    assert "swept objects=3 bytes=6" in caplog.text


@pytest.mark.usefixtures("_no_pause")
def test_a_sweep_that_fails_is_no_more_than_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """The worker serves on."""
    StoreSweeper(Recording(StoreUnavailable("no")), older_than_s=1.0).sweep(now=NOW)  # type: ignore[arg-type]
    assert "the store was not swept: no" in caplog.text


def test_a_draining_worker_does_not_finish_its_sweep() -> None:
    """It ends after the slice under way."""
    store = Recording()
    sweeper = StoreSweeper(store, older_than_s=1.0)  # type: ignore[arg-type]
    sweeper.start()
    sweeper.stop()
    sweeper.sweep(now=NOW)
    assert store.yielded == 1


def test_a_worker_sweeps_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again while it serves, an hour after the messages' retention; never where objects stay for ever."""
    monkeypatch.setattr(store_sweeper, "FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(store_sweeper, "PERIOD_S", 0.001)
    monkeypatch.setattr(store_sweeper, "PAUSE_S", 0.0)
    store, kept = Recording(), Recording()
    with store_swept(store, retention_s=100.0), store_swept(kept, retention_s=0.0):  # type: ignore[arg-type]
        deadline = time.monotonic() + 30
        while len(store.asked) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert store.asked[0]["older_than_s"] == 100.0 + GRACE_S
    assert kept.asked == []


def test_a_store_that_sees_to_it_is_not_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket has its rule."""

    class Bucket:
        root = "gs://bucket"

    bucket: Store = Bucket()  # type: ignore[assignment]
    monkeypatch.setattr(store_sweeper, "StoreSweeper", None)
    with store_swept(bucket, retention_s=100.0):
        assert not isinstance(bucket, SweptStore)


def run(*arguments: str) -> Result:
    """Run the command as a shell does."""
    return CliRunner().invoke(main, ["clean", *arguments], prog_name="fashion")


def figures(result: Result) -> dict[str, object]:
    """The JSON object on the last line."""
    assert result.exit_code == ExitCode.OK, result.output
    found: dict[str, object] = json.loads(result.output.splitlines()[-1])
    return found


def publish_request(folder: Path, *, age_s: float) -> None:
    """A message that has waited so long."""
    url = f"embedded://{folder}/queue.db"
    with closing(open_broker(url, TOPOLOGY)):
        pass
    with closing(open_connection(folder / "queue.db", flush=False)) as connection:
        published_at = time.time() - age_s
        statements.publish(connection, TOPOLOGY.requests_topic, Message(body=b"x"), now=published_at, date=published_at)


def test_clean_removes_what_is_over_its_retention_and_says_so(folder: Path) -> None:
    """Messages and objects, by the settings; a dry run only says it."""
    store = connect(f"file://{folder}/store")
    for name, age_s in (("old", 8 * DAY_S), ("young", 6 * DAY_S)):
        put(store, f"requests/{name}/images.csv", age_s=age_s, now=time.time())
        publish_request(folder, age_s=age_s)
    dry = run("--dry-run", "--json")
    assert f"Would remove 1 deliveries over their retention from embedded://{folder}/queue.db." in dry.output
    assert f"Would remove 1 objects (0.0 MB) from file://{folder}/store." in dry.output
    expected = {"messages": 1, "objects": 1, "bytes": 5, "older_than_s": 7 * DAY_S}
    assert figures(dry) == {**expected, "dry_run": True}
    assert figures(run("--json")) == {**expected, "dry_run": False}
    assert figures(run("--json")) == {**expected, "messages": 0, "objects": 0, "bytes": 0, "dry_run": False}
    assert keys(store) == ["requests/young/images.csv"]


def test_clean_to_a_lower_age_needs_a_queue_without_such_messages(folder: Path) -> None:
    """A waiting message may still need its objects, or be classified again without them."""
    store = connect(f"file://{folder}/store")
    put(store, "results/1/response.json", age_s=3 * DAY_S, now=time.time())
    publish_request(folder, age_s=2.5 * DAY_S)
    refused = run("--older-than", "2d")
    assert refused.exit_code == ExitCode.SETTINGS_INVALID
    assert "A message of read-analysis-requests is 216,000 s old and may need objects of that age" in refused.output
    assert keys(store) == ["results/1/response.json"]
    with closing(open_broker(f"embedded://{folder}/queue.db", TOPOLOGY)) as broker:
        next(iter(broker.subscribe(TOPOLOGY.requests, Limits()))).ack()
    assert figures(run("--older-than", "48h", "--json"))["objects"] == 1
    assert keys(store) == []


def test_clean_keeps_objects_for_ever_where_the_settings_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless an age is named."""
    monkeypatch.setenv("FASHION_STORE_RETENTION_S", "0")
    store = connect(f"file://{folder}/store")
    put(store, "requests/1/images.csv", age_s=1e8, now=time.time())
    result = run("--json")
    assert "Objects are kept for ever (store_retention_s is 0)" in result.output
    assert figures(result)["objects"] == 0
    assert figures(run("--older-than", "10d", "--json"))["objects"] == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("age", ["2", "d", "-1d", "2 days", "1w", ""])
def test_clean_refuses_what_is_no_age(age: str) -> None:
    """The sentence shows how to write one."""
    result = run("--older-than", age)
    assert result.exit_code == ExitCode.USAGE
    assert "is no age; write it as 2d, 36h, 90m or 30s" in result.output
