"""Two pyramids brought together hold what both held, each thing once, wherever the merge was cut short."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.contract import AMONG_OTHERS, CLIP_SPACE, Status, clips_schema, embeddings_schema
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.commits.journal import Journal
from curation.pyramid.history import runs
from curation.pyramid.history.census import census
from curation.pyramid.lifecycle import combine
from curation.pyramid.storage.columns import add_scores
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from tests.curation.pyramid.build import TIERS, clip_ids, clips, table, videos, whole_image, whole_video
from tests.curation.pyramid.history.test_runs import record

PLAN = "plan-1"


def pyramid(place: Path, **scores: Any) -> Pyramid:
    return Pyramid.create(place, TIERS, "test", **scores)


def add(to: Pyramid, name: str, count: int = 2, plan: str = PLAN, uri: str | None = None) -> None:
    Committer(to).commit(whole_video(to, name, count, plan, uri))


def held(there: Pyramid) -> dict[str, Any]:
    """All rows, in an order of their own; names of a video as a set."""
    found: dict[str, Any] = {}
    for name in ("clips", "videos", "samples", "captions", "embeddings/clip"):
        rows = there.dataset(name).to_table().to_pylist()
        for row in rows:
            if name == "videos":
                row["uris"], row["modified"] = sorted(row["uris"]), None
        found[name] = sorted(map(str, rows))
    ids = there.query().ids()
    found["media"] = sorted((name, digest, hashlib.sha256(data).hexdigest()) for name, data, digest in there.media(ids))
    return found


def merged(first: Pyramid, second: Pyramid, place: Path) -> Pyramid:
    to = pyramid(place)
    combine.combine((first, second), to, PLAN)
    return to


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_it_is_what_one_pyramid_would_hold(
    tmp_path_factory: pytest.TempPathFactory, ours: set[int], theirs: set[int]
) -> None:
    place = tmp_path_factory.mktemp("combine")
    first, second, one = (pyramid(place / name) for name in "ab1")
    for number in sorted(ours):
        add(first, f"v{number}", uri=f"/a/{number}.mp4")
        add(one, f"v{number}", uri=f"/a/{number}.mp4")
    for number in sorted(theirs):
        add(second, f"v{number}", uri=f"/b/{number}.mp4")
        add(one, f"v{number}", uri=f"/b/{number}.mp4")
    before = held(first), held(second)
    to = pyramid(place / "c")
    done = combine.combine((first, second), to, PLAN)
    assert held(to) == held(one)
    assert (done.videos, done.clips) == (len(ours | theirs), 2 * len(ours | theirs))
    assert (done.both, done.otherwise) == (len(ours & theirs), 0)
    assert (held(first), held(second)) == before
    assert to.files.read(combine.FILE) is None


def test_images_come_over_as_clips_do(tmp_path: Path) -> None:
    first, second = (pyramid(tmp_path / name) for name in "ab")
    for to, name in ((first, "i1"), (second, "i1"), (second, "i2")):
        Committer(to).commit(whole_image(to, name))
    one = pyramid(tmp_path / "one")
    for name in ("i1", "i2"):
        Committer(one).commit(whole_image(one, name))
    assert held(merged(first, second, tmp_path / "c")) == held(one)
    assert one.where(kind="image").count() == 2 and census(one).tiers == {"low": 2, "mid": 2, "high": 0}


def test_scores_captions_and_vectors_of_both_are_there(tmp_path: Path) -> None:
    first, second = pyramid(tmp_path / "a"), pyramid(tmp_path / "b")
    ids = clip_ids("v1", 2)
    for one in (first, second):
        add(one, "v1")
    ours = {"clip_id": ids[0], "aesthetic": 5.0, "aesthetic_by": "a", "caption": "ours", "caption_by": "m"}
    theirs = {"clip_id": ids[0], "text_area": 0.1, "text_area_by": "t", "caption": "theirs", "caption_by": "n"}
    Committer(first).commit(Batch(clip_updates=[clips(ours)], embeddings=[vector(ids[0], "a")]))
    Committer(second).commit(Batch(clip_updates=[clips(theirs)], embeddings=[vector(ids[0], "b")]))
    to = merged(first, second, tmp_path / "c")
    (row,) = [row for row in to.query().to_table().to_pylist() if row["clip_id"] == ids[0]]
    assert (row["aesthetic"], row["aesthetic_by"], row["text_area_by"]) == (5.0, "a", "t")
    assert (row["caption"], row["caption_by"]) == ("theirs", "n")
    (kept,) = to.dataset("captions").to_table().to_pylist()
    assert (kept["caption"], kept["by"]) == ("ours", "m")
    assert sorted(to.dataset("embeddings/clip").to_table()["by"].to_pylist()) == ["a", "b"]


def vector(name: str, by: str) -> pa.Table:
    row = {"clip_id": [name], "space": ["clip"], "by": [by], "vector": [[0.5] * CLIP_SPACE.width]}
    return pa.table(row, schema=embeddings_schema(CLIP_SPACE))


def test_places_among_the_clips_of_one_are_not_those_among_both(tmp_path: Path) -> None:
    first, second = pyramid(tmp_path / "a"), pyramid(tmp_path / "b")
    to = pyramid(tmp_path / "c", scores=tuple(AMONG_OTHERS))
    for one, name in ((first, "v1"), (second, "v2")):
        add(one, name)
        add_scores(one, tuple(AMONG_OTHERS))
        best, copy = clip_ids(name, 2)
        placed: dict[str, Any] = {"clip_id": copy, "duplicate_of": best, "cluster": 3}
        for score in AMONG_OTHERS:
            placed |= {score: 0.5, f"{score}_by": "m", f"{score}_why": None}
        rows = table([placed], clips_schema(tuple(AMONG_OTHERS)), *placed)
        Committer(one.having(tuple(AMONG_OTHERS))).commit(Batch(clip_updates=[rows]))
    combine.combine((first.refreshed(), second.refreshed()), to, PLAN)
    for row in to.dataset("clips").to_table().to_pylist():
        assert (row["duplicate_of"], row["cluster"]) == (None, None)
        assert all((row[score], row[f"{score}_by"]) == (None, "again") for score in AMONG_OTHERS)


OTHER = "plan-0"
UNDECIDED = {"status": "quarantined", "reason": "timed_out", "fingerprint": PLAN, "attempts": 1, "clips": 0, "bytes": 9}
QUARANTINED = videos({"video_id": "v1", "uris": ["/q.mp4"], "modified": [1.0], **UNDECIDED})


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("other", ["plan", "quarantined"])
def test_of_two_outcomes_the_decided_one_under_the_recipes_plan_stands(
    tmp_path: Path, turned: bool, other: str
) -> None:
    first, second = pyramid(tmp_path / "a"), pyramid(tmp_path / "b")
    add(first, "v1", 3)
    if other == "plan":
        add(second, "v1", 2, OTHER, uri="/q.mp4")
    else:
        Committer(second).commit(Batch(videos=QUARANTINED))
    sources = (second, first) if turned else (first, second)
    to = pyramid(tmp_path / "c")
    done = combine.combine(sources, to, PLAN)
    assert (done.both, done.otherwise, done.clips) == (1, 1, 3)
    assert sorted(to.query().ids()) == sorted(clip_ids("v1", 3))
    (row,) = to.dataset("videos").to_table().to_pylist()
    assert (row["status"], row["fingerprint"], row["clips"]) == (Status.DONE, PLAN, 3)
    assert sorted(row["uris"]) == ["/in/v1.mp4", "/q.mp4"]
    assert len(list(to.media(to.query().ids()))) == 3


class Killed(BaseException):
    pass


def test_a_kill_anywhere_leaves_what_the_same_merge_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combine, "_VIDEOS", 2)
    first, second = pyramid(tmp_path / "a"), pyramid(tmp_path / "b")
    for number in range(5):
        add(first, f"v{number}")
        add(second, f"v{number + 3}", uri=f"/b/{number}.mp4")
    Committer(first).commit(Batch(embeddings=[vector(clip_ids("v0", 2)[0], "a")]))
    whole = held(merged(first, second, tmp_path / "whole"))
    real: Callable[..., Any] = Committer.commit
    writes = combine._write
    for step in (0, 1, 4, 9):
        for kind in ("commit", "write"):
            left = [step]

            def dying(*given: Any, kind: str = kind, left: list[int] = left) -> Any:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return (real if kind == "commit" else writes)(*given)

            to = pyramid(tmp_path / f"{kind}-{step}")
            with monkeypatch.context() as patch:
                patch.setattr(*((Committer, "commit") if kind == "commit" else (combine, "_write")), dying)
                try:
                    combine.combine((first, second), to, PLAN)
                except Killed:
                    assert to.files.read(combine.FILE) is not None or (kind, step) == ("write", 0)
            done = combine.combine((first, second), to, PLAN)
            assert held(to) == whole and (done.both, done.otherwise) == (2, 0)


def test_after_a_kill_what_is_done_is_not_brought_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combine, "_VIDEOS", 1)
    first, second, to = (pyramid(tmp_path / name) for name in "abc")
    for number in range(3):
        add(first, f"v{number}")
        add(second, f"w{number}")
    brought: list[str] = []
    real: Callable[..., None] = combine._bring

    def bring(source: Pyramid, to: Pyramid, rows: list[dict[str, Any]], before: Any) -> None:
        if len(brought) == 4:
            brought.append("killed")
            raise Killed
        brought.extend(row["video_id"] for row in rows)
        real(source, to, rows, before)

    monkeypatch.setattr(combine, "_bring", bring)
    with pytest.raises(Killed):
        combine.combine((first, second), to, PLAN)
    combine.combine((first, second), to, PLAN)
    assert brought == ["v0", "v1", "v2", "w0", "killed", "w1", "w2"]


def test_clips_under_ids_of_the_older_form_are_no_second_clips(tmp_path: Path) -> None:
    first, second = pyramid(tmp_path / "a"), pyramid(tmp_path / "b")
    add(first, "v1", 2)
    batch = whole_video(second, "v1", 2)
    assert batch.clips is not None
    renamed = {name: f"other-{index}" for index, name in enumerate(clip_ids("v1", 2))}
    rows = [row | {"clip_id": renamed[row["clip_id"]], "plan": PLAN} for row in batch.clips.to_pylist()]
    Committer(second).commit(replace(batch, clips=clips(*rows), media=[], samples=[]))
    Committer(first).commit(Batch(clip_updates=[clips(*({"clip_id": name, "plan": PLAN} for name in renamed))]))
    assert sorted(merged(first, second, tmp_path / "c").query().ids()) == sorted(renamed)


def test_bytes_that_are_gone_or_damaged_stop_it(tmp_path: Path) -> None:
    first, second = pyramid(tmp_path / "a"), pyramid(tmp_path / "b")
    add(first, "v1", 2)
    first.dataset("media").delete(f"clip_id = '{clip_ids('v1', 2)[1]}'")
    with pytest.raises(UserError, match="lacks the bytes of 1 clips"):
        merged(first, second, tmp_path / "c")
    add(second, "v2", 2)
    files = [path for path in Path(second.uri, "media.lance", "data").rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes().replace(b"v2" * 0 + clip_ids("v2", 2)[0].encode() * 50, b"x" * 1600))
    with pytest.raises(UserError, match="damaged"):
        merged(pyramid(tmp_path / "empty"), second, tmp_path / "d")


@pytest.mark.parametrize("where", [0, 1])
def test_what_either_has_taken_down_does_not_come_in(tmp_path: Path, where: int) -> None:
    sources = pyramid(tmp_path / "a"), pyramid(tmp_path / "b")
    for one in sources:
        add(one, "v1")
        add(one, "v2")
        Committer(one).commit(Batch(embeddings=[vector(clip_ids("v1", 2)[0], "x")]))
    tombstones.add(sources[where].files, ["v1"])
    to = pyramid(tmp_path / "c")
    done = combine.combine(sources, to, PLAN)
    assert (done.videos, done.both, done.taken_down) == (1, 1, 1)
    assert sorted(to.query().ids()) == sorted(clip_ids("v2", 2)) and to.dataset("embeddings/clip").count_rows() == 0
    assert tombstones.read(to.files) == {"v1"}
    Committer(to).commit(whole_video(to, "v1", 2))
    assert to.query().count() == 2


def test_a_source_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    source = pyramid(tmp_path / "a")
    combine.check(source)
    Journal(source.uri, "killed").keep(whole_video(source, "v1", 2))
    with pytest.raises(UserError, match="ziggurat upkeep"):
        combine.check(source)
    other = pyramid(tmp_path / "b")
    runs.write(other.files, record(process=runs.this_process()))
    with pytest.raises(UserError, match="is at work"):
        combine.check(other)
