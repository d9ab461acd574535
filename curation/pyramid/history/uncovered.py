"""What of a video is in no clip, as far as its rows tell: before, between and behind its clips. `why` shows it.

A clip ends where its shot does, at the recipe's longest clip, or before damage (`ended_by`); what follows and makes no
clip of its own has no row. The number of all frames is not kept, so the piece behind the last clip is given in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.contract import Kind
from curation.pyramid.queries.kinds import kind_of


@dataclass(frozen=True, slots=True)
class Piece:
    """Source frames `start_frame` up to `end_frame` (exclusive), None where only the end of the video bounds them; and
    when the first and the one behind the last are shown.
    """

    start_frame: int
    end_frame: int | None
    start_s: float
    end_s: float


def uncovered(video: Mapping[str, Any], clips: Sequence[Mapping[str, Any]]) -> list[Piece]:
    """The pieces, in order; none of a video without clips, whose reason says it all. `clips`: all of the video's."""
    mine = sorted(
        (one for one in clips if one["video_id"] == video["video_id"] and kind_of(one) == Kind.VIDEO),
        key=lambda one: one["start_frame"],
    )
    found: list[Piece] = []
    frame, second = 0, 0.0
    for clip in mine:
        if clip["start_frame"] > frame:
            found.append(Piece(frame, clip["start_frame"], second, clip["start_s"]))
        if clip["end_frame"] > frame:
            frame, second = clip["end_frame"], clip["end_s"]
    end_s, rate = video["duration_s"], video["fps"]
    if mine and end_s and rate and end_s - second > _SOME_FRAME / rate:
        found.append(Piece(frame, None, second, end_s))
    return found


_SOME_FRAME = 0.5
"""Of a frame's time: what durations and times of frames differ by, as containers write them, is less."""
