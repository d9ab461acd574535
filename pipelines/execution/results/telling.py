"""What the log tells of results: each video's end, and each clip that a stage brought to nothing, with why.

At the level INFO, which only structured logs show (`pipelines.logs`): a run of a million clips would fill a terminal.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from curation.contract import scores_among
from pipelines.stages.results import Captioned, CutDone, Embedded, MeasureDone, Result, SameContent, Scored

_log = logging.getLogger(__name__)


def tell(result: Result) -> None:
    """Log a result that is about to be committed."""
    if _log.isEnabledFor(logging.INFO):
        for message, fields in told(result):
            _log.info(message, extra=fields)


def told(result: Result) -> Iterator[tuple[str, dict[str, Any]]]:
    """Messages with `video`, `clip` and `reason`, where there are some."""
    match result:
        case MeasureDone():
            row = result.video
            clips = 0 if result.clips is None else result.clips.num_rows
            fields = {"video": row["video_id"], "uri": row["uris"][0], "reason": row["reason"], "clips": clips}
            yield f"video {row['status']}", {name: value for name, value in fields.items() if value is not None}
        case SameContent():
            yield "video known by another name", {"video": result.video_id, "uri": result.source.uri}
        case CutDone():
            for clip, why in result.failed.items():
                yield "clip not cut", {"video": result.video_id or None, "clip": clip, "reason": why}
        case Scored():
            score = scores_among(result.table.column_names)[0]
            for row in result.table.select(["clip_id", score, f"{score}_why"]).to_pylist():
                if row[score] is None:
                    yield f"clip without {score}", {"clip": row["clip_id"], "reason": row[f"{score}_why"]}
        case Captioned(clips=clips) if clips is not None:
            for row in clips.select(["clip_id", "caption", "caption_why"]).to_pylist():
                if row["caption"] is None:
                    yield f"clip without a caption by {result.block}", _of(row, "caption_why")
        case Embedded(none=none) if none is not None:
            for row in none.select(["clip_id", "why"]).to_pylist():
                yield f"clip without a vector in {result.space}", _of(row, "why")


def _of(row: dict[str, Any], why: str) -> dict[str, Any]:
    return {"clip": row["clip_id"], "reason": row[why]}
