"""A takedown that is killed, and one beside those who write the very video: nothing of it is left, and nothing comes
back.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.errors import UserError
from curation.identity import clip_id
from curation.pyramid.commits import tail
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.commits.journal import Journal
from curation.pyramid.history import names, runs
from curation.pyramid.history.names import Names
from curation.pyramid.lifecycle import compaction
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.fragments import write_media_fragments, write_samples_fragments
from curation.pyramid.storage.locks import writing
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.pyramid.takedown.forget import forget
from curation.pyramid.takedown.subject import find
from tests.curation.pyramid.build import TIERS, clips, videos
from tests.support import jobs, store
from tests.support.traces import traces

GONE, KEPT = "b" * 32, ("a" * 32, "c" * 32)
URI = "/in/secret film.mp4"
NEEDLES = [GONE[:12].encode(), URI.encode(), names._hash(GONE).to_bytes(8, "little")]
"""All ids of clips of the new form begin as their video's does; bytes and frames below hold it, too."""
_STARTED = multiprocessing.get_context("spawn")


def batch(pyramid: Pyramid, video_id: str, plan: str) -> Batch:
    """What a run makes of a video, with ids of the new form. As the stages do, in a `writing` that asks first."""
    uri = URI if video_id == GONE else f"/in/{video_id}.mp4"
    ids = [clip_id(video_id, start, start + 50, plan) for start in (0, 50, 100)]
    media, samples = [], []
    with writing(pyramid.uri):
        if video_id not in tombstones.read(pyramid.files):
            media = [write_media_fragments(pyramid.uri, [(name, name.encode() * 9000) for name in ids])]
            samples = [write_samples_fragments(pyramid.uri, [(name, [name.encode()] * 3) for name in ids])]
    rows = [{"clip_id": name, "video_id": video_id, "start_frame": 0, "motion": 1.0, "motion_by": "m"} for name in ids]
    row = {"video_id": video_id, "uris": [uri], "modified": [1.0], "status": "done", "clips": 3, "fingerprint": plan}
    return Batch(media=media, samples=samples, clips=clips(*rows), videos=videos(row), replaced={video_id: ids})


def run_beside(uri: str, seed: int, begun: Any, over: Any) -> None:
    """Child: a run that goes on measuring, scoring and naming three videos, one of them the one that is taken down."""
    tail.EVERY, names.FEW = 3, 0
    chance, pyramid = random.Random(seed), Pyramid.open(uri)
    journal, number = Journal(uri, f"run-{seed}"), 0
    while not over.is_set():
        number += 1
        video_id = chance.choice((GONE, GONE, *KEPT))
        made = batch(pyramid, video_id, f"plan-{chance.randrange(3)}")
        entry = journal.keep(made)
        Committer(pyramid).commit(made)
        if chance.random() < 0.7:  # else it is left, as by a driver that was killed
            journal.forget([entry])
        found = pyramid.dataset("clips").to_table(columns=["clip_id"])["clip_id"].to_pylist()
        scored = [{"clip_id": name, "jitter": float(number), "jitter_by": str(seed)} for name in found]
        if scored:
            Committer(pyramid).commit(Batch(clip_updates=[clips(*scored)]))
        Names(pyramid).keep(pyramid)
        begun.set()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_beside_runs_that_write_the_very_video(tmp_path: Path, seed: int) -> None:
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "test")
    for video_id in (*KEPT, GONE):
        Committer(pyramid).commit(batch(pyramid, video_id, "plan-0"))
    over, begun = _STARTED.Event(), [_STARTED.Event() for _ in range(2)]
    writers = [
        _STARTED.Process(target=run_beside, args=(pyramid.uri, 10 * seed + n, one, over)) for n, one in enumerate(begun)
    ]
    for writer in writers:
        writer.start()
    try:
        assert all(one.wait(120) for one in begun)
        done = forget(pyramid, find(pyramid, [URI]).targets, [URI])
        assert done.left == ()
        assert traces(pyramid, NEEDLES) == []  # at once, while they go on
        time.sleep(2)
        assert traces(pyramid, NEEDLES) == []
        assert all(writer.is_alive() for writer in writers)
    finally:
        over.set()
        for writer in writers:
            writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert traces(pyramid, NEEDLES) == []
    upkeep(pyramid)
    assert traces(pyramid, NEEDLES) == []
    for video_id in KEPT:
        ids = pyramid.where(video_id=video_id).ids()
        assert len(ids) == 3
        assert {name: data for name, data, _ in pyramid.media(ids)} == {name: name.encode() * 9000 for name in ids}


def killed_takedown(uri: str, seconds: float) -> bool:
    """A takedown that is killed after so long; False where it came to its end before."""
    child = _STARTED.Process(target=take_down, args=(uri, ready := _STARTED.Event()))
    child.start()
    assert ready.wait(120)
    child.join(seconds)
    child.kill()
    child.join()
    return child.exitcode != 0


def take_down(uri: str, ready: Any) -> None:
    """Child."""
    pyramid = Pyramid.open(uri)
    targets = find(pyramid, [URI]).targets
    ready.set()
    sys.exit(1 if forget(pyramid, targets, [URI]).left else 0)


