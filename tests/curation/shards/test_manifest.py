"""A manifest reads back as it was frozen, and whatever was changed in it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from curation.errors import UserError
from curation.shards.manifest import SAMPLES, Bucket, Frozen, Manifest

ROW: dict[str, Any] = {
    "clip_id": "a0",
    "video_id": "v0",
    "kind": "video",
    "media": "00",
    "frames": 60,
    "height": 270,
    "width": 480,
    "fps": 29.97,
    "motion": 3.5,
    "aesthetic": None,
    "caption": "a cat, é",
    "caption_by": "given",
    "resolution": "256px",
    "bucket_frames": 33,
    "ratio": "16:9",
    "bucket_height": 192,
    "bucket_width": 336,
    "batch": 12,
    "interval": 2,
    "bucket_fps": 14.985,
}
HEAD = Manifest(
    name="n",
    pyramid="/p",
    versions={"clips": 3},
    pin="manifest-n",
    tier="256px",
    query=("motion 1..",),
    preset="stage1",
    table="side_multiple = 16\n",
    seed=42,
    samples=0,
    buckets={"256px 33": 2},
    missed={"too short": 1},
    made="2026-11-29T00:00:00+00:00",
    made_by="ziggurat 0",
)


def samples(**changed: Any) -> pa.Table:
    return pa.Table.from_pylist([ROW, ROW | {"clip_id": "a1"} | changed], schema=SAMPLES)


def test_what_is_read_is_what_was_frozen() -> None:
    manifest, content = HEAD.sealed(samples())
    read = Manifest.from_json(manifest.to_json(), "n.json")
    frozen = Frozen.read(read, content)
    assert frozen.manifest == manifest and frozen.samples.equals(samples())
    assert (manifest.samples, manifest.file) == (2, f"n-{manifest.sha256[:12]}.parquet")
    assert Bucket.of(frozen.samples.to_pylist()[0]) == Bucket("256px", 33, 192, 336, 12)


@pytest.mark.parametrize("name", SAMPLES.names)
def test_a_row_that_was_changed_is_told(name: str) -> None:
    manifest, _ = HEAD.sealed(samples())
    other = "x" if pa.types.is_string(SAMPLES.field(name).type) else 7
    _, content = HEAD.sealed(samples(**{name: other}))
    with pytest.raises(UserError, match="is not what n was frozen with"):
        Frozen.read(manifest, content)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"versions": {"clips": 4}}, {"samples": 1}, {"tier": None}])
def test_a_head_that_was_changed_is_told(changed: dict[str, Any]) -> None:
    manifest, content = HEAD.sealed(samples())
    with pytest.raises(UserError, match="is not what n was frozen with"):
        Frozen.read(replace(manifest, **changed), content)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"name": "n"}', b"\xff"])
def test_what_is_no_manifest_is_one_line(content: bytes) -> None:
    with pytest.raises(UserError, match="is no manifest"):
        Manifest.from_json(content, "n.json")


def test_a_manifest_of_before_makers_were_asked_for_is_what_it_was() -> None:
    manifest, content = HEAD.sealed(samples())
    older = json.loads(manifest.to_json())
    assert (older.pop("caption_by"), older.pop("captions"), older["format"]) == ([], {}, 1)
    assert older["sha256"] == "be34aeb20b53b0b6033651e39610322c8af7dea49802674366d04f6e46a81223", (
        "what `HEAD` had before there were these keys"
    )
    assert Frozen.read(Manifest.from_json(json.dumps(older).encode(), "n.json"), content).manifest == manifest
    asked = replace(HEAD, caption_by=("dense",), captions={"dense/m/0": 2}, format=2).sealed(samples())[0]
    assert Manifest.from_json(asked.to_json(), "n.json") == asked and asked.sha256 != manifest.sha256


def test_a_newer_format_and_a_file_cut_short_are_told() -> None:
    manifest, content = HEAD.sealed(samples())
    with pytest.raises(UserError, match="newer Ziggurat"):
        Manifest.from_json(replace(manifest, format=99).to_json(), "n.json")
    with pytest.raises(UserError, match="cannot be read"):
        Frozen.read(manifest, content[:-20])
