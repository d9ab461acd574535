"""A video that is taken down is in no file of any version that is not pinned, whatever happens on the way, and nothing
brings it back; all others are as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from curation.errors import UserError
from curation.pyramid import forget as module
from curation.pyramid.commit import Batch, Committer
from curation.pyramid.forget import forget, found
from curation.pyramid.journal import Journal, recover
from curation.pyramid.store import NAMES, Pyramid
from curation.pyramid.upkeep import upkeep
from tests.curation.pyramid.build import clip_ids, videos, whole_video

GONE, KEPT = "b" * 32, ("a" * 32, "c" * 32)


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    """Three videos in some versions: two of them share files, and all were merged and indexed once."""
    Committer(pyramid).commit(whole_video(pyramid, KEPT[0], 3))
    Committer(pyramid).commit(whole_video(pyramid, GONE, 3))
    upkeep(pyramid)
    Committer(pyramid).commit(whole_video(pyramid, KEPT[1], 3))
    return pyramid


def state(pyramid: Pyramid) -> dict[str, list[dict[str, Any]]]:
    columns = {"media": ["clip_id", "sha256"]}
    tables = {name: pyramid.dataset(name).to_table(columns=columns.get(name)).to_pylist() for name in NAMES}
    return {name: sorted(rows, key=str) for name, rows in tables.items()}


def of(rows: dict[str, list[dict[str, Any]]], *video_ids: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of some videos."""
    clips = {name for video_id in video_ids for name in clip_ids(video_id, 3)}
    return {
        name: [row for row in table if row.get("clip_id") in clips or row.get("video_id") in video_ids]
        for name, table in rows.items()
    }


def traces(pyramid: Pyramid) -> list[str]:
    """Files that hold a clip's bytes, or the name, of the video."""
    wanted = [f"/in/{GONE}.mp4".encode(), *(name.encode() * 2 for name in clip_ids(GONE, 3))]
    files = [path for path in Path(pyramid.uri).rglob("*") if path.is_file()]
    return [path.name for path in files if any(text in path.read_bytes() for text in wanted)]


def test_what_is_taken_down_is_in_no_file_and_the_rest_is_as_it_was(filled: Pyramid) -> None:
    before = state(filled)
    assert traces(filled)
    done = forget(filled, [GONE])
    assert (done.videos, done.clips, done.samples, done.media) == (1, 3, 3, 3)
    assert (done.pinned, done.left) == ((), ()) and done.freed_bytes > 0
    assert traces(filled) == []
    assert of(state(filled), GONE) == {name: [] for name in NAMES}
    assert state(filled) == of(before, *KEPT)
    for video_id in KEPT:
        ids = clip_ids(video_id, 3)
        assert {name: data for name, data, _ in filled.media(ids)} == {name: name.encode() * 100 for name in ids}


def test_nothing_brings_it_back(filled: Pyramid) -> None:
    Journal(filled.uri, "killed").keep(whole_video(filled, GONE, 3))  # left by a run that was killed
    forget(filled, [GONE])
    after = state(filled)
    Committer(filled).commit(whole_video(filled, GONE, 3))  # by a run at work
    Journal(filled.uri, "killed").keep(whole_video(filled, GONE, 3))
    recover(filled)
    for name in ("clips", "videos"):
        assert state(filled)[name] == after[name]
    upkeep(filled, keep=timedelta(0), idle=True)  # frames and bytes that the run had in hand
    assert state(filled) == after and traces(filled) == []


def test_that_its_bytes_were_refused_is_said(filled: Pyramid) -> None:
    forget(filled, [GONE])
    refused = {"video_id": GONE, "uris": ["/x.mp4"], "modified": [1.0], "status": "rejected", "reason": "forgotten"}
    Committer(filled).commit(Batch(videos=videos(refused | {"fingerprint": "p"})))
    (row,) = of(state(filled), GONE)["videos"]
    assert (row["uris"], row["reason"]) == (["/x.mp4"], "forgotten")


def test_a_pinned_version_keeps_it_and_is_named(filled: Pyramid) -> None:
    filled.pin("training-1")
    done = forget(filled, [GONE])
    assert done.pinned == ("training-1",)
    assert filled.dataset("clips", "training-1").count_rows() == 9 and filled.query().count() == 6
    filled.unpin("training-1")
    assert forget(filled, [GONE]).pinned == () and traces(filled) == []


@pytest.mark.parametrize("step", ["recover", "_deleted", "_without_deleted", "clean"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_is_stopped_anywhere_is_finished_by_the_same_command(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch, step: str, after: int
) -> None:
    before, calls = state(filled), 0

    def stopping(action: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == after + 1:
                raise KeyboardInterrupt
            return action(*arguments)

        return called

    with monkeypatch.context() as patched:
        owner: Any = module.journal if step == "recover" else module
        patched.setattr(owner, step, stopping(getattr(owner, step)))
        try:
            forget(filled, [GONE])
        except KeyboardInterrupt:
            assert found(filled, [GONE]).keys() == {GONE}
    forget(filled, found(filled, [GONE]).keys())
    assert state(filled) == of(before, *KEPT) and traces(filled) == []


def test_names_are_those_of_one_video(filled: Pyramid) -> None:
    assert found(filled, [GONE, KEPT[0][:8], f"/in/{KEPT[1]}.mp4"]).keys() == {GONE, *KEPT}
    assert found(filled, [f"{GONE}.mp4"]).keys() == {GONE}
    Committer(filled).commit(whole_video(filled, "bbbb1", 1, uri=f"/other/{GONE}.mp4"))
    for name, message in (("nowhere", "no video is called"), ("bbbb", "several videos"), (f"{GONE}.mp4", "several")):
        with pytest.raises(UserError, match=message):
            found(filled, [KEPT[0], name])
