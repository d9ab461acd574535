"""What a model is asked about clips, with their pictures: ClipsToCaption -> PicturedClips.

Sample frames were made by a decoder that met a stranger's video, so they are decoded where it is, in the sandbox, and
what goes on is encoded anew of the pixels. `Caption` looks in its own worker, clip by clip, where it can; an engine
that lives in an environment of its own, which reads no pyramid, has this stage before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from curation.caption.base import Asked, Said
from curation.caption.pictures import chosen, reduced
from curation.caption.prompts import Prompt
from curation.errors import UserError
from curation.filters.base import NO_SAMPLES
from curation.media.plan import Limits
from curation.media.sandbox.sandbox import Sandbox
from pipelines.stages.base import Report
from pipelines.stages.results import our_fault, why_of
from pipelines.stages.score import SampleError


@dataclass(frozen=True, slots=True)
class ClipToCaption:
    """A clip that wants a caption, and what was measured of it. `length_s`, `motion`: None of an image."""

    clip_id: str
    video_id: str
    length_s: float | None = None
    motion: float | None = None


@dataclass(frozen=True, slots=True)
class ClipsToCaption:
    """Clips that are captioned side by side."""

    clips: tuple[ClipToCaption, ...]

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(clip.clip_id for clip in self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    def part(self, start: int, stop: int) -> ClipsToCaption:
        """See `base.Divisible`."""
        return replace(self, clips=self.clips[start:stop])


@dataclass(frozen=True, slots=True)
class PicturedClips:
    """Clips with what is asked of each, or why nothing can be."""

    clips: tuple[ClipToCaption, ...]
    seen: tuple[Asked | Said, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def part(self, start: int, stop: int) -> PicturedClips:
        """See `base.Divisible`."""
        return replace(self, clips=self.clips[start:stop], seen=self.seen[start:stop])


@dataclass(frozen=True, slots=True)
class PicturesStage:
    """Settings of `Pictures`. `frames`, `side`: what the model sees; `cues`: whether the prompt is told what was
    measured.
    """

    pyramid: Any
    prompt: Prompt
    frames: int
    side: int
    cues: bool = False
    limits: Limits = field(default_factory=Limits)

    def __call__(self) -> Pictures:
        return Pictures(self)


class Pictures:
    """See the module."""

    def __init__(self, settings: PicturesStage) -> None:
        self._set = settings
        self._sandbox = Sandbox(settings.limits)

    def __call__(self, item: ClipsToCaption, report: Report) -> PicturedClips:
        """All of an item at once."""
        report(f"{len(item)} clips", 0)
        return PicturedClips(item.clips, tuple(self.of(item)))

    def of(self, item: ClipsToCaption) -> Iterator[Asked | Said]:
        """What is asked of each clip, in order, or why nothing can be; each when it is taken."""
        stored = dict(self._set.pyramid.samples([clip.clip_id for clip in item.clips]))
        for clip in item.clips:
            frames = chosen(stored.get(clip.clip_id) or (), self._set.frames)
            if not frames:
                yield none(clip, NO_SAMPLES)
                continue
            try:
                pictures = self._sandbox.pictures(frames, clip.clip_id)
                whole = tuple(reduced(one, self._set.side) for one in pictures if one is not None)
                if len(whole) < len(frames):
                    raise SampleError("a sample frame cannot be decoded")
            except UserError:
                raise
            except Exception as error:
                yield none(clip, why_of(our_fault(error)))
                continue
            cues = self._set.prompt.cues(clip.length_s, clip.motion) if self._set.cues else ()
            yield Asked(clip.clip_id, whole, cues)

    def close(self) -> None:
        """End the decoder. The stage can still be called: it starts another."""
        self._sandbox.close()


def none(clip: ClipToCaption, why: str) -> Said:
    """A clip without a caption, and why."""
    return Said(clip_id=clip.clip_id, why=why)
