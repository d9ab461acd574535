"""Staging: a `Source` becomes a hashed video under a fixed name in a private folder.

Second step of the flow, between `sources` and the media sandbox. A local file is hashed in place and linked,
a remote object is read once, hashed and written at the same time. The decoder sees only the private folder,
so a reference inside a video finds no neighbour, and no name from outside reaches a decoder. What cannot be
read is a `Verdict`.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
from pyarrow import fs

from curation import identity
from curation.contract import RawVideo, Reason, Source, Verdict
from curation.errors import UserError
from curation.inputs import odd_keys, uris

log = logging.getLogger(__name__)

NAME = "video"
MOST_BYTES = 256 << 30
RESERVE = 256 << 20
"""Bytes of disk that staging leaves free for everybody else."""

ATTEMPTS = 4
WAIT_FOR_ROOM_S = 120.0
"""How long a full staging disk is waited for; other workers free room whenever they are done with a video."""

_LOOK_FOR_ROOM_S = 2.0


@dataclass(frozen=True, slots=True)
class Staged:
    """A hashed video that a decoder may open at `path`. `close`, or the end of a `with`, removes it."""

    raw: RawVideo
    path: Path

    def close(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def changed(self) -> Verdict | None:
        """A verdict where a local file is no longer the one that was hashed: what was decoded says nothing of those
        bytes. A remote one was copied.
        """
        if not self.path.is_symlink():
            return None
        try:
            now = self.path.stat()
        except OSError as error:
            return Verdict(Reason.UNREADABLE, detail=f"gone since it was hashed ({error.strerror})")
        if (now.st_size, now.st_mtime) != (self.raw.source.bytes, self.raw.source.modified):
            return Verdict(Reason.UNREADABLE, detail="changed since it was hashed")
        return None

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _NoRoom(Exception):
    """The staging folder's disk has no room for now: other workers' videos lie there. The message says how little."""


class _Stop(Exception):
    """Ends an attempt with a verdict that no further attempt would change."""

    def __init__(self, detail: str, reason: Reason = Reason.UNREADABLE, measured: float | None = None) -> None:
        super().__init__(detail)
        self.verdict = Verdict(reason, measured, detail)


class _Bounded:
    """A stream that ends the attempt when it gives more bytes than its file had at the start."""

    def __init__(self, stream: Any, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, count: int) -> bytes:
        block = self._stream.read(count)
        self._left -= len(block)
        if self._left < 0:
            raise _Stop("grew while it was read")
        return block


def stage(
    source: Source,
    folder: Path,
    *,
    most_bytes: int = MOST_BYTES,
    attempts: int = ATTEMPTS,
    pause_s: float = 0.5,
    reserve: int = RESERVE,
    wait_s: float = WAIT_FOR_ROOM_S,
) -> Staged | Verdict:
    """Hash a source and make it readable below `folder` (on this machine), or say why it cannot be read.

    A read that fails is tried `attempts` times with growing pauses. Room in `folder` is waited for up to `wait_s`;
    raises `UserError` where none comes: that is no fault of the video, and the next one would fare the same.
    """
    private = Path(tempfile.mkdtemp(prefix="stage-", dir=folder))
    try:
        staged = _with_room(
            lambda: _attempts(lambda: _once(source, private, most_bytes, reserve), attempts, pause_s), private, wait_s
        )
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise
    if isinstance(staged, Verdict):
        shutil.rmtree(private, ignore_errors=True)
    return staged


def _with_room(attempt: Callable[[], Staged | Verdict], private: Path, wait_s: float) -> Staged | Verdict:
    """The outcome of `attempt`, which is made again while the disk is full, `wait_s` seconds in all."""
    waited = 0.0
    while True:
        try:
            return attempt()
        except _NoRoom as full:
            (private / NAME).unlink(missing_ok=True)  # half a video would keep others from ending
            if waited >= wait_s:
                raise UserError(str(full), _REMEDY) from full
            if not waited:
                log.warning("%s: waiting for room, up to %.0f s", full, wait_s)
        # Not all at once: workers that fill the disk together and give up together would do so for ever.
        pause = _LOOK_FOR_ROOM_S * random.uniform(0.5, 1.5)
        time.sleep(pause)
        waited += pause


def _once(source: Source, private: Path, most_bytes: int, reserve: int) -> Staged:
    path = uris.local_path(uris.check(source.uri))
    if path is None:
        return _fetch(source, private, most_bytes, reserve)
    return _link(path, source, private, most_bytes)


def _attempts(attempt: Callable[[], Staged], attempts: int, pause_s: float) -> Staged | Verdict:
    detail = ""
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except _Stop as stop:
            return stop.verdict
        except uris.Forbidden as error:
            return Verdict(error.reason, detail=str(error))
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            return Verdict(Reason.UNREADABLE, detail=error.strerror or str(error))
        except (OSError, pa.ArrowException) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise _NoRoom("the disk of the staging folder is full") from error
            detail = str(error)
            log.warning("attempt %d of %d to read a source failed: %s", number, attempts, detail)
        if number < attempts:
            time.sleep(pause_s * 2 ** (number - 1))
    return Verdict(Reason.UNREADABLE, attempts, f"failed {attempts} times: {detail}")


def _link(path: str, source: Source, private: Path, most_bytes: int) -> Staged:
    # Looked at before it is opened, because opening some devices does something; O_NONBLOCK, because a pipe
    # may have taken the file's place since, and opening one waits for its writer.
    _regular(os.stat(path))
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb", buffering=0) as stream:
        before = _regular(os.fstat(stream.fileno()))
        _fits(before.st_size, most_bytes)
        video_id, size = identity.content_id(_Bounded(stream, before.st_size))  # type: ignore[arg-type]
        after = os.fstat(stream.fileno())
    real = os.path.realpath(path)
    named = os.stat(real)
    if size != before.st_size or _version(before) != _version(after) or _version(after) != _version(named):
        raise _Stop("changed while it was read")
    staged = private / NAME
    staged.symlink_to(real)
    return Staged(RawVideo(video_id, replace(source, bytes=size, modified=after.st_mtime)), staged)


def _regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise _Stop("a pipe, socket, device or folder", Reason.NOT_A_FILE)
    return status


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _fits(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise _Stop(f"larger than the limit of {most_bytes} bytes", measured=size)


_REMEDY = "free some space there or name another staging folder; finished work is kept"


def _fetch(source: Source, private: Path, most_bytes: int, reserve: int) -> Staged:
    system, path = odd_keys.opened(source.uri) or uris.remote(source.uri)
    before = _look(system, path)
    size = before.size or 0
    _fits(size, most_bytes)
    _room(size, private, reserve)
    staged = private / NAME
    with system.open_input_stream(path) as stream, staged.open("wb") as file:
        video_id, read = identity.content_id(_Bounded(stream, size), file.write)  # type: ignore[arg-type]
    after = _look(system, path)
    if (before.size, before.mtime_ns) != (after.size, after.mtime_ns):
        raise _Stop("changed while it was read")
    if read != size:
        raise OSError(f"the connection ended after {read} of {size} bytes")
    return Staged(RawVideo(video_id, replace(source, bytes=size, modified=uris.modified(after))), staged)


def _look(system: fs.FileSystem | odd_keys.Bucket, path: str) -> fs.FileInfo:
    info = system.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise _Stop("does not exist")
    if info.type != fs.FileType.File:
        raise _Stop("a folder", Reason.NOT_A_FILE)
    return info


def _room(size: int, folder: Path, reserve: int) -> None:
    disk = shutil.disk_usage(folder)
    if reserve >= disk.total:  # no video fits, so this one is not to blame
        least = reserve >> 20
        raise UserError(f"the disk of the staging folder {folder.parent} is no larger than {least} MB", _REMEDY)
    if size + reserve > disk.total:
        raise _Stop(f"larger than the whole disk of the staging folder ({disk.total} bytes)", measured=size)
    if size + reserve > disk.free:
        free, need = disk.free >> 20, (size + reserve) >> 20
        raise _NoRoom(f"the staging folder {folder.parent} has {free} MB free of {need} needed")
