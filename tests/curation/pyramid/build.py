"""Makes rows, batches and small pyramids for the tests of the store; also what their child processes run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from curation.contract import CLIPS, SCORES, VIDEOS
from curation.identity import older_clip_id
from curation.pyramid.commits import commit as commit_module
from curation.pyramid.commits import upsert as upsert_module
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.storage.fragments import write_media_fragments, write_samples_fragments
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers

TIERS = Tiers(
    (
        Tier("low", {"motion": Range(1.0)}),
        Tier("mid", {"sharpness": Range(10.0), "duration_s": Range(2.0, 8.0)}),
        Tier("high", {"motion": Range(3.0, 20.0), "aesthetic": Range(5.0)}),
    )
)
SCORE_COLUMNS = [name for score in SCORES for name in (score, f"{score}_by", f"{score}_why")]


def table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema, *more: str) -> pa.Table:
    """Rows as a table of the columns that occur in them."""
    rows = [dict(row) for row in rows]
    names = {name for row in rows for name in row} | set(more)
    return pa.Table.from_pylist(rows, schema=pa.schema([f for f in schema if f.name in names]))


def clips(*rows: Mapping[str, Any]) -> pa.Table:
    return table(rows, CLIPS)


def videos(*rows: Mapping[str, Any]) -> pa.Table:
    return table(rows, VIDEOS, *VIDEOS.names)


def clip_ids(video_id: str, count: int, plan: str = "plan-1") -> list[str]:
    """Of the older form, which is a hash whatever the video is called."""
    return [older_clip_id(video_id, index * 50, index * 50 + 50, plan) for index in range(count)]


def whole_video(pyramid: Pyramid, video_id: str, count: int, plan: str = "plan-1", uri: str | None = None) -> Batch:
    """A finished video with `count` clips, all cut: the batch that a run would commit."""
    ids, options = clip_ids(video_id, count, plan), pyramid.storage_options
    rows = [
        {
            "clip_id": name,
            "video_id": video_id,
            "start_frame": index * 50,
            "end_frame": index * 50 + 50,
            "start_s": index * 2.0,
            "end_s": index * 2.0 + 3.0,
            "frames": 75,
            "fps": 25.0,
            "motion": float(index),
            "motion_by": "motion-1",
            "sharpness": 20.0,
            "sharpness_by": "blur-1",
            "aesthetic_why": "weights missing",
            "media": None,
        }
        for index, name in enumerate(ids)
    ]
    row = {
        "video_id": video_id,
        "uris": [uri or f"/in/{video_id}.mp4"],
        "modified": [1.0],
        "bytes": 1000,
        "status": "done",
        "clips": count,
        "fingerprint": plan,
        "attempts": 1,
    }
    return Batch(
        media=[write_media_fragments(pyramid.uri, ((name, name.encode() * 100) for name in ids), options)],
        samples=[write_samples_fragments(pyramid.uri, ((name, [b"1", b"2", b"3"]) for name in ids), options)],
        clips=clips(*rows),
        videos=videos(row),
    )


JPEG, PNG = b"\xff\xd8\xff\xe0 a picture", b"\x89PNG\r\n\x1a\n a picture"


def image_row(name: str, video_id: str, **values: Any) -> dict[str, Any]:
    """A row of `clips` of an image: one frame, no length, no rate, no motion, no jitter."""
    row = {"clip_id": name, "video_id": video_id, "kind": "image", "shot": 0, "start_frame": 0, "end_frame": 1}
    row |= {"start_s": 0.0, "end_s": None, "fps": None, "frames": 1, "width": 801, "height": 601, "key_s": 0.0}
    row |= {"motion": None, "motion_why": "image", "jitter": None, "jitter_why": "image", "media": None}
    return row | {"sharpness": 20.0, "sharpness_by": "blur-1"} | values


def whole_image(pyramid: Pyramid, video_id: str, content: bytes = JPEG, **values: Any) -> Batch:
    """A finished image, kept as `content`: the batch that a run would commit."""
    name, options = older_clip_id(video_id, 0, 1, "plan-1"), pyramid.storage_options
    row = {"video_id": video_id, "uris": [f"/in/{video_id}.webp"], "modified": [1.0], "bytes": 1000}
    row |= {"status": "done", "clips": 1, "fingerprint": "plan-1", "attempts": 1}
    return Batch(
        media=[write_media_fragments(pyramid.uri, [(name, content)], options)],
        samples=[write_samples_fragments(pyramid.uri, [(name, [JPEG])], options)],
        clips=clips(image_row(name, video_id, **values)),
        videos=videos(row),
    )


def submit_same_content(uri: str, name: str, count: int, barrier: Any) -> None:
    """Child: submit the same two contents under many names."""
    pyramid = Pyramid.open(uri)
    pyramid.dataset("videos")
    barrier.wait()
    for index in range(count):
        for video_id in ("v1", "v2"):
            batch = whole_video(pyramid, video_id, 2, uri=f"/{name}/{index}.mp4")
            Committer(pyramid).commit(batch)


def fill_score(uri: str, score: str, ids: list[str], barrier: Any) -> None:
    """Child: fill one score column of all clips, in small updates."""
    pyramid = Pyramid.open(uri)
    barrier.wait()
    for start in range(0, len(ids), 5):
        rows = [{"clip_id": name, score: 7.0, f"{score}_by": f"{score}-1"} for name in ids[start : start + 5]]
        Committer(pyramid).commit(Batch(clip_updates=[clips(*rows)]))


def commit_under_plan(uri: str, names: list[str], plan: str, barrier: Any) -> None:
    """Child: commit videos, all under one plan."""
    pyramid = Pyramid.open(uri)
    barrier.wait()
    for name in names:
        Committer(pyramid).commit(whole_video(pyramid, name, 3, plan))


def commit_videos(uri: str, names: list[str], count: int) -> None:
    """Child: commit one video after the other."""
    pyramid = Pyramid.open(uri)
    for name in names:
        Committer(pyramid).commit(whole_video(pyramid, name, count))


def die_in_commit(uri: str, step: int) -> None:
    """Child: kill -9 itself in the middle of a commit, before its `step`-th write to a dataset (from 0)."""
    pyramid = Pyramid.open(uri)
    batch = whole_video(pyramid, "v1", 3)
    done = 0

    def retrying(what: str, action: Any) -> Any:
        nonlocal done
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return action()

    commit_module.retrying = retrying
    upsert_module.retrying = retrying
    Committer(pyramid).commit(batch)
