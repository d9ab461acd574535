"""Judging every clip again after a threshold has moved: only the column `tier` changes, and no score is
computed.

`clips.tier` is the strictest tier that admits a clip. Queries do not need it (they compare scores with the
tiers of `pyramid.json`), but tools that read the dataset themselves do. Tiers and column cannot change in one
commit, for they lie in two places; so `pyramid.json` gets the new tiers together with the word `retiering`, which
goes when the column is right. Whatever command comes next after a kill between the two finishes the work.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from curation.contract import CLIPS
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.queries import conditions
from curation.pyramid.queries.derived import stored
from curation.pyramid.storage.columns import writable
from curation.pyramid.storage.lookup import chunks
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import JUDGED, Tiers
from curation.retry import retrying

_COMMIT_ROWS = 20_000
_log = logging.getLogger(__name__)


def opened(uri: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None) -> Pyramid:
    """The pyramid at `uri`, its column `tier` in line with its tiers: what a killed move has left is finished first.

    Where that cannot be written, a warning says that the column is behind; everything else is as it should be.
    """
    pyramid = Pyramid.open(uri, storage_options)
    if not pyramid.about.retiering:
        return pyramid
    try:
        retier(pyramid)
    except (UserError, OSError) as error:
        _log.warning("the column `tier` of %s is behind its tiers and cannot be written: %s", pyramid.uri, error)
    return pyramid.refreshed()


def retier(pyramid: Pyramid) -> int:
    """Bring `clips.tier` in line with the tiers in force; the number of clips that changed tier.

    It ends when a look at all clips finds none that is wrong, and only then does `pyramid.json` say so. A commit that
    had read the old tiers judges its rows again by itself (`Committer.commit`).
    """
    retrying(f"columns of clips in {pyramid.uri}", lambda: writable(pyramid, "clips"))  # tiers may bound a newer score
    changed = 0
    while True:
        pyramid = pyramid.refreshed()
        wrong = _misjudged(pyramid)
        if not wrong:
            pyramid.retiered()
            return changed
        for some in chunks(wrong, _COMMIT_ROWS):
            rejudge(pyramid, some)
        changed += len(wrong)


def rejudge(pyramid: Pyramid, clip_ids: list[str]) -> None:
    """Write the tier of some clips anew."""
    # The committer judges each row's tier itself; naming the rows is enough.
    rows = pa.table({"clip_id": clip_ids, "tier": pa.nulls(len(clip_ids), pa.string())}, schema=_SCHEMA)
    Committer(pyramid).commit(Batch(clip_updates=[rows]))


_SCHEMA = pa.schema([CLIPS.field("clip_id"), CLIPS.field("tier")])


def _misjudged(pyramid: Pyramid) -> list[str]:
    columns = ["clip_id", "tier", *pyramid.scores, *stored(JUDGED)]
    wrong: list[str] = []
    for batch in pyramid.dataset("clips").scanner(columns=columns).to_batches():
        now = np.array(batch["tier"].to_pylist(), object)
        wrong += np.array(batch["clip_id"].to_pylist(), object)[now != judged(batch, pyramid.tiers)].tolist()
    return wrong


def judged(batch: pa.RecordBatch, tiers: Tiers) -> np.ndarray:
    """The strictest tier of each row, as strings, None where no tier admits it."""
    import pyarrow.dataset as ds

    highest = np.full(batch.num_rows, None, object)
    rows = pa.table({**{name: batch[name] for name in batch.schema.names}, "#": np.arange(batch.num_rows)})
    for name in tiers.names:
        wanted = conditions.expression(conditions.of_tier(tiers.effective(name)), batch.schema.names)
        inside = ds.dataset(rows).to_table(columns=["#"], filter=wanted)["#"].to_numpy()
        highest[inside] = name
    return highest
