"""A run's record while it works: how far it is, and the job that it was submitted as."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from curation.pyramid.history import runs
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tiers
from pipelines.execution.records.recording import CurationRecording
from pipelines.execution.records.submission import JOB_CONFIG, submission
from pipelines.execution.results.account import Account
from pipelines.progress.display import Display
from tests.support.watch import Silent


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    return Pyramid.create(tmp_path / "p", Tiers(), "test")


def test_a_record_says_how_far_its_run_is_and_who_sent_it(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB_CONFIG, json.dumps({"runtime_env": {}, "metadata": {"job_submission_id": "mine"}}))
    account = Account()
    display = Display(account, io.StringIO(), True, 60.0)
    with CurationRecording(pyramid, account, display).kept() as record:
        record.plan(["measure"], all_listed=True)
        display._estimate.begin("measure")
        record.expect(9)
        record.advance(2, 5)
        record._write(stage="measure")
        (at_work,) = runs.listed(pyramid.files)
    assert at_work.progress is not None
    assert (at_work.submission, at_work.progress.done, at_work.progress.total) == ("mine", 2, 9)
    (ended,) = runs.listed(pyramid.files)
    assert ended.progress is not None and ended.progress.done == 2


def test_a_watch_that_reckons_nothing_leaves_a_record_without(pyramid: Pyramid) -> None:
    with CurationRecording(pyramid, Account(), Silent()).kept():
        pass
    (found,) = runs.listed(pyramid.files)
    assert (found.progress, found.submission) == (None, None)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, None),
        ("", None),
        ("{", None),
        ("[]", None),
        ("{}", None),
        ('{"metadata": null}', None),
        ('{"metadata": {"job_submission_id": 7}}', None),
        ('{"metadata": {"job_submission_id": "one", "job_name": "one"}}', "one"),
    ],
)
def test_what_ray_says_in_the_drivers_environment(said: str | None, found: str | None) -> None:
    assert JOB_CONFIG not in os.environ, "a test runner is no job"
    assert submission({} if said is None else {JOB_CONFIG: said}) == found
