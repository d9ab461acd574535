"""The listing of inputs: what the arguments of a job name, as a stream of `Source` and `Refused`.

First step of the flow: list_sources -> `staging.stage` -> the media sandbox. An argument is a file, a folder
or a glob (see `folders`), a list (see `lists`) or a URI of remote storage. Nothing is opened here but folders
and lists. What is found and not taken on grounds of safety is yielded as `Refused`, never dropped. Memory is
bounded by the largest single folder, not by the number of inputs.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow import fs

from curation import lists, uris
from curation.contract import Reason, Source, Verdict
from curation.errors import UserError
from curation.folders import (
    MAGIC,
    Entry,
    Refused,
    Wanted,
    entry,
    remote_entry,
    split_glob,
    unreadable,
    walk,
    walk_remote,
)

__all__ = ["VIDEO_EXTENSIONS", "Entry", "Refused", "list_sources"]

_EXTENSIONS = """
.mp4 .m4v .mov .qt .mkv .webm .avi .divx .wmv .asf .flv .f4v .mpg .mpeg .m1v .m2v .mpv .vob .ts .mts .m2ts .mxf
.3gp .3g2 .ogv .ogm .dv .rm .rmvb .ivf .nut .gxf .h264 .264 .avc .h265 .265 .hevc .obu .mjpeg .mjpg
"""

VIDEO_EXTENSIONS = frozenset(_EXTENSIONS.split())
"""What counts as a video in a folder or a glob. A file that is named outright is always taken."""


def list_sources(
    arguments: Sequence[str],
    *,
    extensions: frozenset[str] = VIDEO_EXTENSIONS,
    root: str | None = None,
    allow_outside: bool = False,
) -> Iterator[Entry]:
    """Everything that `arguments` name, each entry once.

    `root` (a folder or a URI) confines the arguments themselves: for callers that got them over a network.
    `allow_outside` lets the names in a list be absolute paths and URIs anywhere: for a person who wrote the
    list. Raises `UserError` before the first entry where an argument is missing, refused, or holds no video
    at all.
    """
    if not arguments:
        raise UserError("no input was named", "name files, folders, globs, lists (.txt .csv .parquet) or URIs")
    found = [_argument(name, extensions, root, allow_outside and root is None) for name in arguments]
    return _once(itertools.chain.from_iterable(found))


def _argument(name: str, extensions: frozenset[str], root: str | None, allow_outside: bool) -> Iterator[Entry]:
    """The entries of one argument, the first already found: mistakes show before any work starts."""
    try:
        place = uris.check(name) if root is None else uris.resolve(name, root)
    except uris.Forbidden as error:
        raise UserError(f"{name!r} is refused: {error}", "name a file, folder, glob, list or URI") from error
    local = uris.local_path(place)
    try:
        if local is None:
            entries = _remote(place, extensions, allow_outside)
        else:
            entries = _local(os.path.abspath(local), extensions, allow_outside)
        first = next(entries, None)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{name} cannot be read: {error}", "check the rights and the network") from error
    if first is None:
        what = "names" if lists.is_list(place) else f"video files; looked for {' '.join(sorted(extensions))}"
        raise UserError(f"{name} holds no {what}", "name files outright, or give other extensions")
    return itertools.chain([first], entries)


def _local(path: str, extensions: frozenset[str], allow_outside: bool) -> Iterator[Entry]:
    parts: tuple[str, ...] = ()
    if MAGIC & set(path) and not os.path.lexists(path):
        path, parts = split_glob(path)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", "check the spelling; relative paths start here") from error
    if stat.S_ISDIR(status.st_mode):
        return walk(path, Wanted(extensions, parts))
    if lists.is_list(path) and stat.S_ISREG(status.st_mode):
        return _listed(fs.LocalFileSystem(), path, os.path.dirname(path), allow_outside)
    return iter([entry(path, status)])


def _remote(uri: str, extensions: frozenset[str], allow_outside: bool) -> Iterator[Entry]:
    base, question, query = uri.partition("?")
    if MAGIC & set(query):
        raise UserError(f"{uri} has a wildcard behind '?'", "in a URI '?' starts its options: use * or [..]")
    parts: tuple[str, ...] = ()
    if MAGIC & set(base):
        base, parts = split_glob(base)
    folder = base + question + query
    system, path = uris.remote(folder)
    info = system.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise UserError(f"{folder} does not exist", "check the spelling, the region and the credentials")
    if info.type == fs.FileType.Directory:
        return walk_remote(system, path, folder, Wanted(extensions, parts))
    if lists.is_list(path):
        return _listed(system, path, os.path.dirname(base) + question + query, allow_outside)
    return iter([remote_entry(folder, info)])


def _listed(system: fs.FileSystem, path: str, base: str, allow_outside: bool) -> Iterator[Entry]:
    with system.open_input_file(path) as stream:
        for name in lists.names(stream, path):
            try:
                uri = uris.resolve(name, base, allow_outside=allow_outside)
            except uris.Forbidden as error:
                shown = name.encode(errors="backslashreplace").decode()[: uris.LONGEST]
                yield Refused(shown, Verdict(Reason.FORBIDDEN_FORMAT, detail=str(error)))
                continue
            local = uris.local_path(uri)
            # A remote name is not looked up: a request each would make the listing as slow as the reading.
            yield Source(uri, 0) if local is None else _named(local)


def _named(path: str) -> Entry:
    try:
        return entry(path, os.stat(path))
    except OSError as error:
        return unreadable(path, error)


def _once(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Each URI once. What was seen is kept in a private SQLite file, which leaves memory as it grows."""
    with contextlib.closing(sqlite3.connect("", check_same_thread=False)) as seen:
        seen.execute("PRAGMA journal_mode=OFF")
        seen.execute("CREATE TABLE seen (uri BLOB PRIMARY KEY) WITHOUT ROWID")
        for found in entries:
            digest = hashlib.blake2b(found.uri.encode(), digest_size=16).digest()
            if seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,)).rowcount:
                yield found
