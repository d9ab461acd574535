"""Judging every clip again after a threshold has moved: only the column `tier` changes, and no score is
computed.

`clips.tier` is the strictest tier that admits a clip. Queries do not need it (they compare scores with the
tiers of `pyramid.json`), but tools that read the dataset themselves do.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.contract import CLIPS, SCORES
from curation.pyramid import conditions
from curation.pyramid.commit import Batch, Committer
from curation.pyramid.conditions import Between
from curation.pyramid.store import Pyramid, chunks
from curation.pyramid.tiers import Tiers

_COMMIT_ROWS = 20_000


def retier(pyramid: Pyramid) -> int:
    """Bring `clips.tier` in line with the pyramid's tiers; the number of clips that changed tier."""
    committer = Committer(pyramid)
    changed = 0
    for some in chunks(_misjudged(pyramid), _COMMIT_ROWS):
        # The committer judges each row's tier itself; naming the rows is enough.
        rows = pa.table({"clip_id": some, "tier": pa.nulls(len(some), pa.string())}, schema=_SCHEMA)
        committer.commit(Batch(clip_updates=[rows]))
        changed += len(some)
    return changed


_SCHEMA = pa.schema([CLIPS.field("clip_id"), CLIPS.field("tier")])


def _misjudged(pyramid: Pyramid) -> list[str]:
    columns = ["clip_id", "tier", *SCORES, "start_s", "end_s", "width", "height", "fps", "frames"]
    wrong: list[str] = []
    for batch in pyramid.dataset("clips").scanner(columns=columns).to_batches():
        now = np.array(batch["tier"].to_pylist(), object)
        wrong += np.array(batch["clip_id"].to_pylist(), object)[now != judged(batch, pyramid.tiers)].tolist()
    return wrong


def judged(batch: pa.RecordBatch, tiers: Tiers) -> np.ndarray:
    """The strictest tier of each row, as strings, None where no tier admits it."""
    import pyarrow.dataset as ds

    highest = np.full(batch.num_rows, None, object)
    rows = pa.table({**{name: batch[name] for name in batch.schema.names}, "row": np.arange(batch.num_rows)})
    for name in tiers.names:
        wanted = conditions.expression(Between(column, range_) for column, range_ in tiers.effective(name).items())
        inside = ds.dataset(rows).to_table(columns=["row"], filter=wanted)["row"].to_numpy()
        highest[inside] = name
    return highest