@pytest.mark.slow
def test_killed_at_random_instants_and_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "GROWTH", 1)
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "test")
    for video_id in (*KEPT, GONE):
        Committer(pyramid).commit(batch(pyramid, video_id, "plan-0"))
    upkeep(pyramid)
    Committer(pyramid).commit(batch(pyramid, GONE, "plan-1"))
    started = time.monotonic()
    whole = Pyramid.open(shutil.copytree(pyramid.uri, tmp_path / "whole"))
    forget(whole, [GONE])
    seconds = time.monotonic() - started
    chance = random.Random(0)
    for number in range(6):
        copy = Pyramid.open(shutil.copytree(pyramid.uri, tmp_path / f"{number}"))
        for _ in range(3):  # what was killed is killed again
            try:
                killed_takedown(copy.uri, chance.random() * seconds)
                find(copy, [URI])
            except UserError:
                break
        finish(copy)
        rows = {name: copy.dataset(name).count_rows() for name in ("videos", "clips", "samples", "media")}
        assert rows == {"videos": 2, "clips": 6, "samples": 6, "media": 6}


def finish(pyramid: Pyramid) -> None:
    """Give the command again, by the name, until nothing is called so."""
    if tombstones.is_pending(pyramid.files) or pyramid.where(uri=URI).count():
        assert forget(pyramid, find(pyramid, [URI]).targets, [URI]).left == ()
    assert not tombstones.is_pending(pyramid.files)
    assert traces(pyramid, NEEDLES) == []


def downloaded(server: store.Store, to: Path) -> Pyramid:
    for key in server.keys("p/"):
        path = to / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(server.content(key))
    return Pyramid.open(to / "p")


def test_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock keeps a run out there: as long as one is at work that began before, something is left."""
    with store.served() as server:
        monkeypatch.setattr(names, "FEW", 0)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        pyramid = Pyramid.create(f"s3://{store.BUCKET}/p", TIERS, "test")
        for video_id in (KEPT[0], GONE):
            Committer(pyramid).commit(batch(pyramid, video_id, "plan-0"))
        made = batch(pyramid, GONE, "plan-1")
        Journal(pyramid.uri, "killed").keep(made)
        batch(pyramid, GONE, "plan-2")  # files that nobody will commit
        Names(pyramid).keep(pyramid)
        elsewhere = runs.Process("another machine", "", 1, 1.0)
        run = runs.Run("r1", ("ziggurat", "curate", URI), "small", None, {}, elsewhere, runs.utc(), runs.utc())
        runs.write(pyramid.files, run)
        assert len(traces(downloaded(server, tmp_path / "before"), NEEDLES)) > 10

        done = forget(pyramid, find(pyramid, [URI]).targets, [URI])
        assert len(done.left) == 1 and "the run r1 is at work" in done.left[0]
        assert pyramid.query().count() == 3 and tombstones.is_pending(pyramid.files)
        Committer(pyramid).commit(made)  # by that run
        runs.write(pyramid.files, replace(run, command=("ziggurat",), ended=runs.utc(), exit=0))
        assert forget(pyramid, find(pyramid, [URI]).targets, [URI]).left == ()
        after = downloaded(server, tmp_path / "after")
        assert traces(after, NEEDLES) == [] and not tombstones.is_pending(pyramid.files)
        ids = pyramid.where(video_id=KEPT[0]).ids()
        assert {name: data for name, data, _ in pyramid.media(ids)} == {name: name.encode() * 9000 for name in ids}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.corpus(tmp_path_factory.mktemp("videos"))


def hashed(path: Path) -> str:
    from curation.identity import content_id

    with path.open("rb") as file:
        return content_id(file)[0]


def until(job: Any, there: Callable[[], bool]) -> None:
    while job.poll() is None and not there():
        time.sleep(0.02)


@pytest.mark.slow
def test_beside_a_job_that_works_on_it_and_after(corpus: Path, tmp_path: Path) -> None:
    """The job has measured the video, and goes on; the next ones meet it again, also under another name."""
    videos = shutil.copytree(corpus, tmp_path / "videos")
    secret = (videos / "2.mp4").rename(videos / "secret-film.mp4")
    pyramid, recipe, video_id = tmp_path / "p", jobs.recipe(tmp_path), hashed(secret)
    job = jobs.start("curate", str(videos), "--to", str(pyramid), "--recipe", recipe, "--cpus", jobs.CPUS, "--json")
    until(
        job,
        lambda: (pyramid / "pyramid.json").exists() and bool(Pyramid.open(pyramid).where(video_id=video_id).count()),
    )
    done = jobs.run("forget", str(pyramid), video_id, "--yes", "--json")
    assert done.code == 0, done.error
    needles = [video_id[:12].encode(), b"secret-film.mp4"]
    opened = Pyramid.open(pyramid)
    assert traces(opened, needles) == []
    finished = jobs.finish(job)
    assert finished.code in (0, 2), finished.error  # 2: it was reading an older version, and can be run again
    assert traces(opened, needles) == []
    shutil.copy(secret, videos / "secret-film.mp4.mp4")
    for more in ((), ("--retry",)):
        again = jobs.run("curate", str(videos), "--to", str(pyramid), "--cpus", jobs.CPUS, "--json", *more)
        assert again.code == 0, again.error
        assert again.summary["reasons"] == {"taken_down": 2}
        assert traces(opened, needles) == []
    assert opened.query().count() == 7
