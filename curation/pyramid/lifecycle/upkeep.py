"""`ziggurat upkeep`: what makes a pyramid fast and small again, outside a run. One holder at a time.

Commits what killed runs left in the journal, builds and extends indexes, measures the statistics that queries choose
by, compacts all but frames and bytes, merges the small fragments of those (see `compaction`: large ones are
not copied), removes rows that nothing refers to, puts right what two jobs with different plans may have left, and
deletes old versions, files of writers that died, and what the caches (`names`, `search`) have no use for any more.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import VIDEOS, Status
from curation.identity import clip_id, older_clip_id
from curation.pyramid.commits import indexes, journal, tail
from curation.pyramid.commits.beside import row_key
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import names, search
from curation.pyramid.history.names import Names
from curation.pyramid.lifecycle.compaction import compact, hashed
from curation.pyramid.queries import access
from curation.pyramid.storage.columns import writable
from curation.pyramid.storage.datasets import BYTES, of_space
from curation.pyramid.storage.files import is_remote
from curation.pyramid.storage.locks import only_holder
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.storage.transaction import rows_at
from curation.pyramid.store import Pyramid
from curation.retry import is_conflict, retrying
from curation.spaces import Space, mark

if TYPE_CHECKING:
    import lance

_log = logging.getLogger(__name__)

_ATTEMPTS = 5
"""At a compaction while somebody else writes."""


@dataclass(frozen=True, slots=True)
class Upkept:
    """What an upkeep did. `orphans`, `twins`: rows beside `clips` that were removed; `outdated`: vectors of captions
    that are not in force. `redo`: videos marked to be done
    again; `puzzling`: counts that nothing here explains; `copied_bytes`: of frames and clips, to merge small fragments;
    `damaged`: fragments of media that hold a clip whose bytes no longer have their sha256. `bytes_before`,
    `bytes_after`: of the datasets on a local disk, None elsewhere. Merging copies: until the older versions go, of
    which `old_versions` are kept, both lie on the disk.
    """

    orphans: int = 0
    twins: int = 0
    outdated: int = 0
    stale_clips: int = 0
    redo: int = 0
    puzzling: int = 0
    fragments_before: int = 0
    fragments_after: int = 0
    copied_bytes: int = 0
    damaged: int = 0
    freed_bytes: int = 0
    bytes_before: int | None = None
    bytes_after: int | None = None
    old_versions: int = 0


def upkeep(
    pyramid: Pyramid,
    keep: timedelta = timedelta(days=7),
    settle: timedelta = timedelta(hours=1),
    idle: bool = False,
) -> Upkept:
    """Everything in the module's docstring. Run it between runs; jobs that do run are not harmed, but may
    wait.

    Versions older than `keep` go, tagged ones (`Pyramid.pin`) stay. Rows beside `clips` without a clip
    go when they are older than `settle`, for a commit writes them before the clip; and so do files of names, which are
    written before their index. `idle` says that no job is running anywhere: then also files that no version refers to
    go, which may else belong to a commit under way.
    """
    with only_holder(pyramid):
        # First: what a killed run's entries refer to would else be removed as nobody's.
        journal.recover(pyramid)
        retrying(f"columns of clips in {pyramid.uri}", lambda: writable(pyramid, "clips"))  # indexes want them
        redo, stale, puzzling = _settle_plans(pyramid)
        settled = timedelta(0) if idle else settle
        needless = [remove_needless(pyramid, name, settled) for name in (*BYTES, *pyramid.beside)]
        orphans, twins = map(sum, zip(*needless, strict=True))
        outdated = sum(_remove_outdated(pyramid, space, settled) for space in pyramid.about.spaces if space.of_caption)
        before, size = _fragments(pyramid), _bytes(pyramid)
        for name in ("videos", "clips", *pyramid.beside):  # the others hold the bytes
            _compact_rows(pyramid, name)
        merged = [compact(pyramid, name) for name in BYTES]
        for name in pyramid.names:
            _index(pyramid, name)
        measure(pyramid)
        Names(pyramid).keep(pyramid)
        names.tidy(pyramid, settled)
        search.tidy(pyramid)
        freed = sum(clean(pyramid, name, keep, idle) for name in pyramid.names)
        return Upkept(
            orphans=orphans,
            twins=twins,
            outdated=outdated,
            stale_clips=stale,
            redo=redo,
            puzzling=puzzling,
            fragments_before=before,
            fragments_after=_fragments(pyramid),
            copied_bytes=sum(one.copied_bytes for one in merged),
            damaged=sum(one.damaged for one in merged),
            freed_bytes=freed,
            bytes_before=size,
            bytes_after=_bytes(pyramid),
            old_versions=sum(len(pyramid.dataset(name).versions()) - 1 for name in pyramid.names),
        )


def _settle_plans(pyramid: Pyramid) -> tuple[int, int, int]:
    """Compare the clips of done videos with the number in the ledger: (to be done again, clips deleted,
    puzzling).

    Too many: a kill came between a video's row and the deletion of its clips of an earlier plan. Too few:
    another job with another plan took them for its own leftovers.
    """
    redo = deleted = puzzling = 0
    columns = ["video_id", "clips", "fingerprint"]
    done = pc.field("status") == pc.scalar(str(Status.DONE))
    scanner = pyramid.dataset("videos").scanner(columns=columns, filter=done, batch_size=50_000)
    for batch in scanner.to_batches():
        videos = {row["video_id"]: row for row in batch.to_pylist()}
        fields = ["clip_id", "video_id", "start_frame", "end_frame"]
        found = select(pyramid.dataset("clips"), "video_id", list(videos), fields)
        clips: dict[str, list[dict[str, Any]]] = {video_id: [] for video_id in videos}
        for row in found.to_pylist():
            clips[row["video_id"]].append(row)
        for video_id, video in videos.items():
            wanted = video["clips"] or 0
            if len(clips[video_id]) < wanted:
                redo += _mark_undone(pyramid, video_id, video["fingerprint"])
            elif len(clips[video_id]) > wanted:
                stale = [row["clip_id"] for row in clips[video_id] if not _of_plan(row, video["fingerprint"])]
                if len(clips[video_id]) - len(stale) == wanted:
                    deleted += Committer(pyramid).delete_clips(stale)
                else:
                    _log.warning("video has more clips than its ledger row says", extra={"video": video_id})
                    puzzling += 1
    return redo, deleted, puzzling


def _of_plan(clip: dict[str, Any], plan: str | None) -> bool:
    place = clip["video_id"], clip["start_frame"], clip["end_frame"], plan or ""
    return clip["clip_id"] in (clip_id(*place), older_clip_id(*place))


def _mark_undone(pyramid: Pyramid, video_id: str, fingerprint: str | None) -> int:
    """Take the plan's fingerprint from a row, so that the next run does the video again."""
    if fingerprint is None:
        return 0
    _log.warning("video has lost clips: it will be done again", extra={"video": video_id})
    row = pa.table({"video_id": [video_id], "fingerprint": pa.nulls(1, pa.string())}, schema=_UNDONE)
    return Committer(pyramid).commit(Batch(videos=row)).videos


