"""What `bench.curate` compares with: both references run on a video as the pyramid describes it, sound and all."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("imageio_ffmpeg")
pytest.importorskip("scenedetect")

from bench.curate import references
from curation.media.plan import Encode
from curation.pyramid.store import Pyramid
from tests.support import jobs, media, without_ray


def test_both_references_cost_something_for_each_clip(tmp_path: Path) -> None:
    media.make(tmp_path / "a.mp4", seconds=4, audio=True)
    pyramid = str(tmp_path / "p")
    done = without_ray.run(
        "curate", str(tmp_path / "a.mp4"), "--to", pyramid, "--recipe", jobs.recipe(tmp_path), "--json"
    )
    assert done.code == 0, done.error
    rows = Pyramid.open(pyramid).dataset("clips").to_table().to_pylist()
    assert rows
    order = {
        "encode": asdict(Encode(preset="ultrafast")),
        "videos": [{"path": str(tmp_path / "a.mp4"), "clips": rows}],
    }
    bare = references.bare(order)
    assert set(bare) == {str(tmp_path / "a.mp4"), *(row["clip_id"] for row in rows)} and min(bare.values()) > 0
    assert {"check", "shots", "cut", "motion", "blur", "jitter"} == set(references.tools(order))
