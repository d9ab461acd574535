"""The captioning stage: ClipsToCaption | PicturedClips -> Captioned, by a captioner that works on many clips at a time.

What a clip is asked with is made in this worker, by `pictures.Pictures`, or in a stage before it, for an engine whose
environment reads no pyramid. Results come as answers do, a few seconds' worth in each, so a kill loses what is in the
air and little more. An answer is its clip's by the id that it bears, and each clip of an item is in exactly one result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from curation.caption.base import Asked, Captioner, Left, Said
from curation.contract import CAPTIONS, CLIPS, Verdict
from curation.errors import UserError
from curation.pyramid.history.failures import NoCaption, reason_of
from pipelines.stages.base import Report
from pipelines.stages.pictures import ClipsToCaption, PicturedClips, Pictures, PicturesStage, none
from pipelines.stages.results import Captioned, why_of

HOLD_S = 5.0
HOLD_CLIPS = 64
"""How long, and how many, answers are held together before they are a result."""


@dataclass(frozen=True, slots=True)
class CaptionStage:
    """Settings of `Caption`. `block`, `by`: whose captions these are; `make` makes the captioner in the worker. `look`:
    what makes the pictures there, None where items come with theirs.
    """

    block: str
    by: str
    make: Callable[[], Captioner]
    look: PicturesStage | None = None

    def __call__(self) -> Caption:
        return Caption(self, self.make(), None if self.look is None else self.look())

    def give_up(self, item: ClipsToCaption | PicturedClips, verdict: Verdict) -> Captioned:
        """The result of clips that cost their workers."""
        return _captioned(self, [none(clip, why_of(verdict)) for clip in item.clips], item, why_of(verdict))


class Caption:
    """See the module. `stream` is the way in; a call gives what came of an item in one result."""

    def __init__(self, settings: CaptionStage, captioner: Captioner, look: Pictures | None = None) -> None:
        self._set, self._captioner, self._look = settings, captioner, look

    def __call__(self, item: ClipsToCaption | PicturedClips, report: Report) -> Captioned:
        """Of one clip; more of them are streamed."""
        assert len(item) == 1, "an item of several clips has several results"
        (result,) = self.stream(item, report)
        return result

    def stream(self, item: ClipsToCaption | PicturedClips, report: Report) -> Iterator[Captioned]:
        """See `base.Streaming`."""
        if self._captioner.is_spent:
            yield Captioned(self._set.block, left=len(item))
            return
        held: list[Said] = []
        left, done, began = 0, 0, time.monotonic()
        try:
            for said in self._captioner.caption(self._asked(item, held)):
                if isinstance(said, Said):
                    held.append(said)
                elif isinstance(said, Left):
                    left += 1
                report(f"{self._set.block}: {len(item)} clips", done + len(held) + left)
                if held and (time.monotonic() - began >= HOLD_S or len(held) >= HOLD_CLIPS):
                    yield from self._results(held, item)
                    done, began = done + len(held), time.monotonic()
                    held.clear()
        except UserError:
            yield from self._results(held, item)  # what has come is paid for
            raise
        yield from self._results(held, item)
        if left:
            yield Captioned(self._set.block, left=left)

    def close(self) -> None:
        """End the decoder and the captioner."""
        if self._look is not None:
            self._look.close()
        self._captioner.close()

    def _asked(self, item: ClipsToCaption | PicturedClips, held: list[Said]) -> Iterator[Asked]:
        """What is asked of each clip, when the captioner has room for it; what cannot be asked goes to `held`."""
        if isinstance(item, PicturedClips):
            found: Iterable[Asked | Said] = item.seen
        else:
            assert self._look is not None, "clips without pictures need somebody who looks"
            found = self._look.of(item)
        for one in found:
            if isinstance(one, Said):
                held.append(one)
            else:
                yield one

    def _results(self, said: Sequence[Said], item: ClipsToCaption | PicturedClips) -> Iterator[Captioned]:
        """What was said of some clips as results: one of all answers, and one for each cause by which none came."""
        by_fault: dict[str | None, list[Said]] = {
            None: []
        }  # first, for a fault is doubted until something else is done
        for one in said:
            by_fault.setdefault(one.why if _is_fault(one.why) else None, []).append(one)
        for fault, some in by_fault.items():
            if some:
                yield _captioned(self._set, some, item, fault)


def _is_fault(why: str | None) -> bool:
    """Whether a clip has no caption by no doing of its own, nor of what the model said of it."""
    return why is not None and (reason_of(why) is not None or why.startswith(NoCaption.REFUSED))


def _captioned(
    settings: CaptionStage, said: Sequence[Said], item: ClipsToCaption | PicturedClips, fault: str | None
) -> Captioned:
    videos: Mapping[str, str] = {clip.clip_id: clip.video_id for clip in item.clips}
    now = datetime.now(UTC)
    clips = [
        {"clip_id": one.clip_id, "caption": one.caption, "caption_by": settings.by, "caption_why": one.why}
        for one in said
    ]
    rows = [
        {
            "clip_id": one.clip_id,
            "by": settings.by,
            "caption": one.caption,
            "why": one.why,
            "detail": json.dumps(one.detail(), ensure_ascii=False),
            "made_at": now,
        }
        for one in said
    ]
    return Captioned(
        settings.block,
        pa.Table.from_pylist(clips, schema=pa.schema([CLIPS.field(name) for name in clips[0]])),
        pa.Table.from_pylist(rows, schema=CAPTIONS),
        fault,
        tuple(videos[one.clip_id] for one in said),
        tokens_in=sum(one.tokens_in or 0 for one in said),
        tokens_out=sum(one.tokens_out or 0 for one in said),
        usd=sum(one.usd or 0.0 for one in said),
    )
