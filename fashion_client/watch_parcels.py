"""Images that appear together, on their way to one request: of one shape and one label, so that none spoils another's.

A worker refuses a batch whose images have another shape than its model's, or whose label the model does not know, as a
whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from fashion_client.bulk_batches import MAX_PIXEL_BYTES
from fashion_client.watch_pictures import Picture

# Of all kinds together; above it the oldest go out before their time.
MAX_OPEN_BYTES = 4 * MAX_PIXEL_BYTES

Kind = tuple[tuple[int, ...], str]


class Parcel:
    """Pictures of one kind."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.pictures: list[Picture] = []
        self.size_bytes = 0


class Parcels:
    """Open parcels: one goes out when it is full, or `linger_s` after its first picture."""

    def __init__(self, *, batch_size: int, linger_s: float) -> None:
        self._batch_size = batch_size
        self._linger_s = linger_s
        # In the order in which they were opened, which is the one in which they are due.
        self._open: dict[Kind, Parcel] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, picture: Picture, *, now: float) -> Iterator[list[Picture]]:
        """Put a picture to its like; the parcels that are full."""
        kind = picture.pixels.shape, picture.file.label
        parcel = self._open.get(kind)
        if parcel is not None and parcel.size_bytes + picture.pixels.nbytes > MAX_PIXEL_BYTES:
            yield self._close(kind)
        parcel = self._open.setdefault(kind, Parcel(now))
        parcel.pictures.append(picture)
        parcel.size_bytes += picture.pixels.nbytes
        self._size_bytes += picture.pixels.nbytes
        if len(parcel.pictures) >= self._batch_size:
            yield self._close(kind)
        while self._size_bytes > MAX_OPEN_BYTES:
            yield self._close(next(iter(self._open)))

    def take_due(self, *, now: float) -> list[Picture] | None:
        """Take the oldest parcel where its time has come."""
        due_at = self.due_at
        return self._close(next(iter(self._open))) if due_at is not None and due_at <= now else None

    @property
    def due_at(self) -> float | None:
        """When the oldest parcel goes out; None where there is none."""
        oldest = next(iter(self._open.values()), None)
        return None if oldest is None else oldest.since_s + self._linger_s

    def _close(self, kind: Kind) -> list[Picture]:
        parcel = self._open.pop(kind)
        self._size_bytes -= parcel.size_bytes
        return parcel.pictures
