"""Which clips are cut, and how they are parcelled out: rows of `clips` -> CutOrder, which `stages.cut` takes.

Every clip is cut under the plan it was measured with. A clip whose row does not say enough for that, as one made by an
older Ziggurat, is not cut; its `media_why` says that its source must be curated again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import Any, Literal

from curation.contract import Clip, Source
from curation.media.plan import MediaPlan
from curation.pyramid.history import plans
from curation.pyramid.history.failures import MEASURE_AGAIN
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from curation.rows import CLIP_COLUMNS, clip_from_row
from pipelines.stages.results import CutDone, CutOrder

SEGMENT_CLIPS = 16
"""Clips encoded by one worker in one go; a long source is cut by several."""

ORDER_COLUMNS = (*CLIP_COLUMNS, "plan")
_CHECKS = ("first_check", "last_check", "all_check")
"""Checksums that the cutting pass must meet."""


def orders(
    pyramid: Pyramid, rows: Sequence[Mapping[str, Any]], hwaccel: Literal["none", "cuda"] = "none"
) -> Iterator[CutOrder | CutDone]:
    """Orders for rows with `ORDER_COLUMNS`, each a segment of one video; CutDone for the clips that cannot be cut.

    `hwaccel`: what decodes now; a plan's fingerprint leaves it open. Clips whose video's row is still to come, from a
    job that is at work on it, are left out: a later run finds them.
    """

    @cache
    def plan_of(fingerprint: str) -> MediaPlan | None:
        found = plans.load(pyramid.files, fingerprint)
        return None if found is None else replace(found, hwaccel=hwaccel)

    able = [row for row in rows if row["plan"] is not None and _checked(row) and plan_of(row["plan"]) is not None]
    unable = {row["clip_id"] for row in rows} - {row["clip_id"] for row in able}
    if unable:
        why = f"{MEASURE_AGAIN}: measured by another version of Ziggurat; curate its source again"
        yield CutDone((), None, dict.fromkeys(sorted(unable), why))
    able.sort(key=lambda row: (row["video_id"], row["plan"], row["start_s"]))
    known = Ledger(pyramid).lookup(dict.fromkeys(row["video_id"] for row in able))
    for (video_id, fingerprint), group in groupby(able, key=lambda row: (row["video_id"], row["plan"])):
        video, plan = known.get(video_id), plan_of(fingerprint)
        if video is None or plan is None:
            continue
        sources = tuple(Source(uri, video.bytes) for uri in video.uris)
        for clips in segments([clip_from_row(row) for row in group]):
            yield CutOrder(video_id, sources, clips, plan)


def segments(clips: Sequence[Clip], most: int = SEGMENT_CLIPS) -> Iterator[tuple[Clip, ...]]:
    """Clips of one video, in order of time, in runs that can be decoded apart without decoding a frame twice.

    A run ends after `most` clips, at the first clip that a decoder can reach without passing the one before it.
    """
    run_: list[Clip] = []
    for clip in clips:
        end_s = run_[-1].end_s if run_ else None
        if len(run_) >= most and end_s is not None and clip.key_s >= end_s - 1e-3:
            yield tuple(run_)
            run_ = []
        run_.append(clip)
    if run_:
        yield tuple(run_)


def _checked(row: Mapping[str, Any]) -> bool:
    return all(row[name] is not None for name in _CHECKS)
