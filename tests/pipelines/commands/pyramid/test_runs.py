"""`ziggurat runs` and `why` as a person reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from curation.contract import CLIPS, VIDEOS
from curation.pyramid.history import runs as records
from curation.pyramid.history.runs import Run, this_process, utc
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers
from pipelines.cli import main


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    return Pyramid.create(tmp_path / "p", Tiers((Tier("all"),)), "test")


def test_a_record_is_shown_in_figures_and_words(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    account = {"clip_hours": 0.123456789012345, "reasons": {"unreadable": 1, "broken": 2}, "done": 3, "cut": 0}
    ended = {"started": utc(), "beat": utc(), "ended": utc(), "exit": 1}
    run = Run("2026-a", ("ziggurat", "curate"), "small", 1, {}, this_process(), account=account, **ended)
    records.write(pyramid.files, run)
    assert main(["runs", pyramid.uri, "2026-a"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "run 2026-a  done (something was lost)"
    assert {"clip_hours: 0.123457", "reasons: unreadable 1, broken 2", "done: 3"} <= {*lines}
    assert not any("{" in line for line in lines)


def test_what_of_a_video_is_in_no_clip_is_told(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    video = {"video_id": "cafe0001", "uris": ["/in/a.ts"], "modified": [0.0], "status": "done"}
    video |= {"duration_s": 8.0, "fps": 25.0, "clips": 2, "attempts": 1}
    rows = [
        {"clip_id": f"c{at}", "video_id": "cafe0001", "shot": at, "start_frame": start, "end_frame": end}
        | {"start_s": start / 25, "end_s": end / 25, "width": 64, "height": 64, "fps": 25.0, "frames": end - start}
        for at, start, end in ((0, 0, 60), (2, 64, 191))
    ]
    for name, schema, some in (("videos", VIDEOS, [video]), ("clips", CLIPS, rows)):
        columns = {field.name: [row.get(field.name) for row in some] for field in schema}
        pyramid.dataset(name).insert(pa.table(columns, schema=schema))
    assert main(["why", pyramid.uri, "cafe0001"]) == 0
    said = capsys.readouterr().out
    assert "in no clip: frames 60 to 64 (2.400 to 2.560 s)" in said
    assert "in no clip: frames 191 to the end (7.640 to 8.000 s)" in said
    assert main(["why", pyramid.uri, "cafe0001", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert [(one["start_frame"], one["end_frame"]) for one in first["uncovered"]] == [(60, 64), (191, None)]
