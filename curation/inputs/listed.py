"""The entries that a list names: its rows resolved, looked up, and given their sizes and times.

`sources` calls `listed` for an argument that is a list, a retry `named` for names that a ledger holds. A name leads
where `uris.resolve` lets it. Remote names are looked up several at a time, so that a second run sees by size and time
that there is nothing to do.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pyarrow as pa
from pyarrow import fs

from curation.contract import Reason, Source, Verdict
from curation.inputs import kinds, lists, odd_keys, uris
from curation.inputs.folders import Entry, Refused, entry, remote_entry, unreadable

log = logging.getLogger(__name__)

_LOOK_UP = 256
_AT_A_TIME = 16
_GIVE_UP = 8
"""Failures to look up a name, without one success, after which a store is left to the staging, which tries longer."""


def listed(system: fs.FileSystem, path: str, base: str, allow_outside: bool) -> Iterator[Entry]:
    """The entries of the list at `path`, whose names count from `base`. Raises `UserError` before the first where a row
    of a text cannot be read.
    """
    if kinds.suffix(path) != ".parquet":  # its schema tells at once
        with system.open_input_file(path) as stream:
            for _ in lists.rows(stream, path):
                pass
    with system.open_input_file(path) as stream, ThreadPoolExecutor(_AT_A_TIME, "look-up") as pool:
        found = (
            _resolved(row, f"{path}, row {number}", base, allow_outside)
            for number, row in enumerate(lists.rows(stream, path), 1)
        )
        stores = _Stores()
        while some := list(islice(found, _LOOK_UP)):
            yield from pool.map(stores.looked_up, some)


def named(videos: Iterable[tuple[Sequence[str], str]]) -> Iterator[Entry]:
    """The entries of videos by their absolute names and URIs, each with its further columns: under every name that
    leads somewhere, or, where none does, under all.
    """
    with ThreadPoolExecutor(_AT_A_TIME, "look-up") as pool:
        stores = _Stores()

        def looked_up(video: tuple[Sequence[str], str]) -> list[Entry]:
            names, extra = video
            found = [
                replace(Source(name, 0) if (local := uris.local_path(name)) is None else _named(local), extra=extra)
                for name in names
            ]
            found = [stores.looked_up(one) for one in found]
            return [one for one in found if isinstance(one, Source)] or found

        them = iter(videos)
        while some := list(islice(them, _LOOK_UP)):
            for entries in pool.map(looked_up, some):
                yield from entries


def _resolved(row: lists.Row, place: str, base: str, allow_outside: bool) -> Entry:
    try:
        uri = uris.resolve(row.name, base, allow_outside=allow_outside)
    except uris.Forbidden as error:
        # A name that is none, too long to be kept, or one without its secrets, would stand for every row like it: each
        # is called by its place.
        is_told = row.name.strip() and len(row.name) <= uris.LONGEST and uris.redacted(row.name) == row.name
        name = row.name if is_told else place
        shown = name.encode(errors="backslashreplace").decode()
        return Refused(shown, Verdict(error.reason, detail=str(error)), row.extra)
    local = uris.local_path(uri)
    return replace(Source(uri, 0) if local is None else _named(local), extra=row.extra)


def _named(path: str) -> Entry:
    try:
        return entry(path, os.stat(path))
    except OSError as error:
        return unreadable(path, error)


class _Stores:
    """Looks remote names up, in several threads."""

    def __init__(self) -> None:
        self._answers: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()

    def looked_up(self, found: Entry) -> Entry:
        """The entry with what its store says of it; unchanged where it is local or the store does not answer."""
        if isinstance(found, Refused) or uris.local_path(found.uri) is not None:
            return found
        store = found.uri.partition("?")[0].split("/")[2]
        if self._failures[store] >= _GIVE_UP and not self._answers[store]:
            return found
        try:
            system, path = odd_keys.opened(found.uri) or uris.remote(found.uri)
            info = system.get_file_info(path)
        except (OSError, pa.ArrowException, uris.Forbidden) as error:
            self._failures[store] += 1
            log.warning("%s was not looked up: %s", found.uri, error)
            return found
        self._answers[store] += 1
        return _as_found(found, info)


def _as_found(source: Source, info: fs.FileInfo) -> Entry:
    if info.type == fs.FileType.File:
        return replace(remote_entry(source.uri, info), extra=source.extra)
    if info.type == fs.FileType.NotFound:
        return Refused(source.uri, Verdict(Reason.UNREADABLE, detail="does not exist"), source.extra)
    return Refused(source.uri, Verdict(Reason.NOT_A_FILE, detail="a folder"), source.extra)
