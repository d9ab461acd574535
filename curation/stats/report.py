"""What `gather` found, as one value: for a screen, for figures, and as `stats.json` (docs/stats.md has its keys)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

SCHEMA = 1
"""Version of `stats.json`; raised where a key changes its meaning."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The distribution of a column. `missing`: clips without a value, by why. `quantiles`: by share, within 1.6 %.
    `counts`: exact, from each of `edges` up to the next one; `below` the first edge, `above` the last.
    """

    count: int
    missing: Mapping[str, int]
    least: float | None = None
    most: float | None = None
    mean: float | None = None
    quantiles: Mapping[str, float] | None = None
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    below: int = 0
    above: int = 0


@dataclass(frozen=True, slots=True)
class Values:
    """Clips by a value, the commonest first; `other`: of all further values. `is_exact`: see `counting.Tally`."""

    clips: Mapping[str, int]
    other: int = 0
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Repeated:
    """A caption that several clips have, cut after `gather.LONGEST` characters."""

    caption: str
    clips: int


@dataclass(frozen=True, slots=True)
class Captions:
    """`clips`: with a caption; `missing`: without, by why; `by`: by maker. `texts` different captions are those of
    `clips_alike` clips, each of more than one, and `commonest` the first of them. `words`: the commonest, but for stop
    words, with how often they come.
    """

    clips: int
    missing: Mapping[str, int]
    by: Values
    texts: int
    clips_alike: int
    commonest: tuple[Repeated, ...]
    equal_are_exact: bool
    words: Mapping[str, int]
    words_are_exact: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """The clips of a query. `version`: of the dataset `clips`; `query`: the conditions as text; `hours`: of all clips
    that have a length. `sources`: by host, folder and the user's own columns. `ended_by`: why clips end where they do;
    `not_cut`: clips without a file, by why. `cluster_words`: what is typical of a cluster's captions. `videos` by
    status and `reasons` are of the whole pyramid, for a video without clips is in no tier.
    """

    pyramid: str
    version: int
    tier: str | None
    query: tuple[str, ...]
    caption_by: tuple[str, ...]
    clips: int
    hours: float
    kinds: Mapping[str, int]
    numbers: Mapping[str, Numbers]
    captions: Captions
    sources: Mapping[str, Values]
    ended_by: Mapping[str, int]
    not_cut: Mapping[str, int]
    clusters: Values | None
    cluster_words: Mapping[str, tuple[str, ...]]
    cluster_words_are_exact: bool
    videos: Mapping[str, int]
    reasons: Mapping[str, int]

    @property
    def named_clusters(self) -> Values:
        """The clusters by number and words."""
        found = self.clusters or Values({})
        names = {name: ", ".join(self.cluster_words.get(name, ())) for name in found.clips}
        return replace(found, clips={f"{name}  {names[name]}".rstrip(): count for name, count in found.clips.items()})

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": "stats", "schema": SCHEMA, **asdict(self)}
