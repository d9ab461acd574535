"""`[clusters]` of a recipe: by what clips are gathered into clusters, and which of a cluster come first."""

from __future__ import annotations

from pydantic import Field

from curation.contract import CROWDING
from curation.embed import clusters
from curation.identity import fingerprint
from curation.pyramid.similar.clusters import Asked, Fit
from curation.pyramid.tiering.tiers import Tiers
from curation.spaces import Space
from pipelines.config.duplicates_section import Best
from pipelines.config.tomlfile import Section


class ClustersSection(Section):
    """Clusters: clips of one kind, so that a tier can hold back the kinds that there is too much of
    (docs/clusters.md)."""

    space: str = "picture"
    """The space of vectors that is clustered."""
    number: int | None = Field(default=None, ge=1, le=clusters.MOST)
    """Clusters; without it the root of half the number of clips. Those of fewer than five clips are dissolved."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the random numbers of the k-means."""
    tier: str | None = None
    """A cluster's share is one of the clips of this tier. Without it of the first tier that bounds `crowding`, and
    where none does of all clips."""
    best: Best = ("aesthetic",)
    """Of a cluster's clips in one tier those that come first: the greatest number of the first column, of equals of the
    next; `-COLUMN` for the least. Equals come in an order that says nothing."""

    def asked(self, space: Space, by: str) -> Asked:
        """What a fit of these clusters is known by. `by`: the maker of the vectors."""
        return Asked(space.name, by, self.number, self.seed)

    def pool(self, tiers: Tiers) -> str | None:
        """The tier that shares are of; None: all clips."""
        if self.tier is not None:
            return self.tier
        return next((step.name for step in tiers.steps if CROWDING in step.ranges), None)

    def settled_by(self, fit: Fit, pool: str | None) -> str:
        """What `crowding_by` says of a clip: it covers what makes its place but for the other clips."""
        return fingerprint(CROWDING, clusters.VERSION, {"fit": fit.name, "pool": pool, "best": list(self.best)})
