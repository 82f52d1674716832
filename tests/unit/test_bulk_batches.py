"""Images as batches that are the same whenever a job is read again."""

from __future__ import annotations

import numpy as np
import pytest

from fashion_client.bulk_batches import Origin, Place, Run, join_runs
from fashion_client.image_blocks import Block
from handoff.contracts.errors import DataSetUnavailable

IMAGES = np.arange(10 * 2 * 2, dtype=np.uint8).reshape(10, 2, 2)


def runs_of(*blocks: Block) -> list[Run]:
    """Blocks as the runs of files of their own."""
    return [
        Run(Origin(f"f{number}", Place(number, 0), len(block), block.image_ids), block.pixels)
        for number, block in enumerate(blocks)
    ]


@pytest.mark.parametrize("start", [0, 2, 5])
def test_batches_are_the_same_wherever_reading_begins(start: int) -> None:
    """Of full size but for the last, over the ends of files, each with the place after it."""
    runs = runs_of(
        *(Block(images[..., None], [f"i{n}" for n in range(len(images))]) for images in (IMAGES, IMAGES[:3]))
    )
    whole = list(join_runs(runs, size=2, number=0))
    assert [len(batch.images) for batch in whole] == [2] * 6 + [1]
    assert [(origin.file, origin.count) for origin in whole[5].origins] == [("f1", 2)]
    _, rest = runs[0].cut(2 * start)
    again = list(join_runs([rest, runs[1]], size=2, number=start))
    assert [batch.number for batch in again] == list(range(start, 7))
    for one, other in zip(whole[start:], again, strict=True):
        assert (one.origins, one.end) == (other.origins, other.end)
        assert np.array_equal(one.images, other.images)


def test_batches_are_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large images make smaller batches; one always goes."""
    runs = runs_of(Block(IMAGES[..., None]))
    for most, sizes in ((8, [2] * 5), (1, [1] * 10)):
        monkeypatch.setattr("fashion_client.bulk_batches.MAX_PIXEL_BYTES", most)
        assert [len(batch.images) for batch in join_runs(runs, size=1000, number=0)] == sizes


def test_images_of_two_sizes_are_refused_by_name() -> None:
    """With what makes them alike."""
    runs = runs_of(Block(IMAGES[..., None]), Block(np.zeros((1, 3, 2, 1), np.uint8), ["b.png"]))
    with pytest.raises(DataSetUnavailable, match=r"The image b.png of f1 is 3x2x1, 0 of f0 is 2x2x1.*--size HxW"):
        list(join_runs(runs, size=4, number=0))
