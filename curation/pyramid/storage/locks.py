"""Locks of a pyramid on a local disk: who may write while somebody else tidies up or takes down.

    only_holder   one `upkeep`, `forget`, `merge` or `migrate` at a time; a second one is refused
    only_freezer  one `freeze` at a time; a second one is refused
    writing       whoever writes what is of videos: rows, frames, clips, the journal, names. Any number at a time
    alone         nobody else is in `writing`: it waits for those who are, and who comes meanwhile waits for it

A lock goes when its process does, however it ends. Writers pass a door (`.entering.lock`) before they enter: whoever
wants to be alone closes it first, so that writers who keep coming cannot make it wait for ever. Each is held by a
thread: what it calls in the block may ask again and gets it. Object stores have no locks: there, nothing here does
anything.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from curation.errors import UserError
from curation.pyramid.storage.files import is_remote
from curation.retry import retrying

if TYPE_CHECKING:
    from curation.pyramid.store import Pyramid

PATIENCE_S = 600.0
"""How long `alone` waits for those who write: a commit takes some seconds at most."""
_ENTERING, _WRITING, _UPKEEP = ".entering.lock", ".writing.lock", ".upkeep.lock"
_FREEZING = ".freezing.lock"
_held = threading.local()


def only_holder(pyramid: Pyramid) -> AbstractContextManager[None]:
    """UserError where another one holds the pyramid."""
    return only(pyramid.uri, _UPKEEP, f"another upkeep, takedown, merge or migration is at work on {pyramid.uri}")


def only_freezer(pyramid: Pyramid) -> AbstractContextManager[None]:
    """UserError where another one freezes clips of the pyramid."""
    return only(pyramid.uri, _FREEZING, f"another freeze is at work on {pyramid.uri}")


@contextmanager
def only(uri: str, name: str, told: str) -> Iterator[None]:
    """Hold the lock of this name in a folder; UserError, which says `told`, where another process holds it."""
    if is_remote(uri):
        yield
        return
    with _opened(uri, name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(told, "wait until it has ended") from None
        yield


@contextmanager
def writing(uri: str) -> Iterator[None]:
    """Write beside others, and not beside one who is alone."""
    if is_remote(uri) or uri in _mine():
        yield
        return
    with _opened(uri, _WRITING) as lock:
        with _opened(uri, _ENTERING) as door:
            fcntl.flock(door, fcntl.LOCK_SH)
            fcntl.flock(lock, fcntl.LOCK_SH)
        with _noted(uri):
            yield


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """Write while nobody else does. UserError where somebody has been writing for `PATIENCE_S`."""
    if is_remote(uri):
        yield
        return
    assert uri not in _mine(), "who writes cannot become the only one: two would wait for each other"
    with _opened(uri, _WRITING) as lock, _opened(uri, _ENTERING) as door:
        _exclusively(door, uri)
        _exclusively(lock, uri)
        door.close()
        with _noted(uri):
            yield


def _mine() -> set[str]:
    """The pyramids that this thread holds."""
    if not hasattr(_held, "uris"):
        _held.uris = set()
    return _held.uris


@contextmanager
def _noted(uri: str) -> Iterator[None]:
    _mine().add(uri)
    try:
        yield
    finally:
        _mine().discard(uri)


def _opened(uri: str, name: str) -> IO[bytes]:
    def opened() -> IO[bytes]:
        try:
            return Path(uri, name).open("ab")
        except FileNotFoundError:
            os.makedirs(uri, exist_ok=True)
            return Path(uri, name).open("ab")

    return retrying(f"cannot write to {uri}", opened)


def _exclusively(lock: IO[bytes], uri: str) -> None:
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                told = f"somebody has been writing to {uri} for {PATIENCE_S:.0f} s"
                raise UserError(told, "end or continue what is stopped there, and run the command again") from None
            time.sleep(0.01)
