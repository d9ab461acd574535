"""Between a stage and its decoder child: what it is started as, and messages of a JSON header and raw blobs, no pickle.

The child handles untrusted bytes and could be taken over by them. So the parent reads nothing from it but lengths
within limits, JSON that pydantic validates against frozen dataclasses, and opaque bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")
_LENGTHS = struct.Struct(">IQ")
MAX_HEADER = 16 << 20
MAX_BLOBS = 1 << 30


class WireError(Exception):
    """The other side closed the pipe or sent something that no honest peer sends."""


UNLIKELY = (WireError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError)
"""What reading raises over an answer that no honest peer sends: JSON has Infinity, NaN, and any depth of lists."""


class Sink(Protocol):
    """Where messages are written to. `write` takes all of its bytes."""

    def write(self, data: bytes, /) -> object: ...

    def flush(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What a child is started as, because it can load nothing later: what it decodes, for whom and within what.

    `detector`: the shot detector whose packages it loads. `gpu`: whether it decodes or encodes on one. `max_pixels`:
    the most that OpenCV makes of an image file.
    """

    parent: int
    memory_mb: int
    max_pixels: int
    work: Literal["media", "pictures"] = "media"
    detector: str | None = None
    gpu: bool = False

    def serves(self, wanted: Setup) -> bool:
        """Whether a child of this setup can do what one of `wanted` could, and reaches no more than it."""
        if replace(self, work=wanted.work, detector=wanted.detector) != wanted:
            return False
        return wanted.work == "pictures" or (self.work == "media" and wanted.detector in (None, self.detector))


@dataclass(frozen=True, slots=True)
class Message:
    """`kind` says what `body` holds (see `child.py`); `blobs` are JPEG or MP4 bytes, or pixels."""

    kind: str
    body: Any = None
    blobs: tuple[bytes, ...] = ()

    def read(self, adapter: TypeAdapter[T]) -> T:
        """The body as a dataclass, fully validated."""
        return adapter.validate_python(self.body)


def send(stream: Sink, kind: str, body: Any = None, blobs: Sequence[bytes] = ()) -> None:
    """Write one message and flush it."""
    header = json.dumps({"kind": kind, "body": body, "blobs": [len(b) for b in blobs]}).encode()
    stream.write(_LENGTHS.pack(len(header), sum(map(len, blobs))))
    stream.write(header)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def receive(read: Callable[[int], bytes]) -> Message:
    """Read one message with `read(n)`, which gives exactly n bytes or raises."""
    header_size, blob_size = _LENGTHS.unpack(read(_LENGTHS.size))
    if header_size > MAX_HEADER or blob_size > MAX_BLOBS:
        raise WireError("a message larger than any honest one")
    try:
        header = json.loads(read(header_size))
        sizes = [int(n) for n in header["blobs"]]
        kind, body = str(header["kind"]), header["body"]
    except UNLIKELY as error:
        raise WireError("a message that is not ours") from error
    if min(sizes, default=0) < 0 or sum(sizes) != blob_size:
        raise WireError("blob lengths that do not add up")
    return Message(kind, body, tuple(read(n) for n in sizes))
