"""What the stages of curation take and give, and what each result commits.

    Measure: Source    -> MeasureDone | SameContent     (`measure`)
    Score:   clip ids  -> Scored                   (`score`)
    Cut:     CutOrder  -> CutDone                  (`cut`)
    Caption: clips     -> Captioned, several       (`caption`)
    Embed:   clips     -> Embedded                 (`embed`)

A stage never raises for a video's sake: whatever goes wrong with one is part of its result. `fault_of` tells which
results are faults of ours rather than of the data.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from curation.contract import CLIPS, Clip, Reason, Source, Verdict
from curation.media.plan import MediaPlan
from curation.pyramid.commits.commit import Batch
from curation.retry import explained
from curation.rows import videos_table


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pyramid is: all that a worker needs to write next to it."""

    uri: str
    storage_options: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class MeasureDone:
    """A source that is settled: its ledger row, its clips, and the ticket of its sample frames.

    `refreshed`: `clips` holds single columns of clips that were there already. `replaces`: the video was settled
    before under another plan, and clips that it no longer has must go.
    """

    video: dict[str, Any]
    clips: pa.Table | None = None
    samples: str | None = None
    refreshed: bool = False
    replaces: bool = False
    decoded: int = 0


@dataclass(frozen=True, slots=True)
class SameContent:
    """A source whose bytes another source of this run, or of an earlier one (`known`), has brought already."""

    video_id: str
    source: Source
    known: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """One score of some clips: a table with `clip_id` and the columns that the filter fills.

    `failed`: the filter could do nothing with these clips, and the table says why; `videos`: whose clips they are.
    `embeddings`: the vectors that the filter made on the way (`contract.embeddings_schema`).
    """

    table: pa.Table
    clips: int
    failed: Verdict | None = None
    videos: tuple[str, ...] = ()
    embeddings: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class CutOrder:
    """Neighbouring clips of one video to be encoded, where the video may be found, and the plan that they were all
    measured under.
    """

    video_id: str
    sources: tuple[Source, ...]
    clips: tuple[Clip, ...]
    plan: MediaPlan

    def __len__(self) -> int:
        return len(self.clips)

    def part(self, start: int, stop: int) -> CutOrder:
        """See `base.Divisible`."""
        return replace(self, clips=self.clips[start:stop])


@dataclass(frozen=True, slots=True)
class CutDone:
    """What became of an order: a ticket for the clips that were cut, and for each other clip why it was not.

    `video_id`: whose clips these are, where no clip could be cut by a fault of ours. `without_sound`: clips that were
    cut without the sound that the recipe keeps, for its decoder died of it, and how.
    """

    cut: tuple[str, ...]
    ticket: str | None
    failed: dict[str, str]
    decoded: int = 0
    bytes: int = 0
    video_id: str = ""
    without_sound: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Captioned:
    """What a block of captions made of some clips: a table with `clip_id` and their columns of a caption, and the rows
    of `captions` that go with it.

    `block`: the block's name. `fault`: why nothing could come of these clips, which is not theirs; `videos`: whose they
    are. `left`: clips that the budget has left to another run, of which nothing is written. `tokens_in`,
    `tokens_out`, `usd`: as far as the endpoint and the recipe say.
    """

    block: str
    clips: pa.Table | None = None
    rows: pa.Table | None = None
    fault: str | None = None
    videos: tuple[str, ...] = ()
    left: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0

    def __len__(self) -> int:
        return self.left if self.clips is None else self.clips.num_rows


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some clips in a space (`contract.embeddings_schema`), and for the others why they have `none`
    (`spaces.UNEMBEDDED`).

    `fault`: why nothing could come of these clips, which is not theirs; `videos`: whose they are.
    """

    space: str
    clips: int
    vectors: pa.Table | None = None
    none: pa.Table | None = None
    fault: str | None = None
    videos: tuple[str, ...] = ()


Result = MeasureDone | SameContent | Scored | CutDone | Captioned | Embedded


_OF_A_REFRESH = ["video_id", "uris", "modified", "attempts", "job", "extra", "detail", "tried", "finished_at"]
"""What measuring a video's scores again says of it; what it was settled as stays."""


def batch_of(result: Result) -> Batch | None:
    """What to commit for a result; None for clips left undone, and for a further name, which must wait for the row of
    its content.
    """
    match result:
        case MeasureDone():
            new = result.clips is not None and not result.refreshed
            videos = videos_table([result.video])
            return Batch(
                samples=[result.samples] if result.samples else [],
                clips=result.clips if new else None,
                videos=None if result.refreshed else videos,
                # Another run may have settled the video otherwise meanwhile: single columns do not settle it again.
                video_updates=[videos.select(_OF_A_REFRESH)] if result.refreshed else [],
                clip_updates=[result.clips] if result.clips is not None and result.refreshed else [],
                replaced={result.video["video_id"]: _ids(result.clips)} if result.replaces else {},
            )
        case Scored():
            vectors = [result.embeddings] if result.embeddings is not None else []
            return Batch(clip_updates=[result.table], embeddings=vectors)
        case CutDone():
            return Batch(media=[result.ticket] if result.ticket else [], clip_updates=[_media_rows(result)])
        case Captioned():
            if result.clips is None:
                return None
            return Batch(clip_updates=[result.clips], captions=[] if result.rows is None else [result.rows])
        case Embedded():
            vectors = [] if result.vectors is None else [result.vectors]
            return Batch(embeddings=vectors, unembedded=[] if result.none is None else [result.none])
        case SameContent():
            return None


