"""Taking videos down: their rows, frames and clips go from every dataset and every version that is not pinned, and
their bytes never come back.

    tombstones -> rows of clips, videos, samples, media -> files without them -> older versions

A deletion of Lance's only marks rows, so files that hold some are written again, and the versions that had the old
files go. A kill at any point leaves tombstones, and the same command does the rest. A run at work may still write
frames and clips that it has in hand: no row says so, and an `upkeep` after it removes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import UserError
from curation.pyramid import journal, tombstones
from curation.pyramid.compaction import rewritten
from curation.pyramid.ledger import History, Ledger
from curation.pyramid.lookup import chunks, select
from curation.pyramid.retry import retrying
from curation.pyramid.store import NAMES, Pyramid
from curation.pyramid.upkeep import clean, only_holder

if TYPE_CHECKING:
    import lance

_BLOBS = ("samples", "media")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went: rows of each dataset, and bytes freed. `pinned`: tags of versions that still have some of it;
    `left`: datasets in which a file with some of it could not be written again.
    """

    videos: int
    clips: int
    samples: int
    media: int
    freed_bytes: int
    pinned: tuple[str, ...]
    left: tuple[str, ...]


def found(pyramid: Pyramid, names: Iterable[str]) -> dict[str, History]:
    """What is known of each video that a name means, by its id: an id, a URI or a file name. UserError where a name
    means none or several. An id that was taken down already is one of a video of which nothing is known.
    """
    ledger, dead, histories = Ledger(pyramid), tombstones.read(pyramid.files), {}
    for name in names:
        history = ledger.history(name)
        videos = [row["video_id"] for row in history.videos] or [name] * (name in dead)
        if not videos:
            raise UserError(f"no video is called {name!r}", "give an id, a URI or a file name; nothing was forgotten")
        if len(videos) > 1:
            raise UserError(f"{name!r} means several videos", f"give an id of {', '.join(videos[:5])}")
        histories[videos[0]] = history
    return histories


def forget(pyramid: Pyramid, video_ids: Collection[str]) -> Forgotten:
    """Take videos down. UserError where an upkeep is at work."""
    with only_holder(pyramid):
        tombstones.add(pyramid.files, video_ids)
        journal.recover(pyramid)  # what killed runs have left of them is left out by now
        clip_ids, pinned = _clips_of(pyramid, video_ids), _pinned(pyramid, video_ids)
        # The names last: as long as the video is known by them, the command can be given again.
        keys = {"media": clip_ids, "samples": clip_ids, "clips": clip_ids, "videos": sorted(video_ids)}
        gone = {name: _deleted(pyramid, name, ids) for name, ids in keys.items()}
        left = tuple(name for name in NAMES if not _without_deleted(pyramid, name))
        freed = sum(clean(pyramid, name, timedelta(0)) for name in NAMES)
        return Forgotten(**gone, freed_bytes=freed, pinned=pinned, left=left)


def _clips_of(pyramid: Pyramid, video_ids: Collection[str]) -> list[str]:
    ids: list[str] = []
    for some in chunks(sorted(video_ids), _AT_ONCE):
        ids += select(pyramid.dataset("clips"), "video_id", some, ["clip_id"])["clip_id"].to_pylist()
    return ids


def _pinned(pyramid: Pyramid, video_ids: Collection[str]) -> tuple[str, ...]:
    """The tags whose versions have one of the videos."""
    tags = sorted(pyramid.dataset("videos").tags.list())
    return tuple(tag for tag in tags if _holds(pyramid.dataset("videos", tag), video_ids))


def _holds(videos: lance.LanceDataset, video_ids: Collection[str]) -> bool:
    ids = pa.array(sorted(video_ids), pa.string())
    return videos.scanner(columns=["video_id"], filter=pc.field("video_id").isin(ids), limit=1).to_table().num_rows > 0


def _deleted(pyramid: Pyramid, name: str, ids: Collection[str]) -> int:
    """Delete rows by key; how many there were."""
    key = "video_id" if name == "videos" else "clip_id"

    def delete(some: list[str]) -> int:
        return pyramid.dataset(name).delete(pc.field(key).isin(pa.array(some, pa.string())))["num_deleted_rows"]

    return sum(
        retrying(f"removal from {name}", lambda some=some: delete(some)) for some in chunks(sorted(ids), _AT_ONCE)
    )


def _without_deleted(pyramid: Pyramid, name: str) -> bool:
    """Write files again that hold deleted rows, whoever deleted them; whether none is left."""
    if name in _BLOBS:
        numbers = {one.fragment_id for one in pyramid.dataset(name).get_fragments() if one.metadata.num_deletions}
        return not numbers or rewritten(pyramid, name, numbers)

    def compact() -> bool:
        from lance.optimize import Compaction

        dataset = pyramid.dataset(name)
        tasks = Compaction.plan(dataset, {"materialize_deletions_threshold": 0.0}).tasks
        chosen = [task for task in tasks if any(one.num_deletions for one in task.fragments)]
        if chosen:
            Compaction.commit(pyramid.dataset(name), [task.execute(dataset) for task in chosen])
        return not any(one.metadata.num_deletions for one in pyramid.dataset(name).get_fragments())

    return retrying(f"compaction of {name}", compact)
