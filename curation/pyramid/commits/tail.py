"""The tail of a dataset, what was written since the last upkeep: committers keep it short.

Each commit leaves a fragment of a few rows that no index covers, and every lookup opens each of them: 21 ms for 200,
half a second for 2,000. So whoever commits a 32nd version merges the small fragments of all but frames and
bytes, and extends the indexes. A row is copied a few times at most, by the rule of `compaction.plan`.

The oldest fragment stays out: every insert names it (`upsert`), and a merge of it would be refused, or refuse inserts.
Nothing here is needed for what is right, only for what is fast. So nothing here fails a commit: where another writer's
comes between, Lance refuses a step, which then waits for the next 32 versions, as does one that meets any other fault.
Only what the next write would meet as well, a full disk or a store that does not answer, goes through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from curation.errors import UserError
from curation.pyramid.commits import indexes
from curation.pyramid.lifecycle.compaction import TARGET_ROWS, plan
from curation.pyramid.storage.datasets import BYTES
from curation.pyramid.storage.transaction import written_again
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.retry import is_conflict, retrying

EVERY = 32
"""Versions after which the tail is tended."""
FRAGMENTS = 64
"""Fragments after which it is, too, of `samples` and `media`: a commit appends one for each video or cut segment."""
_log = logging.getLogger(__name__)
_said: set[tuple[str, str]] = set()
"""Which steps of which pyramid have been warned of: a lasting fault comes back every 32 versions."""


def due(before: int, after: int, every: int | None = None) -> bool:
    """Whether a commit from version `before` to `after` is one that tends the tail; or of counts of fragments, by
    `every` of them.
    """
    every = every or EVERY
    return before // every != after // every


def tend(pyramid: Pyramid, name: str) -> None:
    """Merge small fragments, make the indexes that commits look rows up by, and extend all: each unless another commit
    comes first. UserError where the disk is full and such; what else fails is said, once in a process. None of it while
    something is being taken down: a copy of it would belong to no version, and nobody would look for it.
    """
    if tombstones.is_pending(pyramid.files):
        return
    steps: dict[str, Callable[[], Any]] = {
        f"index on {name}.{column}": lambda column=column: _index(pyramid, name, column)
        for column in indexes.of_committers(pyramid, name)
    }
    if name not in BYTES:  # only `upkeep` merges those
        steps[f"merge of {name}"] = lambda: merge(pyramid, name)
    steps[f"extension of the indexes of {name}"] = lambda: indexes.extend(pyramid, name)
    for what, step in steps.items():
        try:
            retrying(what, step, conflicts=1)
        except UserError:
            raise
        except Exception as error:  # whatever it is, the rows are there and can be found
            _told(pyramid.uri, what, error)


def _index(pyramid: Pyramid, name: str, column: str) -> None:
    if pyramid.dataset(name).count_rows() >= indexes.worth(column) and indexes.missing(pyramid, name, [column]):
        indexes.make(pyramid, name, column)


def merge(pyramid: Pyramid, name: str) -> None:
    """Put groups of small fragments together. Raises as Lance does where a row of them was written meanwhile."""
    dataset = pyramid.dataset(name)
    fragments = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
    oldest = min(fragments, default=0)
    rows = {number: one.metadata.num_rows for number, one in fragments.items() if number != oldest}
    for group in plan({number: count / TARGET_ROWS for number, count in rows.items()}):
        written_again(pyramid.dataset(name), group)


def without_dropped(pyramid: Pyramid, name: str) -> int:
    """Write the fragments again whose files hold columns that the schema has no more; how many. Lance's own compaction
    leaves a full fragment as it is. Raises as Lance does where a row of one was written meanwhile.
    """
    dataset = pyramid.dataset(name)
    known = set(_field_ids(dataset.lance_schema.fields()))
    numbers = [
        one.fragment_id
        for one in dataset.get_fragments()
        if not known.issuperset(number for file in one.metadata.files for number in file.fields)
    ]
    for number in numbers:
        written_again(pyramid.dataset(name), [number])
    return len(numbers)


def _field_ids(fields: Iterable[Any]) -> Iterator[int]:
    for one in fields:
        yield one.id()
        yield from _field_ids(one.children())


def _told(uri: str, what: str, error: Exception) -> None:
    if is_conflict(error):
        _log.debug("%s waits: another commit came first", what)
        return
    level = logging.DEBUG if (uri, what) in _said else logging.WARNING
    _said.add((uri, what))
    _log.log(level, "%s: %s fails, and lookups get slower until an upkeep: %r", uri, what, error)
