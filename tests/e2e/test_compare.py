"""Two recipes on the same sources, compared as a user does it: sizes, clips that moved, a video that one refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli import main
from tests.support import jobs, media, without_ray

TRIMMED = jobs.WITHOUT_TEXT
WHOLE = TRIMMED.replace("min_bpp = 0.0", "min_bpp = 0.0\nmin_duration_s = 4.0") + '[shots]\ndetector = "none"\n'


def test_two_recipes_on_the_same_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    media.scenes(videos / "one.mp4", (5,), sources=("testsrc2",), crf=28)  # one shot: the same clip in both
    media.scenes(videos / "two.mp4", (2.5, 3), sources=("mandelbrot", "smptebars"), crf=28)
    media.scenes(videos / "short.mp4", (3,), sources=("gradients",), crf=28)
    for name, text in (("a", TRIMMED), ("b", WHOLE)):
        to = ("--to", str(tmp_path / name), "--recipe", jobs.recipe(tmp_path, text), "--cpus", jobs.CPUS, "--json")
        done = without_ray.run("curate", str(videos), *to)
        assert done.code == 0, done.error
    pair = (str(tmp_path / "a"), str(tmp_path / "b"))
    sheet = tmp_path / "sheet.png"
    assert main(["compare", *pair, "--json", "-o", str(sheet)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["a"]["clips"], told["b"]["clips"]) == (4, 2)
    assert (told["a"]["cut"], told["b"]["cut"]) == (4, 2) and told["a"]["bytes"] > told["b"]["bytes"] > 0
    assert set(told["recipe"]) == {"rules.min_duration_s", "shots.detector"} and told["thresholds"] == {}
    assert told["videos"]["differ"] == [{"a": "done", "b": "rejected: too_short", "videos": 1}]
    assert told["videos"]["some"][0]["uri"].endswith("short.mp4")
    clips = told["clips"]
    # Both shots of two.mp4 are pieces of the one clip that is all of it; the clip of short.mp4 is in A alone.
    assert [clips[key] for key in ("unchanged", "changed_a", "changed_b", "only_a", "only_b")] == [1, 2, 1, 1, 0]
    assert sheet.read_bytes()[1:4] == b"PNG" and told["drawn"] == 5
    assert main(["compare", *pair]) == 0
    shown = capsys.readouterr().out
    assert "1 videos: done in A, rejected: too_short in B" in shown and "shots.detector" in shown