_UNDONE = pa.schema([VIDEOS.field("video_id"), VIDEOS.field("fingerprint")])


def remove_needless(pyramid: Pyramid, name: str, settle: timedelta) -> tuple[int, int]:
    """Delete rows whose clip does not exist, and of those that are one and the same all but the first: (orphans,
    twins).

    Only of those rows that were there `settle` ago already. A twin is left by a kill between an append and the removal
    of what was appended needlessly, or by two that appended at the same moment. Memory: 16 bytes a row; ids meet as
    64-bit hashes, and what is deleted is certain: no equal hash means no clip, and twins are compared by their ids.
    """
    # Opened before `clips` is read: a clip that a commit adds meanwhile is then seen.
    dataset = _as_of(pyramid, name, datetime.now(UTC) - settle)
    if dataset is None:
        return 0, 0
    hashes, addresses = hashed(dataset)
    there, _ = hashed(pyramid.dataset("clips"))
    orphan = ~np.isin(hashes, there)
    orphans = addresses[orphan].tolist()
    values, counts = np.unique(hashes[~orphan], return_counts=True)
    suspects = addresses[np.isin(hashes, values[counts > 1])]
    twins: list[int] = []
    seen: set[tuple[Any, ...]] = set()
    columns = list(row_key(pyramid, name)) if name in pyramid.beside else ["clip_id"]
    for row in access.fetch(dataset, np.sort(suspects), columns, with_row_id=True).to_pylist():
        key = tuple(row[column] for column in columns)
        if key in seen:
            twins.append(row["_rowid"])
        seen.add(key)
    return _delete_rows(pyramid, name, orphans), _delete_rows(pyramid, name, twins)


