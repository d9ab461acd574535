"""Generated pyramids of any size for `bench.growth`: rows as a run leaves them, ids as the product makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.contract import CLIPS, SAMPLES, SCORES, VIDEOS, Source
from curation.identity import clip_id
from curation.pyramid.commits import indexes
from curation.pyramid.commits.commit import Batch
from curation.pyramid.history import names, search
from curation.pyramid.queries import access
from curation.pyramid.storage.datasets import BYTES, media_schema
from curation.pyramid.storage.fragments import write_media_fragments, write_samples_fragments
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers

PLAN = "plan-1-00000000"
CLIPS_A_VIDEO = 5
TIERS = Tiers((Tier("moving", {"motion": Range(2.0)}), Tier("fair", {"aesthetic": Range(4.5)})))
"""`aesthetic` is for clips of the first tier alone: about a third of all clips never get one."""
BY = {score: f"{score}-1-00000000" for score in SCORES}
_BATCH = 20_000
_MEDIA = b"\x00" * 64


def build(folder: Path, rows: int) -> Pyramid:
    """The pyramid of `rows` clips in `folder`, with the indexes and statistics that `upkeep` makes; made once. One that
    was there forgets what starts and searches have kept, for the first ones are measured too.
    """
    import lance

    found = Pyramid.find(folder)
    if found is not None and found.dataset("videos").count_rows():
        for kept in (names.FOLDER, search.FOLDER):
            found.files.remove_folder(kept)
        return found
    pyramid = Pyramid.open_or_create(folder, TIERS, "bench")
    for name in (*BYTES, "clips", "videos"):  # `videos` last: it says that the others are whole
        batches = (table(name, start, min(_BATCH, rows - start)) for start in range(0, rows, _BATCH))
        first = table(name, 0, CLIPS_A_VIDEO).schema
        reader = pa.RecordBatchReader.from_batches(first, (one for some in batches for one in some.to_batches()))
        lance.write_dataset(reader, pyramid.dataset_uri(name), mode="append")
        indexes.create(pyramid, name, indexes.wanted(pyramid, name))
    statistics = access.measured(pyramid.dataset("clips"), list(BY))
    pyramid.dataset("clips").update_metadata({access.METADATA_KEY: statistics.to_json()})
    return pyramid


def video_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def source(number: int) -> Source:
    return Source(f"/in/{number:09}.mp4", 1000 + number, 1.0)


def table(name: str, start: int, count: int) -> pa.Table:
    """Rows of a dataset for `count` clips from number `start` on, both multiples of CLIPS_A_VIDEO."""
    import lance

    numbers = range(start, start + count)
    if name == "videos":
        return pa.Table.from_pylist([_video(number // CLIPS_A_VIDEO) for number in numbers[::CLIPS_A_VIDEO]], VIDEOS)
    ids = pa.array([clip_name(number) for number in numbers])
    if name == "samples":
        return pa.table([ids, pa.array([[b"1", b"2", b"3"]] * count, pa.list_(pa.binary()))], SAMPLES)
    if name == "media":
        digest = hashlib.sha256(_MEDIA).hexdigest()
        blobs: Any = lance.blob_array([_MEDIA] * count)
        sizes = pa.array(np.full(count, len(_MEDIA)))
        return pa.Table.from_arrays([ids, blobs, sizes, pa.array([digest] * count)], schema=media_schema())
    return _clips(numbers, ids)


def clip_name(number: int) -> str:
    place = number % CLIPS_A_VIDEO
    return clip_id(video_id(number // CLIPS_A_VIDEO), 50 * place, 50 * place + 50, PLAN)


def _video(number: int) -> dict[str, Any]:
    named = source(number)
    return {
        "video_id": video_id(number),
        "uris": [named.uri],
        "modified": [named.modified],
        "bytes": named.bytes,
        "status": "done",
        "clips": CLIPS_A_VIDEO,
        "attempts": 1,
        "fingerprint": PLAN,
    }


def _clips(numbers: range, ids: pa.Array) -> pa.Table:
    size, rng = len(numbers), np.random.default_rng(numbers.start)
    place = np.array(numbers) % CLIPS_A_VIDEO
    scores = {
        "motion": rng.lognormal(1.2, 0.8, size),
        "sharpness": rng.lognormal(5, 1, size),
        "jitter": rng.lognormal(0.5, 0.7, size),
        "text_area": rng.beta(0.6, 8, size),
        "aesthetic": rng.normal(4.9, 0.7, size),
    }
    columns: dict[str, pa.Array] = {
        "clip_id": ids,
        "video_id": pa.array([video_id(number // CLIPS_A_VIDEO) for number in numbers]),
        "plan": pa.array([PLAN] * size),
        "start_frame": pa.array(50 * place),
        "end_frame": pa.array(50 * place + 50),
        "start_s": pa.array(2.0 * place),
        "end_s": pa.array(2.0 * place + 3),
        "width": pa.array(np.full(size, 1280, np.int32)),
        "height": pa.array(np.full(size, 720, np.int32)),
        "media": pa.array([hashlib.sha256(_MEDIA).hexdigest()] * size),
    }
    still = scores["motion"] < 2.0
    for name, values in scores.items():
        left_out = still if name == "aesthetic" else None
        columns[name] = pa.array(values.astype(np.float32), mask=left_out)
        columns[f"{name}_by"] = pa.array(np.full(size, BY[name], object), pa.string(), mask=left_out)
    return pa.table([columns.get(f.name, pa.nulls(size, f.type)) for f in CLIPS], schema=CLIPS)


def fresh(pyramid: Pyramid, videos: range) -> Batch:
    """What a run commits for new videos: their clips without `aesthetic`, frames, media and rows of the ledger."""
    numbers = range(videos.start * CLIPS_A_VIDEO, videos.stop * CLIPS_A_VIDEO)
    clips = table("clips", numbers.start, len(numbers))
    for name in ("aesthetic", "aesthetic_by"):
        clips = clips.set_column(
            CLIPS.get_field_index(name), CLIPS.field(name), pa.nulls(len(clips), CLIPS.field(name).type)
        )
    ids = clips["clip_id"].to_pylist()
    parts = [ids[start : start + CLIPS_A_VIDEO] for start in range(0, len(ids), CLIPS_A_VIDEO)]
    return Batch(
        media=[write_media_fragments(pyramid.uri, ((name, _MEDIA) for name in some)) for some in parts],
        samples=[write_samples_fragments(pyramid.uri, ((name, [b"1"] * 3) for name in some)) for some in parts],
        clips=clips,
        videos=table("videos", numbers.start, len(numbers)),
    )


def scored(clip_ids: list[str]) -> pa.Table:
    """Values of `aesthetic` for clips that exist."""
    made_by = [BY["aesthetic"]] * len(clip_ids)
    columns = {"clip_id": clip_ids, "aesthetic": [5.0] * len(clip_ids), "aesthetic_by": made_by}
    return pa.table(columns, schema=pa.schema([CLIPS.field(name) for name in columns]))


def clips_of(videos: Iterable[int]) -> Iterator[str]:
    """The ids of the clips of some videos, given by number."""
    for number in videos:
        yield from (clip_name(number * CLIPS_A_VIDEO + place) for place in range(CLIPS_A_VIDEO))
