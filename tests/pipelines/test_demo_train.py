"""`make demo-train`: the whole way, with a kill in it; and what it draws of a log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from pipelines.demo_train import CODER_STEPS, FOLDER, PSNR, STEPS, Curves, draw
from tests.support import jobs


def test_of_a_step_that_was_taken_again_the_later_line_counts(tmp_path: Path) -> None:
    lines = [
        {"kind": "begin", "step": 0, "validation/loss": 2.0},
        {"kind": "step", "step": 1, "loss": 1.5},
        {"kind": "step", "step": 2, "loss": 9.0},
        {"kind": "begin", "step": 1, "validation/loss": 1.5},
        {"kind": "step", "step": 2, "loss": 1.25, "validation/loss": 1.0},
        {"kind": "end", "step": 2, "stopped": False},
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves = Curves.of(log)
    assert curves == Curves({1: 1.5, 2: 1.25}, {0: 2.0, 1: 1.5, 2: 1.0}, (0, 1), {"validation/loss": 1.0})
    assert curves.ends == (2.0, 1.0)
    draw(curves, curves, tmp_path / "curves.png")
    drawn = cv2.imread(str(tmp_path / "curves.png"))
    assert drawn is not None and drawn.std() > 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_from_raw_video_to_a_sampled_clip(tmp_path: Path) -> None:
    def run() -> str:
        command = [sys.executable, "-m", "pipelines.demo_train"]
        environment = {**os.environ, "PYTHONPATH": str(jobs.ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=3000)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    said, folder = run(), tmp_path / FOLDER
    assert "killed after its first checkpoint" in said
    coded = Curves.of(folder / "autoencoder" / "log.jsonl", PSNR, "part/l1")
    before, after = coded.ends
    assert max(coded.loss) == CODER_STEPS and after > before + 1, "decibels"
    curves = Curves.of(folder / "run" / "log.jsonl")
    assert max(curves.loss) == STEPS and len(curves.began) == 2 and 0 < curves.began[1] < STEPS
    first, last = curves.ends
    assert last < 0.7 * first
    assert (folder / "curves.png").exists() and list((folder / "samples").glob("*.mp4"))
    assert "killed" not in run(), "what is there is not made twice"
