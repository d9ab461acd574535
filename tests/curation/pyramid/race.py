"""Writers that race for the same clips, may be killed at any instant, and log what they were told."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pyarrow as pa

from curation.contract import CLIPS
from curation.pyramid.commits import tail
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.store import Pyramid

COLUMNS = ("first_check", "last_check", "all_check", "start_frame")
"""The writer's own column of numbers; of clips any number of writers fill different ones."""


def name_of(key: int) -> tuple[str, str]:
    """(clip_id, video_id) of a key: five clips a video."""
    return f"{key // 5:04x}c{key:07}", f"{key // 5:04x}v"


def rows_of(batch: dict[str, int], column: str) -> pa.Table:
    rows = [
        {"clip_id": name_of(int(key))[0], "video_id": name_of(int(key))[1], column: value}
        for key, value in batch.items()
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([CLIPS.field(n) for n in ("clip_id", "video_id", column)]))


def write(uri: str, number: int, until: float, log: str, seed: int, keys: int) -> None:
    """Child: commit random clips with random values of the writer's column until the time is up."""
    tail.EVERY = 4
    committer, rng = Committer(Pyramid.open(uri)), random.Random(seed)
    with open(log, "a") as file:
        while time.time() < until:
            some = rng.sample(range(keys), rng.randrange(1, 40))
            batch = {str(key): rng.randrange(1 << 40) for key in some}
            print(json.dumps(["try", batch]), file=file, flush=True)
            committer.commit(Batch(clips=rows_of(batch, COLUMNS[number])))
            print('["done"]', file=file, flush=True)


def keep_up(uri: str, until: float) -> None:
    """Child: upkeep over and over."""
    pyramid = Pyramid.open(uri)
    while time.time() < until:
        time.sleep(0.3)
        if pyramid.dataset("clips").count_rows():
            upkeep(pyramid)


def lost(pyramid: Pyramid, logs: list[Path]) -> list[str]:
    """Values that a writer was told are there and that are not, and clips that are there twice or not found by index.

    Of a writer that was killed in a commit, the value it was writing may be there or not.
    """
    rows = pyramid.dataset("clips").to_table().to_pylist()
    found = {row["clip_id"]: row for row in rows}
    wrong = [] if len(found) == len(rows) else [f"{len(rows)} rows of {len(found)} clips"]
    for number, log in enumerate(logs):
        for key, allowed in _allowed(log).items():
            value = found.get(name_of(int(key))[0], {}).get(COLUMNS[number])
            if value not in allowed:
                wrong.append(f"{key}: {value} is none of {allowed}")
    videos = sorted({row["video_id"] for row in rows})
    for video_id in videos:
        expected = sorted(row["clip_id"] for row in rows if row["video_id"] == video_id)
        if sorted(pyramid.where(video_id=video_id).ids()) != expected:
            wrong.append(f"the index of {video_id} hides a clip")
    return wrong


def _allowed(log: Path) -> dict[str, set[int | None]]:
    """By key, the values that may be there after what a log tells."""
    allowed: dict[str, set[int | None]] = {}
    pending: dict[str, int] = {}
    for kind, *rest in map(json.loads, log.read_text().splitlines()):
        for key, value in pending.items():
            allowed[key] = {value} if kind == "done" else {*allowed.get(key, {None}), value}
        pending = {} if kind == "done" else rest[0]
    for key, value in pending.items():
        allowed[key] = {*allowed.get(key, {None}), value}
    return allowed
