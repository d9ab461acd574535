"""Running the command as a user does: a process of its own, its JSON lines, and what its pyramid holds afterwards."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from curation.pyramid.store import Pyramid
from tests.support import media

ROOT = Path(__file__).parents[2]
_NOT_NICE = {"RAY_worker_niceness": "0"}
"""Ray's workers yield to every other process, so that on a busy machine a test of what they do would wait for ever."""

CPUS = "1"
"""What a job of a test may use unless it needs more: each worker costs the start of a process, and tests run side by
side.
"""

LENGTHS = ((3, 2.5), (4,), (2.5, 2, 3), (5,), (3, 3), (9,))
"""Shot lengths in seconds of the small corpus: 6 videos, 10 clips."""

RECIPE = """
name = "test"
[rules]
min_bpp = 0.0
[encode]
preset = "ultrafast"
crf = 30
[filters.ocr]
from_tier = "all"
[filters.aesthetic]
enabled = false
[sandbox]
silence_s = 25.0
cpu_s = 4.0
memory_mb = 1024
max_pixels = 33177600
[[tiers]]
name = "all"
[[tiers]]
name = "moving"
motion = [0.2, inf]
[cut]
tier = "all"
"""

WITHOUT_TEXT = RECIPE.replace("[filters.ocr]\n", "[filters.ocr]\nenabled = false\n")
"""The same without the text filter: a stage less to start."""


@dataclass(frozen=True)
class Finished:
    """A run of the command."""

    code: int
    events: list[dict[str, Any]]
    error: str

    @property
    def summary(self) -> dict[str, Any]:
        (summary,) = [event for event in self.events if event["event"] == "summary"]
        return summary


def corpus(folder: Path) -> Path:
    """The small corpus: videos whose clips are known from `LENGTHS`."""
    shutil.copytree(_corpus(), folder, dirs_exist_ok=True)
    return folder


@cache
def _corpus() -> Path:
    """Made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="ziggurat-corpus-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for number, lengths in enumerate(LENGTHS):
        sources = ("testsrc2", "mandelbrot", "smptebars", "gradients")
        media.scenes(folder / f"{number}.mp4", lengths, sources=sources[number % 4 :] + sources[: number % 4], crf=28)
    return folder


def recipe(folder: Path, text: str = RECIPE) -> str:
    """The path of a recipe file with this text."""
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.toml"
    path.write_text(text)
    return str(path)


def start(*arguments: str, code: str = "", cwd: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    """Start `ziggurat` in a session of its own, in the folder `cwd`; or `code`, with these arguments."""
    return subprocess.Popen(
        [sys.executable, *(("-c", code) if code else ("-m", "pipelines.cli")), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **_NOT_NICE, "PYTHONPATH": str(ROOT), **environment},
        start_new_session=True,
        # A test runner in the background hands down an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], seconds: float = 600) -> Finished:
    out, error = process.communicate(timeout=seconds)
    return Finished(process.returncode, [json.loads(line) for line in out.splitlines()], error)


def run(*arguments: str, **environment: str) -> Finished:
    return finish(start(*arguments, cwd=ROOT, **environment))


def curate(
    videos: Sequence[Path] | Path, pyramid: Path, recipe_path: str, code: int = 0, **environment: str
) -> Finished:
    """Curate, and see it end with `code`."""
    sources = [str(v) for v in ([videos] if isinstance(videos, Path) else videos)]
    done = run(
        "curate", *sources, "--to", str(pyramid), "--recipe", recipe_path, "--cpus", CPUS, "--json", **environment
    )
    assert done.code == code, done.error
    return done


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, without warning, the driver only: what it started must notice by itself."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def rows(pyramid: Path | str) -> tuple[set[tuple[Any, ...]], set[tuple[Any, ...]], set[tuple[Any, ...]]]:
    """What a pyramid says, without when and by which job it was said: videos, clips, media. Duplicates fail."""
    opened = Pyramid.open(pyramid)
    videos = opened.dataset("videos").to_table(columns=["video_id", "status", "reason", "clips"])
    columns = ["clip_id", "video_id", "start_frame", "end_frame", "motion", "sharpness", "jitter", "text_area", "media"]
    clips = opened.dataset("clips").to_table(columns=columns)
    stored = opened.dataset("media").to_table(columns=["clip_id", "sha256"])
    found = []
    for table in (videos, clips, stored):
        listed = [tuple(row.values()) for row in table.to_pylist()]
        assert len({row[0] for row in listed}) == len(listed), f"a key is there twice: {listed}"
        found.append(set(listed))
    return found[0], found[1], found[2]


def of_run(name: str) -> list[psutil.Process]:
    """The processes that have inherited the environment variable RUN with this value, whoever their parent is."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RUN") == name:
                found.append(process)
        except psutil.Error:
            continue
    return found
