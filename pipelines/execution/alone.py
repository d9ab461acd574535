"""One stage on one video or clip, in this process: without Ray, without a journal, and with nothing written that stays.

`replay` (a command) asks for it. The stage is the one of a run, with the settings that the recipe gives it there; what
it writes on the way goes into a pyramid of its own, which ends with the call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from curation.contract import Source
from curation.errors import UserError
from curation.pyramid.history.ledger import Known
from curation.pyramid.storage.lookup import select
from curation.pyramid.store import Pyramid
from curation.rows import nameless_id
from pipelines.config import captions, filters
from pipelines.config.captions import Captions
from pipelines.config.recipe import Recipe
from pipelines.curate import stages
from pipelines.embedding import blocks
from pipelines.execution.orders.cut_orders import ORDER_COLUMNS, orders
from pipelines.stages.base import Claim
from pipelines.stages.caption import CaptionStage
from pipelines.stages.cut import CutStage
from pipelines.stages.embed import ClipsToEmbed, EmbedStage
from pipelines.stages.measure import MeasureStage
from pipelines.stages.pictures import ClipsToCaption, ClipToCaption, PicturesStage
from pipelines.stages.results import CutDone, MeasureDone, Place, Result
from pipelines.stages.score import ClipsToScore, FetchStage, ScoreStage

MEASURE, CUT = "measure", "cut"
Row = Mapping[str, Any]


def measured(recipe: Recipe, video: Row) -> Result:
    """Measure a video, a row of `videos`, by the first of its names that still leads to its content; where none does,
    what came of the last name is said of the video. `UserError` where it has no name, or names of other videos alone.
    """
    found: MeasureDone | None = None
    with _aside(recipe) as place:
        stage = MeasureStage(place, recipe.plan, recipe.limits, "replay", {}, _Nobody())
        with closing(stage()) as measure:
            for uri in video["uris"]:
                result = measure(Source(uri, video["bytes"] or 0), _silent)
                assert isinstance(result, MeasureDone), "nothing is known of its content"
                if result.video["video_id"] == video["video_id"]:
                    return result
                if result.video["video_id"] == nameless_id(uri):  # it could not be read
                    found = replace(result, video=result.video | {"video_id": video["video_id"]})
    if found is None:
        raise UserError(f"no name of video {video['video_id']} leads to it any more", "curate it under a new one")
    return found


def worked(pyramid: Pyramid, recipe: Recipe, clip: Row, stage: str) -> Result:
    """Take a clip, a row of `clips`, through a stage that comes after measuring. `UserError`: the recipe has no such
    stage, or it runs elsewhere.
    """
    if stage == CUT:
        return _cut(pyramid, recipe, clip)
    for filter_ in filters.listed(recipe):
        if filter_.name == stage and filter_.make is not None:
            _check_here(stage, filter_.python)
            item = FetchStage(pyramid)()(ClipsToScore((clip["clip_id"],), (clip["video_id"],)), _silent)
            with closing(ScoreStage(filter_.make, recipe.limits)()) as score:
                return score(item, _silent)
    for block in captions.listed(recipe):
        if block.stage == stage:
            _check_here(stage, block.python)
            return _captioned(pyramid, recipe, clip, block)
    for space in blocks.listed(recipe):
        if space.stage == stage:
            item = ClipsToEmbed((clip["clip_id"],), (clip["video_id"],), (clip["caption"] or "",))
            with closing(EmbedStage(pyramid, space.space, space.by, space.make, recipe.limits)()) as embed:
                return embed(item, _silent)
    there = stages(filters.listed(recipe), CUT, captions.listed(recipe), blocks.listed(recipe))
    raise UserError(f"the recipe {recipe.name} has no stage {stage!r}", f"it has {', '.join(there)}")


def _cut(pyramid: Pyramid, recipe: Recipe, clip: Row) -> Result:
    rows = select(pyramid.dataset("clips"), "clip_id", [clip["clip_id"]], [*ORDER_COLUMNS]).to_pylist()
    found = list(orders(pyramid, rows, recipe.run.hwaccel))
    if not found:
        raise UserError(f"the video of {clip['clip_id']} is not settled yet", "wait for the run that is at it")
    if isinstance(found[0], CutDone):
        return found[0]
    with _aside(recipe) as place, closing(CutStage(place, recipe.encoding, recipe.limits)()) as cut:
        return cut(found[0], _silent)


def _captioned(pyramid: Pyramid, recipe: Recipe, clip: Row, block: Captions) -> Result:
    look = PicturesStage(pyramid, block.prompt, block.frames, block.side, block.cues, recipe.limits)
    length = clip["frames"] / clip["fps"] if clip["fps"] and clip["frames"] else None
    item = ClipsToCaption((ClipToCaption(clip["clip_id"], clip["video_id"], length, clip["motion"]),))
    with closing(CaptionStage(block.name, block.by, block.make(_unbounded), look)()) as caption:
        return caption(item, _silent)


def _check_here(stage: str, python: str | None) -> None:
    if python is not None:
        raise UserError(f"the stage {stage!r} has an environment of its own", "a run alone can start it")


@contextmanager
def _aside(recipe: Recipe) -> Iterator[Place]:
    """A pyramid that takes what a stage writes, and ends with the block."""
    with tempfile.TemporaryDirectory(prefix="ziggurat-replay-") as folder:
        yield Place(Pyramid.create(f"{folder}/p", recipe.pyramid_tiers, recipe.name, scores=recipe.own_scores).uri)


class _Nobody:
    """Answers the measuring stage as if nothing were known. See `measure.Claims`."""

    def __call__(self) -> _Nobody:
        return self

    def known(self, video_id: str) -> Known | None:
        return None

    def stale(self, video_id: str) -> tuple[str, ...]:
        return ()

    def clips(self, video_id: str) -> frozenset[str]:
        return frozenset()

    def claim(self, video_id: str, uri: str) -> tuple[Claim, int]:
        return Claim.GO, 1


def _silent(item: str, frames: int) -> None:
    """Nobody is told how far it is."""


def _unbounded(tokens_in: int, tokens_out: int) -> tuple[int, int]:
    """One clip uses up no budget."""
    return 0, 0
