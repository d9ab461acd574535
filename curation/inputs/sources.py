"""The listing of inputs: what the arguments of a job name, as a stream of `Source` and `Refused`.

First step of the flow: list_sources -> `staging.stage` -> the media sandbox. An argument is a file, a folder
or a glob (see `folders`), a list (see `listed`) or a URI of remote storage. Nothing is opened here but folders
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
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs

from curation.contract import Source
from curation.errors import UserError
from curation.inputs import lists, odd_keys, uris
from curation.inputs.folders import (
    MAGIC,
    Entry,
    Links,
    Refused,
    Tally,
    Wanted,
    entry,
    remote_entry,
    split_glob,
    walk,
    walk_remote,
)
from curation.inputs.kinds import FROM_FOLDERS, PICTURE_EXTENSIONS, VIDEO_EXTENSIONS
from curation.inputs.listed import listed
from curation.inputs.sidecars import Sidecars, attached

__all__ = ["VIDEO_EXTENSIONS", "Entry", "Listing", "Refused", "Tally", "list_sources"]


NO_SIDECARS = Sidecars()


class Listing(Iterator[Entry]):
    """The entries of all arguments, and in `tally` what was seen beside them; it grows while they are taken."""

    def __init__(self, entries: Iterator[Entry], tally: Tally) -> None:
        self._entries = entries
        self.tally = tally

    def __next__(self) -> Entry:
        return next(self._entries)

    def notices(self) -> list[str]:
        """What the person who named the arguments should know, now that all entries are taken."""
        told = []
        if count := self.tally.links_out:
            told.append(f"{count} links lead out of the folders that were named: --follow-links takes them")
        if count := self.tally.repeated:
            told.append(f"{count} rows name a video again with other columns: those of the first row were kept")
        if count := sum(self.tally.passed_over[kind] for kind in PICTURE_EXTENSIONS):
            what = "picture in a folder was" if count == 1 else "pictures in folders were"
            told.append(f"{count} {what} passed over: {FROM_FOLDERS} in the recipe takes them")
        return [*told, *self._of_sidecars()]

    def _of_sidecars(self) -> Iterator[str]:
        tally = self.tally
        if tally.sidecars or tally.without_sidecar:
            yield f"{tally.sidecars} captions came from sidecar files; {tally.without_sidecar} videos have none"
        for why, count in (tally.sidecars_unfit + tally.sidecars_lost).items():
            yield f"{count} sidecar files gave no caption ({why}): {tally.first_sidecar[why]} is the first"


@dataclass(frozen=True, slots=True)
class _Rules:
    """How arguments are read; see `list_sources`."""

    extensions: frozenset[str]
    root: str | None
    allow_outside: bool
    links: Links
    tally: Tally
    sidecars: Sidecars

    def with_captions(self, entries: Iterator[Entry], root: str | None) -> Iterator[Entry]:
        """The local entries with what their sidecars say; none leads out of `root`, nor out of its video's folder."""
        return attached(entries, self.sidecars, root, self.links, self.tally)

    def wanted(self, parts: tuple[str, ...]) -> Wanted:
        return Wanted(self.extensions, parts, self.links, self.tally)


def list_sources(
    arguments: Sequence[str],
    *,
    extensions: frozenset[str] = VIDEO_EXTENSIONS,
    root: str | None = None,
    allow_outside: bool = False,
    follow_links: bool = False,
    sidecars: Sidecars = NO_SIDECARS,
) -> Listing:
    """Everything that `arguments` name, each entry once.

    `root` (a folder or a URI) confines the arguments themselves: for callers that got them over a network.
    `allow_outside` lets the names in a list be absolute paths and URIs anywhere: for a person who wrote the list.
    `follow_links` takes what links in a folder lead to, wherever that is: for a person who trusts the folder.
    `sidecars`: which files beside local videos say their captions. Raises
    `UserError` before the first entry where an argument is missing, refused, or holds no video at all, and where a
    list has a row that cannot be read.
    """
    if not arguments:
        raise UserError("no input was named", f"name files, folders, globs, lists ({' '.join(lists.SUFFIXES)}) or URIs")
    if root is not None and follow_links:
        raise UserError("--follow-links and --root exclude each other", "leave one of them out")
    links = Links.ALL if follow_links else Links.HUB if root is None else Links.NONE
    rules = _Rules(extensions, root, allow_outside and root is None, links, Tally(), sidecars)
    found = [_argument(name, rules) for name in arguments]
    return Listing(_once(itertools.chain.from_iterable(found), rules.tally), rules.tally)


