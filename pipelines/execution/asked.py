"""What workers ask while they run: the ledger's answers and the coordinator's, for `measure` and for `caption`.

Each is sent to a worker as it is, and asks Ray's actor there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.pyramid.history.ledger import Known, Ledger
from curation.pyramid.store import Pyramid
from pipelines.stages.base import Claim


@dataclass(frozen=True, slots=True)
class Purse:
    """See `budget.Purse`: the coordinator's count of what a block of captions has used."""

    coordinator: Any
    block: str

    def __call__(self, tokens_in: int, tokens_out: int) -> tuple[int, int]:
        import ray

        return ray.get(self.coordinator.spend.remote(self.block, tokens_in, tokens_out))


@dataclass(frozen=True, slots=True)
class Claims:
    """Makes the claims that a measuring worker asks: the ledger's answers and the coordinator's."""

    pyramid: Pyramid
    coordinator: Any
    made_by: Mapping[str, str]

    def __call__(self) -> Claims:
        return self

    def known(self, video_id: str) -> Known | None:
        return Ledger(self.pyramid).lookup([video_id]).get(video_id)

    def stale(self, video_id: str) -> tuple[str, ...]:
        columns = [f"{score}_by" for score in self.made_by]
        rows = self.pyramid.where(video_id=video_id).columns(*columns).to_table()
        return tuple(
            score
            for score, by in self.made_by.items()
            if any(found not in (by, None) for found in rows[f"{score}_by"].to_pylist())
        )

    def clips(self, video_id: str) -> frozenset[str]:
        return frozenset(self.pyramid.where(video_id=video_id).ids())

    def claim(self, video_id: str, uri: str) -> tuple[Claim, int]:
        import ray

        return ray.get(self.coordinator.claim.remote(video_id, uri))
