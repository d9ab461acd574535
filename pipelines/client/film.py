"""A clip's film from a service, by ranges of bytes: a lost connection goes on where it broke, a later call where the
one before was stopped. What has come is compared with the SHA-256 that the pyramid holds.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import UserError
from pipelines.client.errors import ServiceError
from pipelines.client.transport import LOST, Transport

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_ETAG = re.compile(r'"([0-9a-f]{64})"')
_AS_IT_IS = {"Accept-Encoding": "identity"}
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Film:
    """The bytes of a clip at a service: how many there are, and what they hash to."""

    transport: Transport
    path: str
    size: int
    sha256: str

    @classmethod
    def at(cls, transport: Transport, path: str) -> Film:
        """What the service says of it. ServiceError: the clip is not there, or has no film."""

        def asked() -> Film:
            with transport.streamed(path, {"Range": "bytes=0-0", **_AS_IT_IS}) as answer:
                size, sha256 = _told(answer.headers, 0)
            return cls(transport, path, size, sha256)

        return transport.again(asked)

    def whole(self) -> bytes:
        """All bytes, in memory."""
        content = b"".join(self._pieces(0))
        self._check(hashlib.sha256(content).hexdigest())
        return content

    def save(self, to: Path) -> None:
        """Write them to a file, which has its name when it is whole. What has come of it lies beside it meanwhile, and
        the next call goes on with that.
        """
        part = to.with_name(f".{to.name}.{self.sha256[:16]}.part")
        try:
            digest = self._continued(part)
            if digest != self.sha256:
                part.unlink()
            self._check(digest)
            os.replace(part, to)
        except OSError as error:
            raise UserError(f"cannot write {to} ({error.strerror or error})", "name another place") from error

    def _continued(self, part: Path) -> str:
        """Write what `part` lacks; the SHA-256 of all of it."""
        digest = hashlib.sha256()
        with part.open("a+b") as file:
            file.seek(0)
            while some := file.read(_READ):
                digest.update(some)
            if file.tell() > self.size:  # it is none of ours
                file.truncate(0)
                digest = hashlib.sha256()
            for piece in self._pieces(file.seek(0, os.SEEK_END)):
                file.write(piece)
                digest.update(piece)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    def _pieces(self, start: int) -> Iterator[bytes]:
        """The bytes from `start` on. Tries that bring nothing are counted; one that brings some begins anew."""
        at, tried = start, 0
        while at < self.size:
            try:
                with self.transport.streamed(self.path, {"Range": f"bytes={at}-", **_AS_IT_IS}) as answer:
                    if _told(answer.headers, at) != (self.size, self.sha256):
                        raise ServiceError("the film is another one now", "ask for it again", answer.status_code)
                    for piece in answer.iter_bytes():
                        at, tried = at + len(piece), 0
                        yield piece
            except LOST as error:
                if tried == self.transport.times:
                    raise
                self.transport.pause(tried, error)
                tried += 1

    def _check(self, found: str) -> None:
        if found != self.sha256:
            told = "what came of the film is not what the pyramid holds"
            raise ServiceError(told, "ask again; if it stays so, the store is damaged", 200)


def _told(headers: Any, at: int) -> tuple[int, str]:
    """Size and SHA-256 of the whole film, as a part that begins at `at` says."""
    part, tag = _RANGE.fullmatch(headers.get("content-range", "")), _ETAG.fullmatch(headers.get("etag", ""))
    if part is None or tag is None or int(part[1]) != at:
        told = "what answers does not give a film by ranges of bytes"
        raise ServiceError(told, "see that no proxy before the service changes its answers", 200)
    return int(part[2]), tag[1]
