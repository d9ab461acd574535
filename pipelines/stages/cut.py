"""The cutting stage: CutOrder -> CutDone, the second decode, of what is kept only.

a name that still has the measured bytes -> cutting pass in the sandbox -> media written
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.contract import Clip, Reason, Verdict
from curation.errors import UserError
from curation.inputs.staging import Staged, stage
from curation.media.plan import Encode, Limits
from curation.media.sandbox.sandbox import Sandbox
from curation.pyramid.history.failures import failure, reason_of
from curation.pyramid.storage.files import Files
from curation.pyramid.storage.fragments import write_media_fragments
from curation.pyramid.storage.locks import writing
from curation.pyramid.takedown import tombstones
from curation.retry import retrying
from pipelines.stages.base import Report
from pipelines.stages.results import CutDone, CutOrder, Place, our_fault

_OF_A_DECODER = frozenset({Reason.CRASHED, Reason.MEMORY_LIMIT, Reason.CPU_LIMIT})
"""What a decoder of sound may end as over hostile data. A time-out may be the machine's: it is tried again."""

_TAKEN_DOWN = Verdict(Reason.TAKEN_DOWN)


@dataclass(frozen=True, slots=True)
class CutStage:
    """Settings of `Cut`."""

    place: Place
    encode: Encode
    limits: Limits

    def __call__(self) -> Cut:
        return Cut(self)

    def give_up(self, item: CutOrder, verdict: Verdict) -> CutDone:
        """What is written of an order that no worker survives."""
        return _given_up(item, verdict)


class Cut:
    """CutOrder -> CutDone."""

    def __init__(self, settings: CutStage) -> None:
        self._set = settings
        self._sandbox = Sandbox(settings.limits)

    def close(self) -> None:
        """End the decoder."""
        self._sandbox.close()

    def __call__(self, item: CutOrder, report: Report) -> CutDone:
        report(item.sources[0].uri, 0)
        try:
            with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
                return self._cut(item, Path(folder), report)
        except UserError:
            raise
        except Exception as error:
            return _given_up(item, our_fault(error))

    def _cut(self, order: CutOrder, folder: Path, report: Report) -> CutDone:
        if self._taken_down(order):
            return _given_up(order, _TAKEN_DOWN)
        staged = _first_with(order, folder)
        if isinstance(staged, str):
            return CutDone((), None, dict.fromkeys((clip.clip_id for clip in order.clips), staged))
        path = staged.path
        media, failed, decoded = self._encode(path, order, order.clips, report)
        if failed and (changed := staged.changed()) is not None:  # no fault of the clips: the next run tries them again
            return _given_up(order, changed)
        if failed and len(order.clips) > 1:
            # One clip must not take its neighbours with it: try those that are missing one by one.
            missing = [clip for clip in order.clips if clip.clip_id in failed]
            failed = {}
            for clip in missing:
                more, lost, frames = self._encode(path, order, [clip], report)
                media, failed, decoded = media + more, failed | lost, decoded + frames
        silent: dict[str, str] = {}
        for clip in [clip for clip in order.clips if self._may_be_sound(failed.get(clip.clip_id, ""))]:
            # Nor must its sound take a clip with it.
            more, _, frames = self._encode(path, order, [clip], report, replace(self._set.encode, sound="drop"))
            media, decoded = media + more, decoded + frames
            if more:
                silent[clip.clip_id] = failed.pop(clip.clip_id)
        uri, options = self._set.place.uri, self._set.place.storage_options
        if not media:
            return CutDone((), None, failed, decoded, video_id=order.video_id)
        with writing(uri):
            if self._taken_down(order):  # while it was encoded
                return _given_up(order, _TAKEN_DOWN)
            ticket = retrying(f"writing to {uri}", lambda: write_media_fragments(uri, media, options))
        size = sum(len(content) for _, content in media)
        return CutDone(tuple(m[0] for m in media), ticket, failed, decoded, size, without_sound=silent)

    def _may_be_sound(self, why: str) -> bool:
        return self._set.encode.sound != "drop" and reason_of(why) in _OF_A_DECODER

    def _taken_down(self, order: CutOrder) -> bool:
        return order.video_id in tombstones.read(Files(self._set.place.uri, self._set.place.storage_options))

    def _encode(
        self, path: Path, order: CutOrder, clips: Sequence[Clip], report: Report, encode: Encode | None = None
    ) -> tuple[list[tuple[str, bytes]], dict[str, str], int]:
        uri = order.sources[0].uri
        done = self._sandbox.cut(
            path,
            uri.rsplit("/", 1)[-1],
            clips,
            order.plan,
            encode or self._set.encode,
            lambda frames: report(uri, frames),
        )
        if done.verdict is None:
            return list(done.media), {}, done.tally.decoded
        why = failure(done.verdict.reason, done.verdict.detail)
        return [], {clip.clip_id: why for clip in clips}, done.tally.decoded


def _given_up(order: CutOrder, verdict: Verdict) -> CutDone:
    why = failure(verdict.reason, verdict.detail)
    return CutDone((), None, {clip.clip_id: why for clip in order.clips}, video_id=order.video_id)


def _first_with(order: CutOrder, folder: Path) -> Staged | str:
    """A staged file that holds the order's very bytes, from the first of its names that still has them; else why none
    does.
    """
    why = failure(Reason.UNREADABLE, "no source is recorded")
    for number, source in enumerate(order.sources):
        place = folder / str(number)
        place.mkdir()
        staged = stage(source, place)
        if isinstance(staged, Verdict):
            why = failure(staged.reason, staged.detail)
        elif staged.raw.video_id != order.video_id:
            why = failure(Reason.UNREADABLE, f"{source.uri} holds other bytes now")
        else:
            return staged
    return why
