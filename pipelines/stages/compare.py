"""The comparing stage: ClipsToCompare -> Compared. Which clips look alike, and how much (docs/duplicates.md).

Candidates are the clips with the nearest signatures; how alike they are is said by their sample frames, which were made
by a decoder that met a stranger's video, so they are decoded where it is: in the sandbox. A clip is compared with those
that have a place already and with those that are compared in this round, so two clips that come one after the other
meet once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.contract import LIKENESS, Reason, Verdict
from curation.embed.groups import Pair
from curation.embed.likeness import NEAR, Look, likeness
from curation.embed.picture import NO_SHAPE
from curation.media.plan import Limits
from curation.media.sandbox.sandbox import Sandbox
from curation.pyramid.history.failures import failure
from curation.pyramid.queries.kinds import kind_of
from curation.pyramid.similar.candidates import Candidates
from curation.pyramid.storage.datasets import NO_VECTOR
from curation.pyramid.storage.lookup import select
from curation.spaces import Space
from pipelines.stages.base import Report
from pipelines.stages.results import why_of
from pipelines.stages.score import SampleError, decoded

PICTURES_OF = 4
"""Clips whose pictures are held at a time: with ten candidates each, those of 44."""


@dataclass(frozen=True, slots=True)
class ClipsToCompare:
    """Clips to be compared, and the video of each. `others`: with which clips each; None: with its candidates."""

    clip_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    others: tuple[tuple[str, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def part(self, start: int, stop: int) -> ClipsToCompare:
        """See `base.Divisible`."""
        others = None if self.others is None else self.others[start:stop]
        return ClipsToCompare(self.clip_ids[start:stop], self.video_ids[start:stop], others)


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of some clips: pairs of one of them with another clip. `failed`: why a clip could not be compared; a
    fault of ours where `fault` says so.
    """

    clip_ids: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)


@dataclass(frozen=True, slots=True)
class CompareStage:
    """Settings of `Compare`. `signed_by`: the maker of the signatures; `settled_by`: what `likeness_by` says of clips
    that have a place; `together`: the clips of this round.
    """

    pyramid: Any
    space: Space
    signed_by: str
    settled_by: str
    together: frozenset[str]
    limits: Limits = field(default_factory=Limits)

    def __call__(self) -> Compare:
        return Compare(self)

    def give_up(self, item: ClipsToCompare, verdict: Verdict) -> Compared:
        """The result of clips that cannot be compared."""
        why = why_of(verdict)
        return Compared(item.clip_ids, failed=dict.fromkeys(item.clip_ids, why), fault=why)


class Compare:
    """See the module."""

    def __init__(self, settings: CompareStage) -> None:
        self._set = settings
        self._candidates = Candidates(settings.pyramid, settings.space, settings.signed_by, NEAR)
        self._sandbox = Sandbox(settings.limits)

    def __call__(self, item: ClipsToCompare, report: Report) -> Compared:
        report(f"{len(item)} clips", 0)
        near, failed = self._near(item)
        pairs: list[Pair] = []
        for start in range(0, len(item), PICTURES_OF):
            part = item.part(start, start + PICTURES_OF)
            report(f"{len(item)} clips", start)
            pairs += self._compared(part, {name: near[name] for name in part.clip_ids if name in near})
        return Compared(item.clip_ids, tuple(pairs), failed)

    def _compared(self, item: ClipsToCompare, near: Mapping[str, Sequence[str]]) -> list[Pair]:
        """The pairs of some clips with those `near` them, their pictures laid on each other."""
        known = self._known({*near, *(other for some in near.values() for other in some)})
        pairs = {
            (clip_id, other)
            for clip_id, some in near.items()
            for other in some
            if clip_id in known and other in known and self._may_be_copies(known[clip_id], known[other])
        }
        looks = self._looks({name for pair in pairs for name in pair}, item.clip_ids)
        told = {pair: likeness(looks[pair[0]], looks[pair[1]]) for pair in sorted(pairs) if looks.keys() >= {*pair}}
        if item.others is not None:  # each is answered: who asks for a pair would ask again
            told = {(clip_id, other): 0.0 for clip_id, some in near.items() for other in some} | told
        return [Pair(*pair, like) for pair, like in told.items()]

    def _near(self, item: ClipsToCompare) -> tuple[dict[str, Sequence[str]], dict[str, str]]:
        """With which clips each one is compared, and why some cannot be."""
        if item.others is not None:
            return dict(zip(item.clip_ids, item.others, strict=True)), {}
        near: dict[str, Sequence[str]] = {**self._candidates.of(item.clip_ids)}
        return near, self._unsigned([clip_id for clip_id in item.clip_ids if clip_id not in near])

    def close(self) -> None:
        """End the decoder."""
        self._sandbox.close()

    def _unsigned(self, clip_ids: Sequence[str]) -> dict[str, str]:
        """Why clips have no signature, but for those without any shape, which are like nothing. What nobody has given a
        reason for is tried again by the next run, and counts as a loss.
        """
        if not clip_ids:
            return {}
        columns = ["clip_id", "space", "by", "why"]
        rows = select(self._set.pyramid.dataset(NO_VECTOR), "clip_id", list(clip_ids), columns).to_pylist()
        ours = [row for row in rows if (row["space"], row["by"]) == (self._set.space.name, self._set.signed_by)]
        whys = dict.fromkeys(clip_ids, failure(Reason.UNREADABLE, "it has no signature"))
        whys |= {row["clip_id"]: row["why"] for row in ours}
        return {clip_id: why for clip_id, why in whys.items() if why != NO_SHAPE}

    def _known(self, clip_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """The rows of those clips that are there."""
        if not clip_ids:
            return {}
        columns = ["clip_id", "video_id", "kind", f"{LIKENESS}_by"]
        rows = select(self._set.pyramid.dataset("clips"), "clip_id", sorted(clip_ids), columns).to_pylist()
        return {row["clip_id"]: row for row in rows}

    def _may_be_copies(self, clip: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether two clips are compared: not an image with a video, not a clip that has its round still to come, and
        not two parts of one video, of which one take with a still camera makes many that look alike.
        """
        is_due = other["clip_id"] in self._set.together or other[f"{LIKENESS}_by"] == self._set.settled_by
        return is_due and clip["video_id"] != other["video_id"] and kind_of(clip) == kind_of(other)

    def _looks(self, clip_ids: Iterable[str], own: Collection[str]) -> dict[str, Look]:
        """The clips to be laid on each other. Of another item's clip whose frames are damaged there is none: what
        becomes of it is said where it is compared itself.
        """
        wanted = sorted(clip_ids)
        stored = {name: frames for name, frames in self._set.pyramid.samples(wanted) if frames}
        signed = self._candidates.signatures(wanted)
        looks: dict[str, Look] = {}
        for name, frames in stored.items():
            try:
                (pictures,) = decoded(self._sandbox, [frames], name)
            except SampleError:
                if name in own:
                    raise
                continue
            looks[name] = Look(pictures, signed.get(name))
        return looks
