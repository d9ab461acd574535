"""The account of a run: equal captions are counted in bounded memory."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import asdict

import pyarrow as pa
import pytest

from curation.contract import Reason
from curation.pyramid.history.census import Census
from pipelines.execution.results import account
from pipelines.execution.results.account import Account
from pipelines.progress.display import Display
from pipelines.stages.results import Captioned, MeasureDone


def said(*captions: str) -> Captioned:
    rows = [{"clip_id": str(number), "caption": one, "caption_why": None} for number, one in enumerate(captions)]
    return Captioned("dense", pa.Table.from_pylist(rows))


def test_equal_captions_are_counted_and_what_came_once_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "MOST_CAPTIONS", 10)
    found = Account()
    found.add(said("a fox", "the sea", "a fox", "a fox"))
    assert found.captions_equal == {"dense": 3} and found.commonest_caption == 3
    for number in range(100):
        found.add(said(f"clip {number}"))
        assert len(found._captions) <= 10
    found.add(said("a fox", "the sea"))
    assert found.captions_equal == {"dense": 4} and found.commonest_caption == 4
    assert found.captioned == {"dense": 106}


def ended(name: str, reason: str, detail: str | None) -> MeasureDone:
    row = {"uris": [name], "status": str(Reason(reason).status), "reason": reason, "detail": detail}
    return MeasureDone({**row, "duration_s": None, "bytes": 0})


def test_what_is_lost_is_named_and_what_a_rule_refused_is_not() -> None:
    found = Account(inputs=9)
    found.add(ended("/in/short.mp4", "too_short", None))
    for number in range(8):
        found.add(ended(f"/in/{number}.mp4", "unreadable", "No such file or directory"))
    found.check()
    assert found.losses == {"videos: unreadable": 8}
    assert len(found.lost_videos) == account.MOST_NAMED
    assert found.lost_videos[0] == "/in/0.mp4: unreadable (No such file or directory)"
    assert "lost_videos" not in asdict(found), "a record would keep names that are taken down"


def test_an_input_without_an_outcome_is_an_error_also_without_assertions() -> None:
    code = "from pipelines.execution.results.account import Account; Account(inputs=1).check()"
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "1 inputs, but 0 outcomes" in done.stderr


def test_a_summary_names_what_is_lost() -> None:
    found, out = Account(inputs=1), io.StringIO()
    found.add(ended("/in/gone.mp4", "unreadable", "No such file or directory"))
    display = Display(found, out, as_json=False, stall_s=1.0)
    display.summary(Census({}, 0, 0, {}), [])
    assert "storage: 1 video: unreadable\n  /in/gone.mp4: unreadable (No such file or directory)\n" in out.getvalue()
