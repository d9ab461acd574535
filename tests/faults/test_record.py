"""A killed run's record says that it was killed, and never that it is at work; the next run's is its own."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.pyramid.history import runs
from curation.pyramid.storage.files import Files
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers
from pipelines import cli
from pipelines.cli import main
from pipelines.execution import signals
from pipelines.execution.records.recording import Recording
from pipelines.execution.results.account import Account
from tests.faults.conftest import Small
from tests.support import jobs, without_ray


def states(pyramid: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["runs", str(pyramid), "--json"]) == 0
    return [json.loads(line)["state"].partition(" ")[0] for line in capsys.readouterr().out.splitlines()]


def test_the_record_of_a_killed_run_says_so(small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid = tmp_path / "p"
    to = ("--to", str(pyramid), "--recipe", small.recipe, "--cpus", jobs.CPUS, "--json")
    arguments = ("curate", str(small.videos), *to)
    process = jobs.start(*arguments)
    while process.poll() is None and not any(run.stage for run in runs.listed(Files(str(pyramid)))):
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()
    assert states(pyramid, capsys) == ["running"]
    jobs.kill(process)
    assert states(pyramid, capsys) == ["killed"]
    (left,) = runs.listed(Files(str(pyramid)))
    assert (left.ended, left.exit, left.stage) == (None, None, "measure")

    done = without_ray.run(*arguments)
    assert done.code == 0, done.error
    assert states(pyramid, capsys) == ["killed", "done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "unwinds_as", [None, KeyboardInterrupt(), ValueError("an actor died"), OSError(28, "x"), UserError("a", "b")]
)
def test_a_signal_is_recorded_as_the_command_ends_whatever_it_unwinds_as(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, unwinds_as: BaseException | None
) -> None:
    made = Pyramid.create(tmp_path / "p", Tiers(), "test")
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner may have its processes ignore it

    def command(arguments: object, given: object) -> int:
        with Recording(made, Account(), None).kept():  # type: ignore[arg-type]
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                if unwinds_as is not None:
                    raise unwinds_as from None
        return 0

    monkeypatch.setattr(cli, "_command", command)
    try:
        assert main(["curate"]) == 128 + number
    finally:
        signal.signal(signal.SIGINT, usual)
    (run,) = runs.listed(made.files)
    assert (run.exit, run.stopped_by) == (128 + number, "a signal")


def test_a_last_save_that_fails_after_a_signal_is_recorded_as_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Pyramid.create(tmp_path / "p", Tiers(), "test")

    def command(arguments: object, given: object) -> int:
        with Recording(made, Account(), None).kept(), signals.held(saves=True):  # type: ignore[arg-type]
            signal.raise_signal(signal.SIGTERM)
            raise UserError("the checkpoint of step 4 was not saved", "make room")

    monkeypatch.setattr(cli, "_command", command)
    with pytest.raises(UserError):
        main(["train"])
    (run,) = runs.listed(made.files)
    assert (run.exit, run.stopped_by) == (2, "the checkpoint of step 4 was not saved; make room")


def test_a_name_that_was_struck_out_of_a_record_stays_out(tmp_path: Path) -> None:
    """A run at work writes its record again and again."""
    made = Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test")
    with Recording(made, Account(), None).kept():  # type: ignore[arg-type]
        (there,) = runs.listed(made.files)
        runs.write(made.files, replace(there, command=("ziggurat", "[taken down]")))
    (record,) = runs.listed(made.files)
    assert record.command == ("ziggurat", "[taken down]") and record.ended is not None


def test_a_run_that_is_interrupted_or_cannot_go_on_says_how(tmp_path: Path) -> None:
    made = Pyramid.create(tmp_path / "p", Tiers(), "test")
    for error in (KeyboardInterrupt(), UserError("the disk is full", "free space"), ValueError("x")):
        with pytest.raises(type(error)), Recording(made, Account(), None).kept():  # type: ignore[arg-type]
            raise error
    found = [(run.exit, run.stopped_by) for run in runs.listed(made.files)]
    assert sorted(found, key=lambda one: one[0] or 0) == [
        (1, "ValueError: x"),
        (2, "the disk is full; free space"),
        (130, "a signal"),
    ]
