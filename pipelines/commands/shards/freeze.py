"""`ziggurat freeze`: the clips of a tier become a manifest, which training names. Buckets come from `training`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from curation.pyramid.tiering.retier import opened
from curation.pyramid.tiering.tiers import shown
from curation.shards import freezing
from curation.shards.manifest import Manifest
from pipelines.commands.pyramid.conditions import told
from pipelines.commands.pyramid.query import asked, named
from training.data import bucket_table
from training.data.buckets import REMEDIES, Assigner, Bucket, ClipShape, Miss


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat freeze`; `wanted` are the conditions as they were typed."""

    pyramid: str
    name: str
    wanted: Sequence[str] = ()
    tier: str | None = None
    preset: str = "stage1"
    seed: int = 42
    without_captions: bool = False
    caption_by: str | None = None


def freeze(request: Request) -> Manifest:
    """Freeze, and give the head of the manifest that is in the pyramid now."""
    if request.seed < 0:
        raise UserError(f"a seed of {request.seed}", "give 0 or more")
    table = bucket_table.load(request.preset)
    pyramid = opened(request.pyramid)
    query = pyramid.query().where(**asked(pyramid, request.wanted))
    words = told(request.wanted)
    if request.tier:
        query = query.tier(request.tier)
        words = (
            *(f"{column} {shown(bounds)}" for column, bounds in pyramid.tiers.effective(request.tier).items()),
            *words,
        )
    if request.caption_by is not None:
        query = query.captions_by(*named(request.caption_by))
    order = freezing.Order(
        name=request.name,
        tier=request.tier,
        query=words,
        preset=request.preset,
        table=table.to_toml(),
        seed=request.seed,
        made_by=f"ziggurat {importlib.metadata.version('ziggurat')}",
        without_captions=request.without_captions,
        remedies={str(miss): remedy for miss, remedy in REMEDIES.items()},
    )
    return freezing.freeze(pyramid, query, _Assign(Assigner(table, request.seed)), order).manifest


def remedy_of(missed: str) -> str:
    """What to do about clips that have no sample for this reason."""
    known = {**freezing.REMEDIES, **{str(miss): remedy for miss, remedy in REMEDIES.items()}}
    return known.get(missed, "")


@dataclass(frozen=True, slots=True)
class _Assign:
    """`freezing.Assign` by the bucket rule of training."""

    assigner: Assigner

    def __call__(self, number: int, clip: Mapping[str, Any]) -> Bucket | Miss:
        return self.assigner(number, ClipShape.of(clip))
