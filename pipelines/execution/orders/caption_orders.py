"""What is captioned: the clips that a block of captions wants, as its stages take them, and these stages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from curation.caption.budget import Purse
from curation.media.plan import Limits
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.storage.lookup import chunks
from curation.pyramid.store import Pyramid
from pipelines.config.captions import Captions
from pipelines.execution.ray_data import StageSpec
from pipelines.stages.caption import CaptionStage
from pipelines.stages.pictures import ClipsToCaption, ClipToCaption, PicturesStage

COLUMNS = ("clip_id", "video_id", "motion", "fps", "frames")

AHEAD = 8
"""Clips of an item, for each request at a time: the stage waits for the slowest of an item at its end."""

AHEAD_OF_SEVERAL = 4
"""The same where a worker has the next item in hand: it waits for nobody, and items with their pictures are large."""


def wanted(pyramid: Pyramid, block: Captions, again: Collection[str], remember: bool = True) -> Iterator[ClipToCaption]:
    """The clips that lack a caption of the block. `again`, `remember`: see `Ledger`."""
    ledger = Ledger(pyramid, remember=remember)
    batches = ledger.uncaptioned(block.by, block.tier, COLUMNS, again, block.outranked_by, block.keep_given)
    for batch in batches:
        for row in batch.to_pylist():
            length = row["frames"] / row["fps"] if row["fps"] and row["frames"] else None
            yield ClipToCaption(row["clip_id"], row["video_id"], length, row["motion"])


def items(clips: Iterable[ClipToCaption], block: Captions) -> Iterator[ClipsToCaption]:
    """The same, as many together as keep the engine busy."""
    ahead = AHEAD if block.python is None else AHEAD_OF_SEVERAL
    for some in chunks(clips, ahead * block.settings.concurrency):
        yield ClipsToCaption(tuple(some))


def stages(block: Captions, pyramid: Pyramid, limits: Limits, purse: Purse) -> list[StageSpec]:
    """The stages that caption a block's clips. An engine in an environment of its own is given the pictures, and has
    two items in hand, so that it need not wait for the last clips of one. `limits`: of decoding sample frames.
    """
    look = PicturesStage(pyramid, block.prompt, block.frames, block.side, block.cues, limits)
    settings = CaptionStage(block.name, block.by, block.make(purse), look if block.python is None else None)
    spec = StageSpec(block.stage, settings, gpus=block.gpus, give_up=settings.give_up, workers=block.workers)
    if block.python is None:
        return [spec]
    assert block.cpus is not None, "a block with an environment of its own says what a worker holds"
    there = replace(spec, python=block.python, cpus=block.cpus, at_once=2)
    return [StageSpec("pictures", look, give_up=settings.give_up), there]
