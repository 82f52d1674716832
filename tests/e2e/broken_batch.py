"""A request whose batch the store has but cannot read, until it is mended: an outage for one object alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.batches import Batch


class BrokenBatch:
    """Published, with a node in its batch's place that the file system has but cannot open."""

    def __init__(self, client: Client, images: Images, *, request_id: str) -> None:
        batch = Batch(images, [str(position) for position in range(len(images))])
        self._client = client
        self._prepared = client.prepare(batch, request_id=request_id)
        self._path = Path(urlsplit(self._prepared.request.batch_uri).path)
        self._path.parent.mkdir(parents=True)
        os.mknod(self._path, stat.S_IFSOCK | 0o600)
        self.submission = client.publish(self._prepared.request)

    def mend(self) -> None:
        """Put the batch in its place."""
        self._path.unlink()
        self._client.upload(self._prepared)
