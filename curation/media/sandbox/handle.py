"""How the decoder child reads its video: by a descriptor that its parent opened, for it can open no path itself.

Between `sandbox.py`, which opens the staged file, and `probe.open_media`. The passes go on taking a `Path`; the child's
is `/dev/fd/N`. Every `source` has a position of its own, so a video may be opened several times at once. A film that a
pass makes for itself (`media.animation`) is `held` in memory under such a path.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path

_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)")
_HELD: dict[Path, bytes] = {}


def path_of(descriptor: int) -> Path:
    """The path that stands for an open descriptor."""
    return Path(f"/dev/fd/{descriptor}")


@contextmanager
def held(content: bytes) -> Iterator[Path]:
    """A path that stands for bytes in memory, until the block ends."""
    path = Path(f"/held/{id(content)}")
    _HELD[path] = content
    try:
        yield path
    finally:
        del _HELD[path]


def size_of(path: Path) -> int:
    """How many bytes `path` has."""
    return len(_HELD[path]) if path in _HELD else path.stat().st_size


def source(path: Path) -> str | Reader | BytesIO:
    """What `av.open` takes for `path`: a `Reader` where it stands for a descriptor, what is held, else its name."""
    if path in _HELD:
        return BytesIO(_HELD[path])
    descriptor = _descriptor(path)
    return str(path) if descriptor is None else Reader(descriptor)


@contextmanager
def reading(path: Path) -> Iterator[Reader | BufferedReader | BytesIO]:
    """The file at `path` to read and seek in, from its start."""
    if path in _HELD:
        yield BytesIO(_HELD[path])
        return
    descriptor = _descriptor(path)
    if descriptor is not None:
        yield Reader(descriptor)
        return
    with path.open("rb") as file:
        yield file


def _descriptor(path: Path) -> int | None:
    found = _DESCRIPTOR.fullmatch(str(path))
    return int(found[1]) if found else None


class Reader:
    """A regular file behind a descriptor, which it does not own, as the read-only file object that PyAV wants."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes from the position on; OSError where the disk fails."""
        data = os.pread(self._descriptor, size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as `lseek` does; a place before the start is -EINVAL, which libav reads as such, and no exception."""
        origin = (0, self._at, os.fstat(self._descriptor).st_size)[whence]
        if origin + offset < 0:
            return -errno.EINVAL
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        return self._at
