"""Frames of samples out of a pyramid: of those asked for, in their order, from several threads, or an error by name."""

from __future__ import annotations

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.contract import Reason, Verdict
from curation.errors import UserError
from curation.media.plan import Limits
from curation.media.sandbox.sandbox import Fit, Sandbox
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.shards import folder
from curation.shards.manifest import Frozen
from pipelines.commands.shards.freeze import Request, freeze
from pipelines.frames import clips as module
from pipelines.frames.clips import PyramidClips
from tests.support import images, jobs, media, without_ray

RECIPE = jobs.WITHOUT_TEXT + "[images]\nfrom_folders = true\n"
TABLE = "side_multiple = 32\n[buckets.64px]\n1 = { batch = 1 }\n8 = { batch = 1 }\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid of a video of 50 frames a second and an image, and its manifest "all"."""
    made = tmp_path_factory.mktemp("curated")
    (made / "in").mkdir()
    media.make(made / "in" / "a.mp4", seconds=2.5, fps=50, source="testsrc2")
    images.save(made / "in" / "b.png", images.picture(200, 150))
    without_ray.curate(made / "in", made / "pyramid", jobs.recipe(made, RECIPE))
    (made / "table.toml").write_text(TABLE)
    freeze(Request(str(made / "pyramid"), "all", preset=str(made / "table.toml"), without_captions=True))
    return made / "pyramid"


@pytest.fixture
def opened(place: Path) -> tuple[Pyramid, Frozen]:
    return folder.opened(f"{place}#all")


def test_it_reads_what_the_sandbox_fits_in_the_order_asked(opened: tuple[Pyramid, Frozen]) -> None:
    pyramid, frozen = opened
    rows = frozen.samples.to_pylist()
    assert sorted((row["kind"], row["interval"]) for row in rows) == [("image", 1), ("video", 2)]
    stored = {clip_id: content for clip_id, content, _ in pyramid.media([row["clip_id"] for row in rows])}
    clips: PyramidClips = pickle.loads(pickle.dumps(PyramidClips(pyramid, frozen, Limits())))
    found = clips.read([1, 0, 1])
    with Sandbox(Limits()) as sandbox:
        for frames, number in zip(found, [1, 0, 1], strict=True):
            row = rows[number]
            size = (row["bucket_frames"], row["bucket_height"], row["bucket_width"])
            want = sandbox.fitted(stored[row["clip_id"]], "a", Fit(row["kind"] == "image", row["interval"], *size))
            assert isinstance(want, np.ndarray) and frames.shape == (*size, 3) and np.array_equal(frames, want)
    assert clips._free.qsize() == 1
    clips.close()


def test_no_more_are_decoded_at_once_than_there_are_sandboxes(
    opened: tuple[Pyramid, Frozen], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most, lock = 0, 0, threading.Lock()
    users: list[Any] = []

    def slow(sandbox: Sandbox, row: Any, found: Any) -> np.ndarray:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
            assert sandbox not in users, "a sandbox is not for several threads"
            users.append(sandbox)
        time.sleep(0.05)
        with lock:
            now -= 1
            users.remove(sandbox)
        return np.zeros((1,), np.uint8)

    monkeypatch.setattr(module, "fitted", slow)
    clips = PyramidClips(*opened, Limits(), sandboxes=2)
    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(lambda number: clips.read([number % 2]), range(12)))) == 12
    assert most == 2


def test_a_clip_that_gives_no_frames_is_tried_again_and_then_named(
    opened: tuple[Pyramid, Frozen], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [Verdict(Reason.INTERNAL, detail="killed"), np.zeros((1,), np.uint8)]
    monkeypatch.setattr(module, "fitted", lambda *_: answers.pop(0))
    clips = PyramidClips(*opened, Limits())
    assert len(clips.read([0])) == 1
    answers = [Verdict(Reason.INTERNAL, detail="killed")] * module.TRIES
    with pytest.raises(UserError, match=r"sample 1, clip \w+, has no frames: internal_error: killed") as told:
        clips.read([1])
    assert told.value.remedy == "to go on without it add 1 to frames.leave_out" and not answers


def test_bytes_that_are_not_the_manifest_s_are_told(opened: tuple[Pyramid, Frozen]) -> None:
    pyramid, frozen = opened
    rows = frozen.samples.to_pylist()
    rows[0]["media"] = "0" * 64
    other = Frozen(frozen.manifest, type(frozen.samples).from_pylist(rows, schema=frozen.samples.schema))
    with pytest.raises(UserError, match=r"sample 0, clip .* its bytes in the pyramid are damaged"):
        PyramidClips(pyramid, other, Limits()).read([0])


def test_what_was_taken_down_meanwhile_is_told_as_such(
    opened: tuple[Pyramid, Frozen], monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid, frozen = opened
    clips = PyramidClips(pyramid, frozen, Limits())
    gone = frozenset({frozen.samples["clip_id"][0].as_py()})
    monkeypatch.setattr(module, "stored", lambda *_: {})
    monkeypatch.setattr(tombstones, "read", lambda files: gone)
    with pytest.raises(UserError, match=r"sample 0, clip .* was taken down since the run began"):
        clips.read([0])
