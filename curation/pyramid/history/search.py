"""Searches for clips that have work left, which read only what may hold some: the part of `Ledger` behind each window.

The rows of a fragment never change where they lie, except that they are deleted: an update writes a row's new form into
a new fragment (`upsert`). So where a search has found nothing, it will never find anything, and it remembers those
fragments under `searched/`, one small file for each question. The next one reads only fragments written since. This
takes as long however many clips there are, and however many of them lack the score and are not to get it.

The memory is a cache. Without it, after a moved threshold (another question) and after a compaction (other fragments) a
search reads everything once. A fragment is known by its files, and has never had more deleted rows than now: one that
`restore` brings back has fewer than when it was read, and is read again. Were as many other rows of it deleted before
the next search, the count would tell nothing: after `restore`, run once, or remove the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.pyramid.store import Pyramid
from curation.retry import retrying

if TYPE_CHECKING:
    import lance

FOLDER = "searched"


@dataclass(frozen=True, slots=True)
class Question:
    """What a search looks for in `clips`: rows that satisfy `test`, and `chosen` where that is more than an index or a
    pass can say. `words`: the question as JSON can hold it; whatever changes the answer changes the words.
    """

    words: Mapping[str, Any]
    test: pc.Expression
    chosen: Callable[[pa.RecordBatch], pa.Array] | None = None
    needs: Sequence[str] = ()
    """Columns that `chosen` reads."""

    @property
    def file(self) -> str:
        text = json.dumps(self.words, sort_keys=True)
        return f"{FOLDER}/{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def search(pyramid: Pyramid, question: Question, columns: Sequence[str], remember: bool) -> Iterator[pa.RecordBatch]:
    """Batches of `columns` of the clips that answer a question. `remember`: keep where nothing was found, once all has
    been read.
    """
    remembered = _remembered(pyramid, question.file)  # before the rows: it is never of a later version
    dataset = pyramid.dataset("clips")
    known = {identity(one) for one in dataset.get_fragments() if is_known(one, remembered)}
    left = [one for one in dataset.get_fragments() if identity(one) not in known]
    found: set[int] = set()
    if left:
        for batch in _batches(dataset, question, columns, left):
            found.update(np.unique(batch["_rowaddr"].to_numpy() >> np.uint64(32)).tolist())
            yield batch.select(list(columns))
    fresh = {identity(one): one.metadata.num_deletions for one in left if one.fragment_id not in found}
    restored = [one for one in left if identity(one) in remembered]
    if remember and (fresh or restored):
        nothing = {name: count for name, count in remembered.items() if name in known} | fresh
        content = json.dumps({"question": question.words, "nothing": nothing}).encode()
        retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.write(question.file, content, durable=False))


def tidy(pyramid: Pyramid) -> None:
    """Remove the memories of no fragment that is there: of questions that nobody has asked since the last compaction.

    A search that writes one anew in this moment loses it, and reads everything once more.
    """
    what = f"memories of searches in {pyramid.uri}"
    for file in retrying(what, lambda: pyramid.files.names(FOLDER, ".json")):
        remembered = _remembered(pyramid, file)  # before the rows: it is never of a later version
        if not remembered.keys() & {identity(one) for one in pyramid.dataset("clips").get_fragments()}:
            retrying(what, lambda file=file: pyramid.files.remove(file))


def identity(fragment: Any) -> str:
    """A fragment by its files: unlike its number, theirs are no other's in any dataset, and a column that is written
    anew is another file.
    """
    names = "\n".join([*(file.path for file in fragment.metadata.files), *map(str, fragment.metadata.overlays or ())])
    return hashlib.blake2b(names.encode(), digest_size=12).hexdigest()


def is_known(fragment: Any, deleted: Mapping[str, int]) -> bool:
    """Whether a fragment was read before, by the numbers of deleted rows that fragments had then: `restore` gives some
    of them back.
    """
    then = deleted.get(identity(fragment))
    return then is not None and fragment.metadata.num_deletions >= then


def _remembered(pyramid: Pyramid, file: str) -> dict[str, int]:
    content = retrying(f"cannot read {pyramid.uri}", lambda: pyramid.files.read(file))
    try:
        return {} if content is None else {str(k): int(v) for k, v in json.loads(content)["nothing"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # damaged by the machine's fall: it was not written durably, and says nothing that is not found again


def _batches(
    dataset: lance.LanceDataset, question: Question, columns: Sequence[str], fragments: list[Any]
) -> Iterator[pa.RecordBatch]:
    scanner = dataset.scanner(
        columns=list(dict.fromkeys((*columns, *question.needs))),
        filter=question.test,
        fragments=fragments,
        with_row_address=True,
        use_scalar_index=False,
    )
    for batch in scanner.to_batches():
        chosen = batch if question.chosen is None else batch.filter(question.chosen(batch))
        if chosen.num_rows:
            yield chosen
