"""The benchmark of the measuring pass beside a bare decode: each video that is measured is in its line of the table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench.curate import __main__ as curate
from bench.curate import heights
from tests.support import media


def test_every_video_that_is_measured_is_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos, figures = tmp_path / "videos", tmp_path / "figures.json"
    videos.mkdir()
    for name in ("plain.mp4", "scenes.mp4", "letterboxed.mp4"):
        shutil.copyfile(media.sample(name), videos / name)
    (videos / "broken.mp4").write_bytes(media.sample("plain.mp4").read_bytes()[:1000])
    heights.main(["--videos", str(videos), "--rounds", "1", "--json", str(figures)])
    rows = json.loads(figures.read_text())
    assert {row["video"]: row["height"] for row in rows} == {
        "plain.mp4": 180,
        "scenes.mp4": 180,
        "letterboxed.mp4": 240,
    }
    assert all(row["measure_s"] > row["decode_s"] > 0 < row["frames"] for row in rows)
    out = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:2] for line in out[2:]] == [["| 240", "1"], ["| 180", "2"]]


def test_a_line_is_over_all_frames_of_its_height() -> None:
    rows = [
        {"video": "a", "height": 720, "frames": 100, "decode_s": 0.1, "measure_s": 0.2},
        {"video": "b", "height": 720, "frames": 300, "decode_s": 0.7, "measure_s": 1.0},
    ]
    assert list(heights.table(rows))[2:] == ["| 720 | 2 | 400 | 2.00 | 1.00 | 0.8 | 1.50 |"]


def test_the_benchmark_of_curation_runs_it_and_shows_its_table(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copyfile(media.sample("plain.mp4"), videos / "plain.mp4")
    rows = curate.by_height(tmp_path, videos)
    assert [row["video"] for row in rows] == ["plain.mp4"]
    report = {
        "videos": 1,
        "accepted": 1,
        "clips": 1,
        "clip_seconds": 4.0,
        "made": "",
        "runs": [],
        "heights": rows,
        "machine": {"cpu": "", "used": 1, "cores": 1, "load": [0.0]},
        "measuring_only": {"cpu_s": 1.0},
        "references": {"decode_s": 1.0, "decode_accepted_s": 1.0, "encode_s": {}, "tools_s": {}},
        "ocr": {"ms_without_text": 1.0, "ms_with_text": 1.0, "clips_with_text": 0, "load_s": 1.0},
        "clip": "",
    }
    assert "\n".join(heights.table(rows)) in curate.markdown(report)
