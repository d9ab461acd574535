"""How many clips wait for a score or for being cut: what a loosened threshold leaves to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from curation.contract import SCORES
from curation.filters.base import NO_SAMPLES
from curation.pyramid.store import Pyramid
from curation.pyramid.tiers import MEASURES


@dataclass(frozen=True, slots=True)
class Waiting:
    """Counts of clips: `scores` by score, those of none left out; `cut`: clips of the tier that are not cut yet."""

    scores: Mapping[str, int]
    cut: int

    def __bool__(self) -> bool:
        return bool(self.scores or self.cut)

    def __str__(self) -> str:
        parts = [f"{count} for {score}" for score, count in self.scores.items()]
        return ", ".join([*parts, *([f"{self.cut} to be cut"] if self.cut else [])])


def waiting(pyramid: Pyramid, scores: Mapping[str, str | None], cut_tier: str | None) -> Waiting:
    """What is still to do by a recipe that computes `scores`, each from a tier on (None: for every clip), and cuts the
    clips of `cut_tier` (None: none).
    """
    counts = {score: _unscored(pyramid, score, from_tier) for score, from_tier in scores.items()}
    uncut = 0 if cut_tier is None else _uncut(pyramid, cut_tier)
    return Waiting({score: count for score, count in counts.items() if count}, uncut)


def _unscored(pyramid: Pyramid, score: str, from_tier: str | None) -> int:
    """Clips without the score whose cheaper scores let them reach the tier, as `Ledger.stale_clips` finds them."""
    ranges = {} if from_tier is None else pyramid.tiers.effective(from_tier)
    cheaper = (*SCORES[: SCORES.index(score)], *MEASURES)
    reaching = pyramid.query().ranges({column: ranges[column] for column in ranges if column in cheaper})
    missing = reaching.where(**{f"{score}_by": None})
    return missing.count() - missing.where(**{f"{score}_why": NO_SAMPLES}).count()


def _uncut(pyramid: Pyramid, tier: str) -> int:
    return pyramid.tier(tier).where(media=None, media_why=None).count()
