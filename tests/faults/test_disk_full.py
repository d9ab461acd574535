"""P6: a disk that is full ends a run in one line, at whole versions; with space, the same command ends in the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import UserError
from curation.pyramid.commits.commit import Batch
from curation.pyramid.commits.journal import Journal
from curation.pyramid.storage.fragments import write_samples_fragments
from curation.pyramid.store import Pyramid
from curation.retry import retrying
from pipelines.config.recipe import load
from tests.faults.conftest import Small
from tests.support import disk, jobs

ENOUGH_KB = 64 << 10


def one_line(done: jobs.Finished) -> str:
    """The line that a run which cannot go on says, and nothing else."""
    assert done.code == 2, (done.code, done.error)
    (said,) = done.error.splitlines()
    (event,) = [event for event in done.events if event["event"] == "error"]
    assert said == f"ziggurat: {event['cause']}; {event['remedy']}"
    return said


def check_whole(pyramid: Path) -> None:
    """Whatever is there can be read, and every done video has its clips, their frames and, once cut, their bytes."""
    if not (pyramid / "pyramid.json").exists():
        return
    videos, clips, media = jobs.rows(pyramid)
    opened = Pyramid.open(pyramid)
    framed = {clip_id for clip_id, _ in opened.samples([row[0] for row in clips])}
    for video_id, status, _, count in videos:
        assert status == "done", "a full disk is no fault of the video"
        mine = {row[0] for row in clips if row[1] == video_id}
        assert len(mine) == count
        assert mine <= framed
    hashes = {row[0]: row[-1] for row in clips if row[-1] is not None}
    assert hashes.items() <= set(media)


# KB: in the first commits; in a worker that writes sample frames; in a commit of rows; in one that writes clips.
@pytest.mark.parametrize(
    "kilobytes",
    [60, *(pytest.param(size, marks=pytest.mark.slow) for size in (16, 120, 200, 350, 430, 500))],
)
def test_the_disk_of_the_pyramid_is_full(small: Small, tmp_path: Path, kilobytes: int) -> None:
    with disk.mounted(tmp_path / "disk", kilobytes) as small_disk:
        pyramid = small_disk.path / "pyramid"
        to = ("--to", str(pyramid), "--recipe", small.recipe, "--cpus", jobs.CPUS, "--json")
        command = ("curate", str(small.videos), *to)
        said = one_line(jobs.run(*command))
        assert "no space left" in said and "run the same command again" in said
        check_whole(pyramid)
        small_disk.grow(ENOUGH_KB)
        again = jobs.run(*command)
        assert again.code == 0, again.error
        assert jobs.rows(pyramid) == jobs.rows(small.pyramid)


def test_a_worker_that_finds_no_room_blames_the_disk(tmp_path: Path) -> None:
    recipe = load("small")
    with disk.mounted(tmp_path / "disk", 1024) as small_disk:
        pyramid = Pyramid.create(small_disk.path / "pyramid", recipe.pyramid_tiers, recipe.name)
        frames = [("0" * 32, [bytes(4 << 20)])]
        with pytest.raises(UserError, match="no space left"):  # as the stages write
            retrying("writing", lambda: write_samples_fragments(pyramid.uri, frames))
        journal = Journal(pyramid.uri, "run")
        with pytest.raises(UserError, match="no space left"):
            journal.keep(Batch(samples=["x" * (4 << 20)]))
        assert not [path for path in Path(pyramid.uri, "journal").rglob("*") if path.is_file()]
        small_disk.grow(ENOUGH_KB)
        assert write_samples_fragments(pyramid.uri, frames)
        assert journal.keep(Batch(samples=["x"]))


def test_the_temporary_folder_is_full(small: Small, tmp_path: Path) -> None:
    # Python falls back on /tmp by itself; Ray does not, and waits for half a minute instead.
    with disk.mounted(tmp_path / "disk", 64) as scratch:
        to = ("--to", str(tmp_path / "p"), "--recipe", small.recipe, "--cpus", jobs.CPUS, "--json")
        said = one_line(jobs.run("curate", str(small.videos), *to, TMPDIR=str(scratch.path)))
    assert str(tmp_path / "disk") in said and "TMPDIR" in said
