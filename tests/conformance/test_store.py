"""What every object store must do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from handoff.contracts.errors import PayloadForbidden, PayloadNotFound, PayloadTooLarge
from handoff.contracts.protocols import Store
from handoff.stores.urls import open_store

MEGABYTE = 1_000_000


def test_what_was_created_is_read_back(store: Store) -> None:
    """Every byte value survives, and the first create says so."""
    data = bytes(range(256)) * 100
    assert store.create(f"{store.root}/requests/1/images.csv", data) is True
    assert store.read(f"{store.root}/requests/1/images.csv", max_bytes=len(data)) == data


def test_the_root_has_no_trailing_slash(store: Store, store_url: str) -> None:
    """URIs are made by putting a slash and a key behind the root."""
    assert not store.root.endswith("/")
    assert open_store(store_url + "/").root == store.root


def test_an_object_is_never_overwritten(store: Store) -> None:
    """A second create says False and changes nothing, whoever asks."""
    uri = f"{store.root}/results/1/predictions.csv"
    store.create(uri, b"first")
    assert store.create(uri, b"second") is False
    assert store.read(uri, max_bytes=100) == b"first"


def test_large_objects_are_not_overwritten_either(store: Store) -> None:
    """Create-only holds at sizes where an SDK would upload in several requests."""
    uri, data = f"{store.root}/large", b"x" * (20 * MEGABYTE)
    assert store.create(uri, data) is True
    assert store.create(uri, b"y" + data) is False
    assert store.read(uri, max_bytes=len(data)) == data


def test_of_racing_creators_one_wins(store: Store) -> None:
    """Sixteen threads create one object: one is told so, and its bytes are the ones that stay."""
    uri, start = f"{store.root}/race", threading.Barrier(16)

    def create(number: int) -> bool:
        start.wait(timeout=30)
        return store.create(uri, b"%02d" % number * 50_000)

    with ThreadPoolExecutor(16) as threads:
        created = list(threads.map(create, range(16)))
    assert created.count(True) == 1
    assert store.read(uri, max_bytes=MEGABYTE) == b"%02d" % created.index(True) * 50_000


def test_two_connections_see_the_same_objects(store: Store, store_url: str) -> None:
    """What one process creates another reads at once."""
    store.create(f"{store.root}/shared", b"here")
    assert open_store(store_url).read(f"{store.root}/shared", max_bytes=4) == b"here"


def test_a_missing_object_is_not_found(store: Store) -> None:
    """Reading what nobody wrote names the address."""
    with pytest.raises(PayloadNotFound, match="requests/none"):
        store.read(f"{store.root}/requests/none", max_bytes=10)


def test_a_part_of_an_objects_address_is_no_object(store: Store) -> None:
    """The folder above an object cannot be read."""
    store.create(f"{store.root}/requests/1/images.csv", b"x")
    with pytest.raises(PayloadNotFound):
        store.read(f"{store.root}/requests/1", max_bytes=10)


def test_an_object_over_the_bound_is_refused(store: Store) -> None:
    """Exactly the bound is read, one byte more is not."""
    store.create(f"{store.root}/bound", b"x" * 1000)
    assert len(store.read(f"{store.root}/bound", max_bytes=1000)) == 1000
    with pytest.raises(PayloadTooLarge):
        store.read(f"{store.root}/bound", max_bytes=999)


def test_an_empty_object_is_an_object(store: Store) -> None:
    """No bytes are not the same as no object."""
    assert store.create(f"{store.root}/empty", b"") is True
    assert store.read(f"{store.root}/empty", max_bytes=0) == b""
    assert store.create(f"{store.root}/empty", b"x") is False


@pytest.mark.parametrize(
    "key", ["a b.csv", "ünï/画像.npy", "a+b&c=d", "~tilde", "a:b@c", "'quoted\"", "...", "x" * 200]
)
def test_odd_names_are_names_like_any_other(store: Store, key: str) -> None:
    """A key comes back from read and list exactly as it was written."""
    uri = f"{store.root}/odd/{key}"
    assert store.create(uri, key.encode()) is True
    assert store.read(uri, max_bytes=1000) == key.encode()
    assert [each.uri for each in store.list(f"{store.root}/odd/")] == [uri]


def test_a_listing_is_complete_and_in_order(store: Store) -> None:
    """Everything that begins with the prefix, by URI, with its size; nothing else."""
    for size, key in enumerate(["b/1", "a/2", "a/10", "a/1", "ab/1", "a-b/1", "Z/1"]):
        store.create(f"{store.root}/{key}", b"x" * size)
    listed = {each.uri.removeprefix(f"{store.root}/"): each.size_bytes for each in store.list(f"{store.root}/a")}
    assert list(listed.items()) == [("a-b/1", 5), ("a/1", 3), ("a/10", 2), ("a/2", 1), ("ab/1", 4)]
    assert [each.uri for each in store.list(f"{store.root}/a/1")] == [f"{store.root}/a/1", f"{store.root}/a/10"]
    assert len(list(store.list(store.root))) == len(list(store.list(f"{store.root}/"))) == 7
    assert list(store.list(f"{store.root}/nothing")) == []


def test_a_deleted_object_is_gone_and_can_be_created_again(store: Store) -> None:
    """Delete frees the name."""
    uri = f"{store.root}/gone"
    store.create(uri, b"first")
    store.delete(uri)
    with pytest.raises(PayloadNotFound):
        store.read(uri, max_bytes=10)
    assert store.create(uri, b"second") is True


def test_deleting_nothing_is_no_error(store: Store) -> None:
    """Clean-up may be repeated."""
    store.delete(f"{store.root}/never/was")


def test_declaring_again_says_nothing(store: Store) -> None:
    """`fashion init` may be repeated."""
    assert store.declare() == []


@pytest.mark.parametrize(
    "outside",
    [
        "file:///etc/passwd", "gs://other-bucket/x", "http://127.0.0.1/x", "{root}x/a", "{root}/../x",
        "{root}/a/../../x", "{root}/%2e%2e/x", "{root}//etc/passwd", "{root}/a\\b", "{root}/a\x00", "{root}/a?b",
        "{root}", "{root}/", "",
    ],
)  # fmt: skip
def test_nothing_outside_the_root_is_touched(store: Store, outside: str) -> None:
    """Read, create, delete and list refuse any address that is, or could be read as, another place."""
    uri = outside.format(root=store.root)
    with pytest.raises(PayloadForbidden):
        store.read(uri, max_bytes=10)
    with pytest.raises(PayloadForbidden):
        store.create(uri, b"x")
    with pytest.raises(PayloadForbidden):
        store.delete(uri)
    if uri.rstrip("/") != store.root:
        with pytest.raises(PayloadForbidden):
            list(store.list(uri))


def test_a_reader_never_sees_a_part_of_an_object(store: Store) -> None:
    """While an object is written, others find it whole or not at all."""
    uri, data = f"{store.root}/whole", b"z" * (8 * MEGABYTE)
    seen: list[int] = []
    written = threading.Event()

    def look() -> None:
        while not written.is_set():
            seen.extend(each.size_bytes for each in store.list(uri))
            try:
                seen.append(len(store.read(uri, max_bytes=len(data))))
            except PayloadNotFound:
                continue

    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(look)
        try:
            store.create(uri, data)
        finally:
            written.set()
        looking.result(timeout=30)
    assert set(seen) <= {len(data)}
    assert store.read(uri, max_bytes=len(data)) == data