@dataclass(frozen=True, slots=True)
class Fault:
    """A result that is a fault of ours or of the set-up: its cause in a line, and the videos that it befell."""

    cause: str
    videos: tuple[str, ...]


_FAULTS = (Reason.INTERNAL, Reason.WORKER_LOST)


def fault_of(result: Result) -> Fault | None:
    """The fault that a result stands for; None where the stage did its work, whatever it found."""
    match result:
        case MeasureDone(video={"reason": Reason.INTERNAL | Reason.WORKER_LOST as reason}):
            verdict = Verdict(Reason(reason), detail=result.video["detail"] or "")
            return Fault(why_of(verdict), (result.video["video_id"],))
        case Scored(failed=Verdict() as verdict):
            return Fault(why_of(verdict), result.videos)
        case Captioned(fault=str() as cause) | Embedded(fault=str() as cause):
            return Fault(cause, result.videos)
        case CutDone(cut=(), failed=failed) if failed:
            why = next(iter(failed.values()))
            reason, _, detail = why.partition(":")
            return (
                Fault(why_of(Verdict(Reason(reason), detail=detail)), (result.video_id,)) if reason in _FAULTS else None
            )
        case _:
            return None


def why_of(verdict: Verdict) -> str:
    """A verdict in a line, as the columns that end in `_why` hold it: of a traceback, the error itself."""
    line = next((line for line in reversed(verdict.detail.splitlines()) if line.strip()), "").strip()
    kind, colon, text = line.partition(":")
    error = f"{kind.rpartition('.')[2]}{colon}{text}"[:300]
    return f"{verdict.reason}: {error}" if error else str(verdict.reason)


@runtime_checkable
class Clips(Protocol):
    """An item of clips."""

    @property
    def clip_ids(self) -> Sequence[str]: ...


def units(item: Source | CutOrder | Sized) -> int:
    """How much work an item is to its stage: one video, or so many clips."""
    match item:
        case Source():
            return 1
        case CutOrder():
            return len(item.clips)
        case _:
            return len(item)


def named(item: Source | CutOrder | Sized) -> tuple[str, ...]:
    """The units of an item by name, as `settled` has them: a source's name, or the ids of clips."""
    match item:
        case Source():
            return (item.uri,)
        case CutOrder():
            return tuple(clip.clip_id for clip in item.clips)
        case Clips():
            return tuple(item.clip_ids)
    raise AssertionError(f"{type(item).__name__} has no units")


def settled(result: Result) -> tuple[str, ...]:
    """The units that a result has brought to their end, by name."""
    match result:
        case MeasureDone():
            return tuple(result.video["uris"])
        case SameContent():
            return (result.source.uri,)
        case Scored():
            return tuple(result.table["clip_id"].to_pylist())
        case CutDone():
            return (*result.cut, *result.failed)
        case Captioned():
            return tuple(_ids(result.clips))
        case Embedded():
            return (*_ids(result.vectors), *_ids(result.none))


def progress(result: Result) -> tuple[int, int]:
    """How much of its stage's work a result has done, in the units of `units`, and how many new clips came of it."""
    match result:
        case MeasureDone():
            return 1, 0 if result.clips is None or result.refreshed else result.clips.num_rows
        case Scored() | Embedded():
            return result.clips, 0
        case Captioned():
            return len(result), 0
        case CutDone():
            return len(result.cut) + len(result.failed), 0
    return 1, 0


def our_fault(error: Exception) -> Verdict:
    """A fault of ours, with where it happened: for use in an `except` block. Raises `UserError` where the disk or the
    store failed: no video is to blame.
    """
    if (known := explained(error)) is not None:
        raise known from error
    return Verdict(Reason.INTERNAL, detail=traceback.format_exc(limit=-4))


def _ids(clips: pa.Table | None) -> list[str]:
    return [] if clips is None else clips["clip_id"].to_pylist()


def _media_rows(done: CutDone) -> pa.Table:
    """`media` is set to the hash of the row that stays by the committer; here it only marks the clip as cut."""
    ids = [*done.cut, *done.failed]
    why = [None] * len(done.cut) + list(done.failed.values())
    columns = {"clip_id": ids, "media": [None] * len(ids), "media_why": why}
    return pa.table(columns, schema=pa.schema([CLIPS.field(name) for name in columns]))
