"""How many clips wait for a score, for being cut, for a caption or a vector: what a loosened threshold leaves to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from curation.filters.base import NO_SAMPLES
from curation.pyramid.history.failures import PASSING
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from curation.spaces import Space


@dataclass(frozen=True, slots=True)
class Waiting:
    """Counts of clips: `scores` by score, those of none left out; `cut`: clips of the tier that are not cut yet;
    `captions` by block and `vectors` by space, those of none left out.
    """

    scores: Mapping[str, int]
    cut: int
    captions: Mapping[str, int] = field(default_factory=dict)
    vectors: Mapping[str, int] = field(default_factory=dict)

    def as_data(self) -> dict[str, int]:
        """All counts by what is waited for."""
        captions = {f"caption {block}": count for block, count in self.captions.items()}
        vectors = {f"embed {space}": count for space, count in self.vectors.items()}
        return {**self.scores, "cut": self.cut, **captions, **vectors}

    @classmethod
    def of(cls, data: Mapping[str, int]) -> Waiting:
        """From what `as_data` gives."""
        kinds: dict[str, dict[str, int]] = {"caption": {}, "embed": {}, "score": {}}
        for name, count in data.items():
            kind, space, rest = name.partition(" ")  # no score's name has a space in it
            kinds[kind if space else "score"][rest if space else name] = count
        scores = kinds["score"]
        return cls(scores, scores.pop("cut", 0), kinds["caption"], kinds["embed"])

    def __bool__(self) -> bool:
        return bool(self.scores or self.cut or self.captions or self.vectors)

    def __str__(self) -> str:
        parts = [f"{count} for {score}" for score, count in self.scores.items()]
        captions = [f"{count} for a caption by {block}" for block, count in self.captions.items()]
        vectors = [f"{count} for a vector in {space}" for space, count in self.vectors.items()]
        return ", ".join([*parts, *([f"{self.cut} to be cut"] if self.cut else []), *captions, *vectors])


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a score is to be made: the fingerprint of its filter, from which tier on (None: for every clip), and what
    further scores the filter makes with it.
    """

    fingerprint: str
    from_tier: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WantedCaptions:
    """Which captions are to be made: see `Ledger.uncaptioned`."""

    by: str
    tier: str
    outranked_by: tuple[str, ...] = ()
    keep_given: bool = False


@dataclass(frozen=True, slots=True)
class WantedVectors:
    """Which vectors are to be made: see `Ledger.unembedded`."""

    space: Space
    by: str
    tier: str | None = None


def waiting(
    pyramid: Pyramid,
    scores: Mapping[str, Wanted],
    cut_tier: str | None,
    captions: Mapping[str, WantedCaptions] = MappingProxyType({}),
    vectors: Sequence[WantedVectors] = (),
) -> Waiting:
    """What is still to do by a recipe that computes `scores`, cuts the clips of `cut_tier` (None: none) and has
    `captions` and `vectors` made: what the ledger gives the next run to do, with what failed by a fault of ours or of
    the network.
    """
    ledger = Ledger(pyramid)
    counts = {score: _unscored(ledger, score, wanted) for score, wanted in scores.items()}
    uncut = 0 if cut_tier is None else _uncut(ledger, cut_tier)
    told = {block: _uncaptioned(ledger, wanted) for block, wanted in captions.items()}
    left = {block: count for block, count in told.items() if count}
    spaces = {wanted.space.name: _unembedded(ledger, wanted) for wanted in vectors}
    return Waiting(
        {score: count for score, count in counts.items() if count},
        uncut,
        left,
        {space: count for space, count in spaces.items() if count},
    )


def _unscored(ledger: Ledger, score: str, wanted: Wanted) -> int:
    """Clips that the next run scores. Not those without sample frames: every run looks at them, in vain."""
    why, tiers = f"{score}_why", ledger.pyramid.tiers
    batches = ledger.stale_clips(
        score, wanted.fingerprint, tiers, wanted.from_tier, (why,), again=(PASSING,), also=wanted.also
    )
    return sum(said != NO_SAMPLES for batch in batches for said in batch[why].to_pylist())


def _uncaptioned(ledger: Ledger, wanted: WantedCaptions) -> int:
    batches = ledger.uncaptioned(
        wanted.by, wanted.tier, ("clip_id",), (PASSING,), wanted.outranked_by, wanted.keep_given
    )
    return sum(batch.num_rows for batch in batches)


def _unembedded(ledger: Ledger, wanted: WantedVectors) -> int:
    batches = ledger.unembedded(wanted.space, wanted.by, wanted.tier, ("clip_id",), (PASSING,))
    return sum(batch.num_rows for batch in batches)


def _uncut(ledger: Ledger, tier: str) -> int:
    fresh = ledger.pyramid.tier(tier).where(media=None, media_why=None).count()
    return fresh + sum(batch.num_rows for batch in ledger.failed_media(tier, (PASSING,)))