def _argument(name: str, rules: _Rules) -> Iterator[Entry]:
    """The entries of one argument, the first already found: mistakes show before any work starts."""
    try:
        place = uris.check(name) if rules.root is None else uris.resolve(name, rules.root)
        local = uris.local_path(place)
        entries = _remote(place, rules) if local is None else _local(os.path.abspath(local), rules)
        first = next(entries, None)
    except uris.Forbidden as error:
        raise UserError(
            f"{uris.redacted(name)!r} is refused: {error}", "name a file, folder, glob, list or URI"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{uris.redacted(name)} cannot be read: {error}", "check the rights and the network") from error
    if first is None:
        raise UserError(f"{name} holds no {_missing(place, rules)}", _remedy(rules))
    return itertools.chain([first], entries)


def _remedy(rules: _Rules) -> str:
    if any(rules.tally.passed_over[kind] for kind in PICTURE_EXTENSIONS):
        return f"name files outright; for images, say {FROM_FOLDERS} in the recipe"
    return "name files outright, or give other extensions"


def _missing(place: str, rules: _Rules) -> str:
    if lists.is_list(place):
        return "names"
    there = ", ".join(f"{count} {kind}" for kind, count in rules.tally.passed_over.most_common(5))
    return f"video files; looked for {' '.join(sorted(rules.extensions))}" + (f"; found {there}" if there else "")


def _local(path: str, rules: _Rules) -> Iterator[Entry]:
    parts: tuple[str, ...] = ()
    if MAGIC & set(path) and not os.path.lexists(path):
        path, parts = split_glob(path)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", "check the spelling; relative paths start here") from error
    if stat.S_ISDIR(status.st_mode):
        return rules.with_captions(walk(path, rules.wanted(parts)), path)
    if lists.is_list(path) and stat.S_ISREG(status.st_mode):
        folder = os.path.dirname(path)
        entries = listed(fs.LocalFileSystem(), path, folder, rules.allow_outside)
        return rules.with_captions(entries, None if rules.allow_outside else folder)
    return rules.with_captions(iter([entry(path, status)]), rules.root and uris.local_path(rules.root))


def _remote(uri: str, rules: _Rules) -> Iterator[Entry]:
    if rules.sidecars.kinds:
        told = f"sidecars are read beside local videos, and {uris.redacted(uri)} is remote"
        raise UserError(told, "write the captions into a list, in a column `caption`")
    base, question, query = uri.partition("?")
    if MAGIC & set(query):
        raise UserError(f"{uri} has a wildcard behind '?'", "in a URI '?' starts its options: use * or [..]")
    parts: tuple[str, ...] = ()
    if MAGIC & set(base):
        base, parts = split_glob(base)
    folder = base + question + query
    if odd := odd_keys.opened(folder):
        return iter([_odd_object(folder, odd[0].get_file_info(odd[1]))])
    system, path = uris.remote(folder)
    info = system.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise UserError(f"{folder} does not exist", "check the spelling, the region and the credentials")
    if info.type == fs.FileType.Directory:
        return walk_remote(system, path, folder, rules.wanted(parts))
    if lists.is_list(path):
        return listed(system, path, os.path.dirname(base) + question + query, rules.allow_outside)
    return iter([remote_entry(folder, info)])


def _odd_object(uri: str, info: fs.FileInfo) -> Source:
    if info.type == fs.FileType.NotFound:
        raise UserError(f"{uri} does not exist", "a folder whose name holds '//' is listed from the folder above it")
    return remote_entry(uri, info)


def _once(entries: Iterator[Entry], tally: Tally) -> Iterator[Entry]:
    """Each URI once. What was seen is kept in a private SQLite file, which leaves memory as it grows."""
    with contextlib.closing(sqlite3.connect("", check_same_thread=False)) as seen:
        seen.execute("PRAGMA journal_mode=OFF")
        seen.execute("CREATE TABLE seen (uri BLOB PRIMARY KEY, extra BLOB) WITHOUT ROWID")
        for found in entries:
            uri, extra = _digest(found.uri), _digest(found.extra)
            if seen.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (uri, extra)).rowcount:
                yield found
            elif found.extra and seen.execute("SELECT extra FROM seen WHERE uri = ?", (uri,)).fetchone() != (extra,):
                tally.repeated += 1


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
