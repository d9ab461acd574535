"""Exports that go on where they stopped: a query's clips in a layout, part by part, at a path or in an object store.

    query (pinned) -> buckets -> parts of some hundred clips -> [Layout.files] -> the part's lines -> ... -> indexes

The first thing written is `export.json`: what was asked for, and of which version. A part's files come before its
lines, so a part with lines is whole; the same command skips it, and writes others again, over what a kill has left.
Indexes over all clips come last, and `export.json` then says what is there. Memory is bounded by a part.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from curation import outputs
from curation.contract import Kind
from curation.errors import UserError
from curation.exports.base import Layout, Line, Sample
from curation.exports.layouts import LAYOUTS
from curation.inputs import uris
from curation.pyramid.queries.export import plain
from curation.pyramid.queries.naming import FIELDS, Pattern, suffix
from curation.pyramid.queries.query import Query
from curation.pyramid.review.words import is_dropped
from curation.pyramid.storage import address
from curation.pyramid.storage.files import Files, is_remote
from curation.retry import retrying

STATE, PARTS = "export.json", ".parts"
NO_BUCKET, NOT_CUT, IMAGE = "no bucket takes it", "not cut", "an image, which this layout does not take"
DROPPED = "dropped by a person"
Bucket = Callable[[int, Mapping[str, Any]], str | None]
"""In which bucket a clip belongs, by its place and its row; None: in none."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for: `layout` of `LAYOUTS`; `names`: a pattern of file names; `query`: in words, for who reads the
    folder; `buckets`: what parts it, in words.
    """

    layout: str
    query: tuple[str, ...] = ()
    names: str = "{clip_id}"
    buckets: str | None = None


@dataclass(frozen=True)
class Exported:
    """What is there now. `clips` in files; `left_out` by why; `without_caption` among the clips; `parts` that this run
    has written, and those that were `there` already.
    """

    output: str
    layout: str
    clips: int
    bytes: int
    without_caption: int
    parts: int
    there: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The clips of the query."""
        return self.clips + sum(self.left_out.values())


