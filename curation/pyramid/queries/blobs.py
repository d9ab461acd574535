"""The bytes of one clip, read where they lie: for whoever wants a part of them, as a browser that seeks does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.contract import BLOB_FIELD
from curation.pyramid.storage.lookup import firsts
from curation.pyramid.store import Pyramid

if TYPE_CHECKING:
    import lance


@dataclass(frozen=True, slots=True)
class Blob:
    """An open file: `size` in bytes, and the SHA-256 of all of it as it was stored."""

    file: lance.BlobFile
    size: int
    sha256: str

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`."""
        self.file.seek(start)
        return self.file.read(max(0, min(stop, self.size) - start))


@contextmanager
def opened(pyramid: Pyramid, clip_id: str) -> Iterator[Blob | None]:
    """The bytes of a clip; None where it is not cut, or not there."""
    dataset = pyramid.dataset("media")
    rows = firsts(dataset, [clip_id], "sha256")
    if not rows:
        yield None
        return
    (file,) = dataset.take_blobs(BLOB_FIELD, addresses=[rows[0]["_rowaddr"]])
    assert file is not None, rows[0]
    with file:
        yield Blob(file, file.size(), rows[0]["sha256"])
