"""Rows of the contract made from what the stages found: the one place where dataclasses become Arrow.

Between the stages and the pyramid: a stage hands over dataclasses, `pyramid.commits.commit` takes these tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from curation.contract import (
    GIVEN,
    NOT_OF_IMAGES,
    SCORES,
    VIDEOS,
    Clip,
    Crop,
    Facts,
    Kind,
    Source,
    Span,
    Status,
    Verdict,
    clips_schema,
)
from curation.filters.table import FRAME_SCORES
from curation.identity import clip_id, fingerprint, older_clip_id
from curation.media.measures.blur import sharpness_fingerprint
from curation.media.measures.jitter import JITTER_FINGERPRINT
from curation.media.measures.motion import motion_fingerprint
from curation.media.plan import MediaPlan
from curation.media.results import ClipMeasure


def frame_fingerprints(plan: MediaPlan) -> dict[str, str]:
    """What makes each of `FRAME_SCORES` under a plan."""
    found = {
        "motion": motion_fingerprint(plan.score_side),
        "sharpness": sharpness_fingerprint(plan.score_side),
        "jitter": JITTER_FINGERPRINT,
    }
    assert tuple(found) == FRAME_SCORES
    return found


def attempt_fingerprint(plan: MediaPlan) -> str:
    """What a measuring pass depends on: the plan, and what makes the frame scores under it."""
    return fingerprint("attempt", 1, {"plan": plan.fingerprint, **frame_fingerprints(plan)})


def nameless_id(uri: str) -> str:
    """A `video_id` for a source whose bytes could not be read: a hash of its name, told apart by its dash."""
    return "name-" + hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:27]


def video_row(
    video_id: str,
    source: Source,
    plan: str,
    job: str,
    *,
    verdict: Verdict | None = None,
    facts: Facts | None = None,
    clips: int = 0,
    attempts: int = 1,
) -> dict[str, Any]:
    """The ledger's row of a video that is settled, under the plan with fingerprint `plan`."""
    row: dict[str, Any] = dict.fromkeys(VIDEOS.names)
    row |= {
        "video_id": video_id,
        "uris": [source.uri],
        "modified": [source.modified],
        "bytes": source.bytes,
        "status": str(verdict.status if verdict else Status.DONE),
        "clips": clips,
        "attempts": attempts,
        "job": job,
        "fingerprint": plan,
        "extra": source.extra or None,
        "finished_at": datetime.now(UTC),
    }
    if verdict:
        row |= {"reason": str(verdict.reason), "measured": verdict.measured, "detail": verdict.detail or None}
    if facts:
        names = ("duration_s", "fps", "width", "height", "codec", "profile", "bpp")
        row |= {name: getattr(facts, name) for name in names}
    return row


def videos_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of `video_row` as a table of the contract."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=VIDEOS)


def clips_table(
    video_id: str,
    plan: MediaPlan,
    clips: Sequence[ClipMeasure],
    why: Mapping[str, str],
    caption: str | None = None,
    there: Collection[str] = (),
) -> pa.Table:
    """New rows of `clips`. `why`: for each score that comes later, why it is still null; `caption`: the list's own;
    `there`: the ids of clips that the video has already, of which one may be of the older form.
    """
    rows, plan_id, made_by = [], plan.fingerprint, frame_fingerprints(plan)
    for clip in clips:
        row: dict[str, Any] = {name: getattr(clip, name) for name in _SPAN}
        row |= {
            "clip_id": _name(video_id, clip, plan_id, there),
            "video_id": video_id,
            "plan": plan_id,
            "crop": [clip.crop.x, clip.crop.y, clip.crop.width, clip.crop.height],
            "laplacian": list(clip.laplacian),
        }
        if caption is not None:
            row |= {"caption": caption, "caption_by": GIVEN}
        for score, by in made_by.items():
            row |= {score: getattr(clip, score), f"{score}_by": by}
            if clip.kind is Kind.IMAGE and score in NOT_OF_IMAGES:
                row[f"{score}_why"] = str(Kind.IMAGE)
        row |= {f"{score}_why": text for score, text in why.items()}
        rows.append(row)
    own = [score for score in why if score not in SCORES]
    return pa.Table.from_pylist(rows, schema=clips_schema(own))


def _name(video_id: str, clip: ClipMeasure, plan: str, there: Collection[str]) -> str:
    older = older_clip_id(video_id, clip.start_frame, clip.end_frame, plan)
    return older if older in there else clip_id(video_id, clip.start_frame, clip.end_frame, plan)


_SPAN = tuple(field.name for field in fields(Span) if field.name != "crop")


def frame_columns(scores: Collection[str]) -> list[str]:
    """The columns that measuring `scores` again replaces, the key first."""
    columns = [name for score in scores for name in (score, f"{score}_by", f"{score}_why")]
    return ["clip_id", *columns, *(["laplacian"] if "sharpness" in scores else [])]


CLIP_COLUMNS = ("clip_id", "video_id", *_SPAN, "crop")
"""What `clip_from_row` needs."""


def clip_from_row(row: Mapping[str, Any]) -> Clip:
    """A `Clip` from a row with `CLIP_COLUMNS`."""
    place: dict[str, Any] = {name: row[name] for name in _SPAN}
    place["kind"] = Kind(row["kind"] or Kind.VIDEO)
    return Clip(clip_id=row["clip_id"], video_id=row["video_id"], crop=Crop(*row["crop"]), **place)
