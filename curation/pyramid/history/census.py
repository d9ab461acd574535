"""What a pyramid holds now: videos by what became of them, clips, how many are cut, and each tier's size.

For the end of a run, whose own counts say little of a pyramid that many runs have filled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from curation.pyramid.store import Pyramid


@dataclass(frozen=True, slots=True)
class Census:
    """Counts. `videos`: by status and reason ("" for done)."""

    videos: Mapping[tuple[str, str], int]
    clips: int
    cut: int
    tiers: Mapping[str, int]

    def to_data(self) -> dict[str, object]:
        """For JSON: videos by status, reasons apart."""
        by_status, reasons = apart(self.videos)
        return {
            "videos": by_status,
            "reasons": reasons,
            "clips": self.clips,
            "cut": self.cut,
            "tiers": dict(self.tiers),
        }


def census(pyramid: Pyramid) -> Census:
    """Count; memory is bounded by a batch."""
    tiers = {name: pyramid.tier(name).count() for name in pyramid.tiers.names}
    return Census(videos(pyramid), pyramid.query().count(), pyramid.query().having("media").count(), tiers)


def videos(pyramid: Pyramid) -> dict[tuple[str, str], int]:
    """See `Census.videos`."""
    found: Counter[tuple[str, str]] = Counter()
    for batch in pyramid.dataset("videos").scanner(columns=["status", "reason"]).to_batches():
        reasons = batch["reason"].fill_null("").to_pylist()
        found.update(zip(batch["status"].fill_null("").to_pylist(), reasons, strict=True))
    return dict(sorted(found.items()))


def missing(pyramid: Pyramid) -> dict[str, int]:
    """How many clips have no value of each score, for whatever reason."""
    scores, found = [*pyramid.scores], Counter[str]()
    for batch in pyramid.dataset("clips").scanner(columns=scores).to_batches():
        found.update({score: batch[score].null_count for score in scores})
    return {score: found[score] for score in scores}


def apart(videos: Mapping[tuple[str, str], int]) -> tuple[dict[str, int], dict[str, int]]:
    """Of `Census.videos` the counts by status, and those by reason."""
    by_status: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for (status, reason), count in videos.items():
        by_status[status] += count
        if reason:
            reasons[reason] += count
    return dict(by_status), dict(reasons)
