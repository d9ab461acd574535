"""P3 and P4: every poison file ends in its exact reason, the job succeeds, and no innocent video is lost."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from curation.contract import Reason, Status
from curation.media.sandbox import faults
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from tests.support import jobs, poison, without_ray

NOT_LISTED = ("playlist.m3u8", "audio-only.m4a", "cover-art.m4a")
"""Their names are no video's, so a folder's walk leaves them out: they are named outright."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, jobs.Finished, Path]:
    folder = tmp_path_factory.mktemp("poison")
    innocent = jobs.corpus(folder / "innocent")
    files = poison.build(folder / "poison")
    named = [files[name] for name in NOT_LISTED]
    sources = [files["zero-bytes.mp4"].parent, *named, innocent]
    done = without_ray.curate(
        sources, folder / "pyramid", jobs.recipe(folder), code=1, RUN=str(folder), **{faults.SWITCH: "1"}
    )
    return folder / "pyramid", done, innocent


def settled(pyramid: Path) -> dict[str, tuple[str, str | None]]:
    """(status, reason) by file name."""
    table = Pyramid.open(pyramid).dataset("videos").to_table(columns=["uris", "status", "reason"])
    return {uri.rsplit("/", 1)[-1]: (row["status"], row["reason"]) for row in table.to_pylist() for uri in row["uris"]}


def test_each_poison_file_has_its_one_reason(finished: tuple[Path, jobs.Finished, Path]) -> None:
    pyramid, _, _ = finished
    found = settled(pyramid)
    expected: dict[str, tuple[str, str | None]] = {}
    for name, reason in poison.EXPECTED.items():
        expected[name] = (str(Status.DONE), None) if reason is None else (str(reason.status), str(reason))
    # On a machine that others load, what spins runs out of time before it has had its seconds of a processor.
    spin, slow = "fault-spin.mp4", (str(Status.QUARANTINED), str(Reason.TIMED_OUT))
    expected[spin] = slow if found.get(spin) == slow else expected[spin]
    assert {name: found.get(name) for name in expected} == expected


def test_no_innocent_video_is_lost(finished: tuple[Path, jobs.Finished, Path]) -> None:
    pyramid, _, innocent = finished
    found = settled(pyramid)
    assert {found[path.name] for path in innocent.iterdir()} == {("done", None)}
    clips = Pyramid.open(pyramid).query().count()
    wanted = sum(len(lengths) for lengths in jobs.LENGTHS)
    recoverable = sum(1 for reason in poison.EXPECTED.values() if reason is None)
    assert clips >= wanted + recoverable


def test_the_counts_add_up(finished: tuple[Path, jobs.Finished, Path]) -> None:
    _, done, _ = finished
    summary = done.summary
    outcomes = ("done", "rejected", "quarantined", "same_content", "settled_before")
    assert sum(summary[name] for name in outcomes) == summary["inputs"] == len(poison.EXPECTED) + len(jobs.LENGTHS)
    assert summary["reasons"][str(Reason.CRASHED)] == 1


def test_only_what_the_set_up_has_lost_makes_the_exit_code_1(finished: tuple[Path, jobs.Finished, Path]) -> None:
    # Crashes, hangs and bombs are the data's; a file that may not be read is not.
    _, done, _ = finished
    lost = sum(1 for reason in poison.EXPECTED.values() if reason is Reason.UNREADABLE)
    assert (done.code, done.summary["losses"]) == (1, {"videos: unreadable": lost})


def test_the_neighbour_of_a_playlist_was_not_read(finished: tuple[Path, jobs.Finished, Path]) -> None:
    # What was decoded at this size is the neighbours; a playlist that was followed would be done with it, too. (The
    # data references say the size in their own headers, and are rejected without a frame.)
    pyramid, _, _ = finished
    width, height = poison.NEIGHBOUR_SIZE
    table = Pyramid.open(pyramid).dataset("videos").to_table(columns=["uris", "status", "width", "height"])
    names = {
        row["uris"][0].rsplit("/", 1)[-1]
        for row in table.to_pylist()
        if (row["status"], row["width"], row["height"]) == (Status.DONE, width, height)
    }
    assert names == {"neighbour.mp4", "neighbour.ts"}


def test_no_process_is_left(finished: tuple[Path, jobs.Finished, Path]) -> None:
    _, alive = psutil.wait_procs(jobs.of_run(str(finished[0].parent)), timeout=120)
    assert not alive


def test_why_tells_the_reason(finished: tuple[Path, jobs.Finished, Path]) -> None:
    pyramid, _, _ = finished
    (video,) = Ledger(Pyramid.open(pyramid)).history("truncated.mp4").videos
    assert (video["reason"], video["status"]) == ("broken", "rejected")
    assert video["measured"] == pytest.approx(0.3, abs=0.05)