def export(
    query: Query,
    wanted: Wanted,
    output: str,
    bucket: Bucket | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> Exported:
    """Write, or go on. `told` gets how many clips are done. UserError: the folder holds something else, another export,
    or a whole one; a clip's bytes are damaged.
    """
    layout, pattern = LAYOUTS[wanted.layout], Pattern.of(wanted.names)
    place = _Place(outputs.check(output))
    pinned = place.begun(query, wanted)
    left_out: Counter[str] = Counter()
    done = written = there = size = bare = 0
    for part, rows in _parts(pinned, layout, bucket, left_out, not query.asks_decision):
        lines = place.lines(part)
        if lines is None:
            lines = place.write(part, layout, list(_samples(pinned, pattern, rows)))
            written += 1
        else:
            there += 1
        left_out[NOT_CUT] += len(rows) - len(lines)
        done, size = done + len(lines), size + sum(line["bytes"] for line in lines)
        bare += sum(not line["text"] for line in lines)
        told(done)
    left_out = +left_out
    place.finish(layout, wanted, {"clips": done, "left_out": dict(left_out), "without_caption": bare})
    return Exported(output, wanted.layout, done, size, bare, written, there, dict(left_out))


def _parts(
    query: Query, layout: Layout, bucket: Bucket | None, left_out: Counter[str], only_undropped: bool
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of each part, by its name. The same query gives the same parts. `only_undropped`: none that a
    person has dropped.
    """
    held: dict[str, list[dict[str, Any]]] = {}
    numbers: Counter[str] = Counter()
    place = -1
    for batch in query.batches():
        for row in batch.to_pylist():
            place += 1
            name = "clips" if bucket is None else bucket(place, row)
            if row["kind"] == Kind.IMAGE and not layout.takes_images:
                left_out[IMAGE] += 1
            elif only_undropped and is_dropped(row):
                left_out[DROPPED] += 1
            elif name is None:
                left_out[NO_BUCKET] += 1
            else:
                held.setdefault(name, []).append(row)
                if len(held[name]) == layout.clips_a_part:
                    yield f"{name}-{numbers[name]:06d}", held.pop(name)
                    numbers[name] += 1
    for name, rows in sorted(held.items()):
        yield f"{name}-{numbers[name]:06d}", rows


def _samples(query: Query, pattern: Pattern, rows: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    """The clips of some rows that have been cut, their bytes compared with their checksum."""
    known = {row["clip_id"]: row for row in rows}
    for clip_id, content, sha256 in query.pyramid.media(known):
        if hashlib.sha256(content).hexdigest() != sha256:
            cause = f"the bytes of clip {clip_id!r} differ from their checksum"
            raise UserError(cause, "the store is damaged: restore it")
        row = json.loads(json.dumps(known[clip_id], default=plain, allow_nan=False))
        yield Sample(pattern.name(row), suffix(clip_id, row["kind"], content), content, row["caption"] or "", row)


def _line(file_name: str, sample: Sample) -> Line:
    """What an index says of a clip. A column of a user's own that is called like one of ours gives way."""
    ours: Line = {"file_name": file_name, "text": sample.in_one_line, "bytes": len(sample.content)}
    return ours | {**sample.row} | ours


class _Place:
    """The folder that is filled."""

    def __init__(self, place: str) -> None:
        uri, given = address.located(place)
        self._place, self._files = place, Files(uri, given)

    def begun(self, query: Query, wanted: Wanted) -> Query:
        """The query, pinned to the version that this export is of, whoever began it."""
        asked = asdict(wanted) | {"query": list(wanted.query), "pyramid": query.pyramid.uri}
        columns = query.columns(*dict.fromkeys((*query.selected, *FIELDS, "caption", "uris", "media", "decision")))
        state = self._read(STATE)
        if state is None:
            self._check_empty()
            pinned = columns.pinned()
            self._write(STATE, json.dumps({**asked, "version": pinned.version, "whole": False}, indent=1).encode())
            return pinned
        found = json.loads(state)
        if found.get("whole"):
            raise UserError(f"{self._place} holds a whole export already", "choose a new folder")
        if {name: found.get(name) for name in asked} != asked:
            raise UserError(f"{self._place} holds a part of another export", "give its command again, or a new folder")
        return columns.at(found["version"])

    def lines(self, part: str) -> list[Line] | None:
        """The lines of a part that is whole; None of another one."""
        content = self._read(f"{PARTS}/{part}.jsonl")
        return None if content is None else [json.loads(line) for line in content.splitlines()]

    def write(self, part: str, layout: Layout, samples: Sequence[Sample]) -> list[Line]:
        """Write a part, its lines last."""
        for name, content in layout.files(part, samples) if samples else ():
            self._write(name, content)
        lines = [_line(layout.file_of(part, sample), sample) for sample in samples]
        self._write(f"{PARTS}/{part}.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
        return lines

    def finish(self, layout: Layout, wanted: Wanted, counts: Mapping[str, Any]) -> None:
        """Write the indexes, say that the export is whole, and take the parts' lines away."""
        for name, index in layout.indexes().items():
            with outputs.replacing(self._child(name)) as file:
                for content in index(self._all_lines()):
                    file.write(content)
        state = json.loads(self._read(STATE) or b"{}")
        self._write(STATE, (json.dumps({**state, "whole": True, **counts}, indent=1) + "\n").encode())
        retrying(f"cannot write to {self._place}", lambda: self._files.remove_folder(PARTS))

    def _all_lines(self) -> Iterator[Line]:
        for name in self._files.names(PARTS, ".jsonl"):
            content = self._read(name) or b""
            yield from (json.loads(line) for line in content.splitlines())

    def _check_empty(self) -> None:
        what = f"cannot read {self._place}"
        if retrying(what, lambda: self._files.names("", "")):
            raise UserError(f"{self._place} is not empty", "choose a new folder")

    def _child(self, name: str) -> str:
        return uris.child(self._place, name) if is_remote(self._place) else f"{self._place}/{name}"

    def _read(self, name: str) -> bytes | None:
        return retrying(f"cannot read {self._place}", lambda: self._files.read(name))

    def _write(self, name: str, content: bytes) -> None:
        what = f"cannot write to {self._place}"
        retrying(what, lambda: self._files.write(name, content, durable=False))