def _remove_outdated(pyramid: Pyramid, space: Space, settle: timedelta) -> int:
    """Delete vectors of captions that their clips no longer have; how many. Of those that were there `settle` ago.
    Memory: 8 bytes a clip, 16 a vector; clips and captions meet as 64-bit hashes, as in `remove_needless`.
    """
    name = of_space(space.name)
    dataset = _as_of(pyramid, name, datetime.now(UTC) - settle)
    if dataset is None:
        return 0
    parts: list[np.ndarray] = []
    captioned = pc.field("caption").is_valid()
    clips = pyramid.dataset("clips").scanner(columns=["clip_id", "caption"], filter=captioned, batch_size=8192)
    for batch in clips.to_batches():
        pairs = zip(batch["clip_id"].to_pylist(), map(mark, batch["caption"].to_pylist()), strict=True)
        parts.append(np.fromiter(map(hash, pairs), np.int64, batch.num_rows))
    there = np.concatenate(parts) if parts else np.empty(0, np.int64)
    outdated: list[int] = []
    for batch in dataset.scanner(columns=["clip_id", "of"], with_row_id=True, batch_size=65_536).to_batches():
        pairs = zip(batch["clip_id"].to_pylist(), batch["of"].to_pylist(), strict=True)
        hashes = np.fromiter(map(hash, pairs), np.int64, batch.num_rows)
        outdated += batch["_rowid"].to_numpy()[~np.isin(hashes, there)].tolist()
    return _delete_rows(pyramid, name, outdated)


def _delete_rows(pyramid: Pyramid, name: str, addresses: list[int]) -> int:
    """Delete rows by address; how many were there. One that a compaction has moved since waits for another upkeep."""
    deleted = 0
    for some in chunks(addresses, 1000):
        test = rows_at(some)
        deleted += retrying(
            f"removal from {name}", lambda test=test: pyramid.dataset(name).delete(test)["num_deleted_rows"]
        )
    return deleted


def _as_of(pyramid: Pyramid, name: str, moment: datetime) -> lance.LanceDataset | None:
    """A dataset as it was at `moment`, None if it did not exist."""
    local = moment.astimezone().replace(tzinfo=None)
    older = [
        int(version["version"])
        for version in pyramid.dataset(name).versions()
        if isinstance(time := version["timestamp"], datetime) and time <= (moment if time.tzinfo else local)
    ]
    return pyramid.dataset(name, max(older)) if older else None


def _compact_rows(pyramid: Pyramid, name: str) -> None:
    """Compact a dataset of rows, and free what columns took that it has no more. What holds the oldest fragment goes
    last, in a few attempts: every insert names that fragment, and its compaction is refused where one comes between.
    """
    steps = [
        lambda: retrying(f"columns of {name}", lambda: tail.without_dropped(pyramid, name), conflicts=_ATTEMPTS),
        lambda: _compact_tasks(pyramid, name, whole=False),
        lambda: _compact_tasks(pyramid, name, whole=True),
    ]
    for step in steps:
        try:
            step()
        except (OSError, RuntimeError, ValueError) as error:
            if not is_conflict(error):
                raise
            _log.info("%s is written to: what is refused of its compaction waits for another upkeep", name)


def _compact_tasks(pyramid: Pyramid, name: str, whole: bool) -> None:
    from lance.optimize import Compaction

    def once() -> None:
        dataset = pyramid.dataset(name)
        oldest = min((fragment.fragment_id for fragment in dataset.get_fragments()), default=None)
        tasks = Compaction.plan(dataset, {}).tasks
        chosen = [task for task in tasks if whole or all(one.id != oldest for one in task.fragments)]
        if chosen:
            Compaction.commit(pyramid.dataset(name), [task.execute(dataset) for task in chosen])

    retrying(f"compaction of {name}", once, conflicts=_ATTEMPTS)


def _index(pyramid: Pyramid, name: str) -> None:
    """Make the indexes that are missing, extend the others to rows written since."""
    if pyramid.dataset(name).count_rows():
        indexes.renew(pyramid, name)
        indexes.create(pyramid, name, indexes.wanted(pyramid, name))
        indexes.unite(pyramid, name)


def measure(pyramid: Pyramid) -> None:
    statistics = access.measured(pyramid.dataset("clips"), pyramid.scores)
    text = statistics.to_json()
    retrying("statistics", lambda: pyramid.dataset("clips").update_metadata({access.METADATA_KEY: text}))


def clean(pyramid: Pyramid, name: str, keep: timedelta, idle: bool) -> int:
    stats = retrying(
        f"cleaning of {name}",
        lambda: pyramid.dataset(name).cleanup_old_versions(
            # Zero would mean the default of Lance, two weeks.
            older_than=max(keep, timedelta(microseconds=1)),
            delete_unverified=idle,
            error_if_tagged_old_versions=False,
        ),
    )
    return stats.bytes_removed


def _bytes(pyramid: Pyramid) -> int | None:
    """What the datasets take on a local disk; a store would have to be asked for each file."""
    if is_remote(pyramid.uri):
        return None
    files = (path for name in pyramid.names for path in Path(pyramid.dataset_uri(name)).rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)


def _fragments(pyramid: Pyramid) -> int:
    return sum(len(pyramid.dataset(name).get_fragments()) for name in pyramid.names)
