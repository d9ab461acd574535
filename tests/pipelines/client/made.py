"""A small pyramid that has something of everything a service tells: clips of two kinds, films, vectors, captions, a
score of its own, videos that came to nothing, runs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import runs
from curation.pyramid.history.runs import Process, Run
from curation.pyramid.store import Pyramid
from tests.curation.pyramid import build
from tests.pipelines.commands.similar.made import COLOURS
from tests.pipelines.commands.similar.test_search import filled

VIDEOS = 5


def pyramid(folder: Path) -> Pyramid:
    """Seven clips without a film and with captions, six with one, an image."""
    made = filled(folder, COLOURS)
    lost = [
        {"video_id": "lost", "uris": ["/in/lost.mp4"], "status": "rejected", "reason": "too_short", "measured": 0.5},
        {"video_id": "late", "uris": ["/in/late.mp4"], "status": "quarantined", "reason": "timed_out"},
    ]
    rows = build.videos(*({**row, "finished_at": datetime(2026, 1, 2, 3, 4, 5, 678, UTC)} for row in lost))
    for batch in (build.whole_video(made, "video2", 6), build.whole_image(made, "image1"), Batch(videos=rows)):
        Committer(made).commit(batch)
    for number, code in enumerate((0, 2, None)):
        runs.write(made.files, run(number, code))
    return made.refreshed()


def run(number: int, code: int | None) -> Run:
    """A record; without a code of one whose machine is gone."""
    began = f"2026-01-0{number + 1}T00:00:00+00:00"
    return Run(
        run=f"{number}run{number}",
        command=("ziggurat", "curate", "/in"),
        recipe="test",
        recipe_version=None,
        versions={"ziggurat": "0.1.0"},
        process=Process("elsewhere", "boot", 7, 1.5),
        started=began,
        beat=began,
        account={"done": 3, "caption_usd": 0.5},
        ended=None if code is None else began,
        exit=code,
    )
