"""What is taken down is in no file of any version that is not pinned, whatever happens on the way, and nothing that
runs before, beside or after brings it back. All else is as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.contract import CLIP_SPACE, embeddings_schema
from curation.errors import UserError
from curation.identity import clip_id
from curation.pyramid.commits import indexes, tail
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.commits.journal import Journal, recover
from curation.pyramid.history import names, runs
from curation.pyramid.history.names import Names
from curation.pyramid.lifecycle import compaction
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.similar import clusters
from curation.pyramid.storage.datasets import BESIDE, NAMES
from curation.pyramid.storage.fragments import read_ticket, write_media_fragments, write_samples_fragments
from curation.pyramid.storage.locks import only_holder
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import forget as module
from curation.pyramid.takedown import tombstones
from curation.pyramid.takedown.forget import Forgotten, forget
from curation.pyramid.takedown.subject import find
from curation.rows import nameless_id
from tests.curation.pyramid.build import clip_ids, clips, videos, whole_video
from tests.support.traces import traces

GONE, KEPT = "b" * 32, ("a" * 32, "c" * 32)
URI = "/in/secret film.mp4"


def needles(video_id: str = GONE, uri: str = URI) -> list[bytes]:
    """What must be nowhere: ids, the name, and bytes of clips, which `whole_video` makes of their ids."""
    of_the_cache = [names._hash(video_id).to_bytes(8, "little"), names._digest(uri, 1000, "plan-1", False)]
    return [video_id.encode(), uri.encode(), *of_the_cache, *(name.encode() for name in clip_ids(video_id, 3))]


@pytest.fixture
def filled(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> Pyramid:
    """Three videos in many versions: they share files, all is indexed, rows of theirs have older forms, names are
    kept.
    """
    monkeypatch.setattr(compaction, "GROWTH", 1)
    monkeypatch.setattr(names, "FEW", 0)
    Committer(pyramid).commit(whole_video(pyramid, KEPT[0], 3))
    Committer(pyramid).commit(whole_video(pyramid, GONE, 3, uri=URI))
    scored = [
        {"clip_id": name, "jitter": 1.0, "jitter_by": "x"} for name in (*clip_ids(GONE, 3)[:2], *clip_ids(KEPT[0], 3))
    ]
    Committer(pyramid).commit(Batch(clip_updates=[clips(*scored)], embeddings=[beside(GONE), beside(KEPT[0])]))
    for words in ("secret", "more secret"):  # the first gives way to the second, and is kept in `captions`
        said = [{"clip_id": clip_ids(name, 3)[0], "caption": words, "caption_by": "m"} for name in (GONE, KEPT[0])]
        Committer(pyramid).commit(Batch(clip_updates=[clips(*said)]))
    upkeep(pyramid)
    Committer(pyramid).commit(whole_video(pyramid, KEPT[1], 3))
    again = [{"clip_id": name, "text_area": 1.0, "text_area_by": "x"} for name in clip_ids(GONE, 3)]
    Committer(pyramid).commit(Batch(clip_updates=[clips(*again)]))
    Names(pyramid).keep(pyramid)
    return pyramid


def beside(video_id: str) -> pa.Table:
    """A vector of each of a video's clips."""
    ids = clip_ids(video_id, 3)
    rows = {"clip_id": ids, "space": ["clip"] * 3, "by": ["x"] * 3, "vector": [[0.5] * CLIP_SPACE.width] * 3}
    return pa.table(rows, schema=embeddings_schema(CLIP_SPACE))


def state(pyramid: Pyramid) -> dict[str, list[dict[str, Any]]]:
    columns = {"media": ["clip_id", "sha256"]}
    tables = {name: pyramid.dataset(name).to_table(columns=columns.get(name)).to_pylist() for name in NAMES}
    return {
        name: sorted(rows, key=lambda row: str(row.get("clip_id", row.get("video_id"))))
        for name, rows in tables.items()
    }


def of(rows: dict[str, list[dict[str, Any]]], *video_ids: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of some videos."""
    ids = {name for video_id in video_ids for name in clip_ids(video_id, 3)}
    return {
        name: [row for row in table if row.get("clip_id") in ids or row.get("video_id") in video_ids]
        for name, table in rows.items()
    }


def whole(pyramid: Pyramid) -> None:
    """The kept videos have all their bytes."""
    for video_id in KEPT:
        ids = clip_ids(video_id, 3)
        assert {name: data for name, data, _ in pyramid.media(ids)} == {name: name.encode() * 100 for name in ids}
        assert dict(pyramid.samples(ids)) == {name: [b"1", b"2", b"3"] for name in ids}


def gone(pyramid: Pyramid, *given: str) -> Forgotten:
    done = forget(pyramid, find(pyramid, given or (GONE,)).targets, given or (GONE,))
    assert done.left == ()
    return done


def test_what_is_taken_down_is_in_no_file_and_the_rest_is_as_it_was(filled: Pyramid) -> None:
    before = state(filled)
    there = traces(filled, needles())
    assert len(there) > 10 and any(place.startswith("names/") for place in there)
    done = gone(filled)
    rows = {"samples": 3, "media": 3, "embeddings/clip": 3, "captions": 1, "clips": 3, "videos": 1}
    assert done.rows == rows
    assert done.rewritten_bytes > 0 and done.rewritten_rows > 0 and done.freed_bytes > 0 and done.versions > 0
    assert traces(filled, needles()) == []
    assert state(filled) == of(before, *KEPT)
    assert [len(filled.dataset(name).versions()) for name in NAMES] == [1] * len(NAMES)
    whole(filled)
    upkeep(filled)
    assert state(filled) == of(before, *KEPT)


def test_the_tombstone_says_ids_and_when_and_no_name(filled: Pyramid) -> None:
    gone(filled)
    (file,) = Path(filled.uri, tombstones.FOLDER).iterdir()
    (group,) = json.loads(file.read_text())
    assert group.keys() == {"at", "ids"}
    # The clips have ids of the older form, which do not say whose they are.
    assert set(group["ids"]) == {GONE, nameless_id(URI), *clip_ids(GONE, 3)}


def ways_back(pyramid: Pyramid) -> Iterator[tuple[str, Callable[[], object]]]:
    """What may still bring something of the video once it was taken down: (what, a call that does)."""
    ids = clip_ids(GONE, 3)
    new = clip_id(GONE, 0, 50, "plan-9")

    def committed(**parts: Any) -> Callable[[], object]:
        return lambda: Committer(pyramid).commit(Batch(**parts))

    def kept(batch: Batch) -> Callable[[], object]:
        return lambda: (Journal(pyramid.uri, "other").keep(batch), recover(pyramid))

    scored = clips({"clip_id": ids[0], "motion": 4.0, "motion_by": "y"})
    named = videos({"video_id": GONE, "uris": [URI], "modified": [2.0]})
    other_plan = clips({"clip_id": new, "video_id": GONE, "start_frame": 0, "end_frame": 50, "plan": "plan-9"})
    yield "the whole result, committed", lambda: Committer(pyramid).commit(whole_video(pyramid, GONE, 3, uri=URI))
    yield "the whole result, by the journal", lambda: kept(whole_video(pyramid, GONE, 3, uri=URI))()
    yield "its clips under another plan", committed(clips=other_plan)
    yield "the same content under another name", committed(videos=videos({"video_id": GONE, "uris": ["/in/other.mp4"]}))
    yield "a further name", committed(videos=named.select(["video_id", "uris", "modified"]))
    yield "a list's new columns", committed(video_updates=[named.select(["video_id", "uris", "modified"])])
    yield "a score", committed(clip_updates=[scored])
    yield "a score, by the journal", kept(Batch(clip_updates=[scored]))
    yield "a vector", committed(embeddings=[beside(GONE)])
    yield "a vector, by the journal", kept(Batch(embeddings=[beside(GONE)]))
    yield "that its file cannot be read", committed(videos=videos({"video_id": nameless_id(URI), "uris": [URI]}))
    yield (
        "that it is to be done again",
        committed(videos=videos({"video_id": GONE}).select(["video_id", "fingerprint"])),
    )


def test_nothing_brings_it_back(filled: Pyramid) -> None:
    gone(filled)
    after = state(filled)
    for what, way in ways_back(filled):
        way()
        assert state(filled) == after, what
    # Whoever writes files asks first (`stages`); these were written past everybody, and the next takedown finds them.
    forget(filled, [GONE])
    assert traces(filled, needles()) == []
    assert state(filled) == after


def test_the_journal_keeps_nothing_of_it(filled: Pyramid) -> None:
    whole_result = whole_video(filled, GONE, 3, uri=URI)  # a worker has written its files and not told of them yet
    gone(filled)
    scored = Batch(clip_updates=[clips({"clip_id": clip_ids(GONE, 3)[0], "motion": 4.0, "motion_by": "y"})])
    for batch in (whole_result, scored):
        Journal(filled.uri, "other").keep(batch)
    assert len(list(Path(filled.uri, "journal").rglob("*.arrow"))) == 2
    assert traces(filled, needles()) == []


def test_an_entry_of_before_in_the_journal_does_not_bring_it_back(filled: Pyramid) -> None:
    """Also one of an older version, which wrote an update of the ledger as a row without a status."""
    Journal(filled.uri, "killed").keep(whole_video(filled, GONE, 3, uri=URI))
    update = videos({"video_id": GONE, "uris": [URI], "modified": [2.0]}).select(["video_id", "uris", "modified"])
    Journal(filled.uri, "older").keep(Batch(videos=update))
    Journal(filled.uri, "killed").keep(whole_video(filled, "d" * 32, 3))
    Path(filled.uri, "journal", "killed", ".0123.partial").write_bytes(GONE.encode())
    gone(filled)
    assert traces(filled, needles()) == []
    assert filled.where(video_id="d" * 32).count() == 3  # what the killed run had of others is not lost


def test_files_that_belong_to_no_version_go(filled: Pyramid) -> None:
    """Of a worker whose driver was killed, of a commit that was refused, and of a writer that died within a file."""
    ids = [clip_id(GONE, start, start + 50, "plan-9") for start in (0, 50)]
    big = GONE.encode() * 200_000
    write_media_fragments(filled.uri, [(name, big) for name in ids])  # large clips lie in files of their own
    write_samples_fragments(filled.uri, [(name, [GONE.encode()]) for name in ids])
    other = write_media_fragments(filled.uri, [(clip_id(KEPT[0], 0, 50, "plan-9"), big.replace(b"b", b"z"))])
    Path(filled.uri, "media.lance", "data", "half.lance#1").write_bytes(GONE.encode())
    Path(filled.uri, "media.lance", "data", "nobody").mkdir()
    Path(filled.uri, "media.lance", "data", "nobody", "1.blob").write_bytes(big)
    Path(filled.uri, "clips.lance", "_indices", "nobody").mkdir()
    Path(filled.uri, "clips.lance", "_indices", "nobody", "page_data.lance").write_bytes(GONE.encode())
    Path(filled.uri, "clips.lance", "_transactions", "1-nobody.txn").write_bytes(GONE.encode())
    assert gone(filled).files >= 6
    assert traces(filled, needles()) == []
    # What another run has written and not committed is as it was.
    row = clips({"clip_id": clip_id(KEPT[0], 0, 50, "plan-9"), "video_id": KEPT[0]})
    Committer(filled).commit(Batch(media=[other], clips=row))
    ((_, data, _),) = filled.media([clip_id(KEPT[0], 0, 50, "plan-9")])
    assert data == big.replace(b"b", b"z")


def test_frames_and_bytes_of_an_earlier_plan_go_too(filled: Pyramid) -> None:
    """Nobody knows whose they are once the clips of that plan have gone."""
    batch = replace(whole_video(filled, GONE, 2, "plan-2", URI), replaced={GONE: clip_ids(GONE, 2, "plan-2")})
    Committer(filled).commit(batch)
    assert filled.dataset("media").count_rows() == 11
    done = gone(filled)
    assert (done.rows["media"], done.rows["samples"], done.needless) == (5, 5, 0)
    assert traces(filled, needles()) == [] and filled.dataset("media").count_rows() == 6


def test_centroids_that_may_be_of_its_vectors_go(filled: Pyramid) -> None:
    begun = f"{clusters.FOLDER}/.0123456789abcdef.partial"
    for name in (clusters.FILE, begun):
        filled.files.write(name, b"the mean of its vectors")
    gone(filled)
    assert filled.files.read(clusters.FILE) is None is filled.files.read(begun)


def test_a_clip_that_was_a_duplicate_of_one_is_none_any_more(filled: Pyramid) -> None:
    rows = [{"clip_id": clip_ids(KEPT[0], 3)[0], "duplicate_of": clip_ids(GONE, 3)[0]}]
    Committer(filled).commit(Batch(clip_updates=[clips(*rows)]))
    assert gone(filled).references == 1
    assert traces(filled, needles()) == []
    assert filled.dataset("clips").count_rows("duplicate_of IS NOT NULL") == 0
    assert filled.dataset("clips").count_rows() == 6


def test_clips_of_others_with_the_very_same_bytes_keep_them(filled: Pyramid) -> None:
    ids = [clip_id(KEPT[0], 900, 950, "plan-1"), clip_id(GONE, 900, 950, "plan-1")]
    for name, owner in zip(ids, (KEPT[0], GONE), strict=True):
        ticket = write_media_fragments(filled.uri, [(name, b"the same bytes")])
        Committer(filled).commit(
            Batch(media=[ticket], clips=clips({"clip_id": name, "video_id": owner, "media": None}))
        )
    gone(filled)
    ((_, data, sha256),) = filled.media(ids)
    assert data == b"the same bytes"
    (row,) = filled.where(clip_id=ids[0]).columns("media").to_table().to_pylist()
    assert row["media"] == sha256


def test_a_pinned_version_keeps_it_and_is_named(filled: Pyramid) -> None:
    filled.pin("training-1")
    done = gone(filled)
    assert done.pins == ("training-1",)
    assert filled.dataset("clips", "training-1").count_rows() == 9 and filled.query().count() == 6
    whole(filled)
    filled.unpin("training-1")
    assert gone(filled, GONE).pins == ()
    assert traces(filled, needles()) == []


def test_a_damaged_clip_in_the_same_file_does_not_keep_it_and_still_shows(filled: Pyramid) -> None:
    (file,) = [
        f
        for f in Path(filled.uri, "media.lance", "data").iterdir()
        if clip_ids(GONE, 3)[0].encode() * 2 in f.read_bytes()
        and clip_ids(KEPT[0], 3)[0].encode() * 2 in f.read_bytes()
    ]
    content, bytes_ = file.read_bytes(), clip_ids(KEPT[0], 3)[0].encode() * 100
    file.write_bytes(content.replace(bytes_, b"x" * len(bytes_)))
    sha256 = filled.dataset("media").to_table(columns=["clip_id", "sha256"]).to_pylist()
    gone(filled)
    assert traces(filled, needles()) == []
    now = filled.dataset("media").to_table(columns=["clip_id", "sha256"]).to_pylist()
    assert sorted(map(str, now)) == sorted(str(row) for row in sha256 if row["clip_id"] not in clip_ids(GONE, 3))


def test_names_are_struck_out_of_the_records_of_runs(filled: Pyramid) -> None:
    command = ("ziggurat", "curate", URI, "secret film.mp4", "/in/mysecret film.mp4", "--to", "p")
    record = runs.Run(
        "r1",
        command,
        "small",
        None,
        {},
        runs.this_process(),
        runs.utc(),
        runs.utc(),
        notices=(f"{URI}: odd",),
        account={"inputs": 1},
        stopped_by=f"cannot read {URI}, it is gone",
    )
    runs.write(filled.files, record)
    assert gone(filled).records == 1
    (now,) = runs.listed(filled.files)
    assert now.command == ("ziggurat", "curate", "[taken down]", "[taken down]", "/in/mysecret film.mp4", "--to", "p")
    assert (now.notices, now.stopped_by) == (("[taken down]: odd",), "cannot read [taken down], it is gone")
    assert now.process == record.process and traces(filled, needles()) == []


def steps() -> list[str]:
    return [
        "_begun",
        "tombstones.begin",
        "tombstones.add",
        "_touch",
        "journal.recover",
        "_struck",
        "delete_rows",
        "remove_needless",
        "_unreferred",
        "_copied",
        "committed",
        "rewritten",
        "indexes.make",
        "clean",
        "sweep",
        "_left",
        "tombstones.done",
    ]


@pytest.mark.parametrize("step", steps())
@pytest.mark.parametrize("after", [0, 1])
def test_what_is_stopped_anywhere_is_finished_by_the_same_command(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch, step: str, after: int
) -> None:
    """Stopped before a call, or after the first one; what the next takedown finds is what lies on the disk then."""
    before, calls = state(filled), 0
    owner: Any = module
    *path, name = step.split(".")
    for part in path:
        owner = getattr(owner, part)
    action = getattr(owner, name)

    def stopping(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == after + 1:
            raise KeyboardInterrupt
        return action(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, stopping)
        try:
            gone(filled, URI)
        except KeyboardInterrupt:
            assert calls == after + 1
    finished(filled)
    assert state(filled) == of(before, *KEPT)


def finished(pyramid: Pyramid) -> None:
    """Give the command again as a person would, by the name."""
    again = Pyramid.open(pyramid.uri)
    try:
        targets = find(again, [URI]).targets
    except UserError:  # it had come to its end
        assert not tombstones.is_pending(again.files)
    else:
        assert forget(again, targets, [URI]).left == ()
    assert traces(again, needles()) == []
    assert not tombstones.is_pending(again.files)


def test_while_it_is_unfinished_nobody_copies_or_indexes_the_tail(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "EVERY", 1)
    monkeypatch.setattr(indexes, "WORTH", 1)
    tombstones.begin(filled.files, tombstones.Work(frozenset([GONE])))
    before = {name: len(filled.dataset(name).get_fragments()) for name in NAMES}
    for number in range(4):
        Committer(filled).commit(whole_video(filled, f"{number}" * 32, 1))
    after = {name: len(filled.dataset(name).get_fragments()) for name in NAMES}
    written = [name for name in NAMES if name not in BESIDE]
    assert {name: after[name] - before[name] for name in written} == dict.fromkeys(written, 4)
    gone(filled)
    Committer(filled).commit(whole_video(filled, "9" * 32, 1))
    assert len(filled.dataset("clips").get_fragments()) < after["clips"]


def test_names_that_were_read_before_are_kept_without_it(filled: Pyramid) -> None:
    """A run that has read the names of all videos writes them down after the takedown."""
    filled.files.remove_folder(names.FOLDER)
    read_before = Names(filled)
    gone(filled)
    read_before.keep(filled)
    (file,) = Path(filled.uri, "names").glob("*.bin")
    part = names._unpacked(file.read_bytes())
    assert names._hash(GONE) not in part.videos and names._hash(KEPT[0]) in part.videos
    assert names._hash(GONE) not in part.rest["video"]


def test_one_at_a_time(filled: Pyramid) -> None:
    with only_holder(filled), pytest.raises(UserError, match="another upkeep, takedown"):
        forget(filled, [GONE])
    gone(filled)


def test_names_mean_one_video_each(filled: Pyramid) -> None:
    def meant(*given: str, ahead: bool = False) -> set[str]:
        return {*find(filled, given, ahead).targets}

    assert meant(GONE, KEPT[0]) == {GONE, KEPT[0]}
    assert (
        meant(URI) == meant("secret film.mp4") == meant("in/secret film.mp4") == meant(clip_ids(GONE, 3)[1]) == {GONE}
    )
    Committer(filled).commit(whole_video(filled, "d" * 32, 1, uri="/other/secret film.mp4"))
    for name, message in (
        ("nowhere.mp4", "no video is called"),
        ("film.mp4", "no video"),
        ("secret film.mp4", "several"),
    ):
        with pytest.raises(UserError, match=message):
            meant(GONE, name)
    with pytest.raises(UserError, match=r"no video is called .* and 1 more; give an id"):
        meant(*(f"{number}.mp4" for number in range(6)))
    with pytest.raises(UserError, match="--ahead"):
        meant("e" * 32)
    assert meant("e" * 32, ahead=True) == {"e" * 32}


def test_a_takedown_may_come_before_the_content(filled: Pyramid) -> None:
    before = state(filled)
    forget(filled, find(filled, ["e" * 32], ahead=True).targets)
    Committer(filled).commit(whole_video(filled, "e" * 32, 3))
    assert {name: state(filled)[name] for name in ("clips", "videos")} == {
        name: before[name] for name in ("clips", "videos")
    }
    assert find(filled, ["e" * 32]).already == ("e" * 32,)


def test_the_tombstones_of_a_pyramid_go_along_into_another(filled: Pyramid, tmp_path: Path) -> None:
    from tests.curation.pyramid.build import TIERS

    other = Pyramid.create(tmp_path / "other", TIERS, "test")
    gone(filled)
    assert tombstones.adopt(other.files, filled.files) == 5
    Committer(other).commit(whole_video(other, GONE, 3))
    assert other.dataset("videos").count_rows() == other.dataset("media").count_rows() == 0


def test_many_tombstones_lie_in_few_files_and_a_damaged_one_is_told(filled: Pyramid) -> None:
    files, ids = filled.files, [f"{number:032x}" for number in range(40)]
    for one in ids:
        tombstones.add(files, [one])
    assert tombstones.add(files, ids) == 0
    tombstones.tidy(files)
    assert len(list(Path(filled.uri, tombstones.FOLDER).iterdir())) == 1
    assert tombstones.read(files) == set(ids)
    assert tombstones.read(files) is tombstones.read(files)
    (file,) = Path(filled.uri, tombstones.FOLDER).iterdir()
    file.rename(file.with_name("other.json")).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Committer(filled).commit(whole_video(filled, GONE, 1))


def test_rows_of_a_transaction_that_began_before_are_left_out(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store keeps nobody out: an attempt offers rows, then come the tombstones and the touch, then it
    commits.
    """
    from curation.pyramid.commits import upsert

    published = upsert.publish
    came = False

    def late(*arguments: Any) -> Any:
        nonlocal came
        if not came:
            came = True
            tombstones.add(filled.files, ["d" * 32])
            module._touch(filled)
        return published(*arguments)

    monkeypatch.setattr(upsert, "publish", late)
    before = state(filled)
    Committer(filled).commit(replace(whole_video(filled, "d" * 32, 3), media=(), samples=()))
    assert came and state(filled) == before


def test_what_is_appended_while_it_is_taken_down_is_taken_back(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object store keeps nobody out, and no transaction refuses an append."""
    from curation.pyramid.commits import commit

    appended = Committer._append_fragments

    def late(committer: Committer, name: str, fragments: list[Any]) -> Any:
        tombstones.add(filled.files, ["d" * 32])
        return appended(committer, name, fragments)

    monkeypatch.setattr(commit, "is_remote", lambda _: True)
    monkeypatch.setattr(Committer, "_append_fragments", late)
    before = state(filled)
    Committer(filled).commit(whole_video(filled, "d" * 32, 3))
    assert state(filled) == before


def test_a_result_that_is_committed_once_more_when_its_files_have_gone(filled: Pyramid) -> None:
    """Out of the journal, by the takedown, and then by its run; in between its rows were copied."""
    made = whole_video(filled, "d" * 32, 3)
    Journal(filled.uri, "at-work").keep(made)
    gone(filled)
    upkeep(filled, timedelta(0))  # small fragments are put together, and the old ones removed
    for name, tickets in (("samples", made.samples), ("media", made.media)):
        files = [Path(file.path).name for ticket in tickets for one in read_ticket(ticket)[1] for file in one.files]
        assert files and not {*files} & {path.name for path in Path(filled.uri, f"{name}.lance", "data").iterdir()}
    before = state(filled)
    Committer(filled).commit(made)
    assert state(filled) == before
    assert len(list(filled.media(clip_ids("d" * 32, 3)))) == 3


def test_upkeep_beside_a_takedown_that_was_cut_short_does_no_harm(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(filled)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_rewritten", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            gone(filled, URI)
    upkeep(filled, timedelta(0))
    finished(filled)
    assert state(filled) == of(before, *KEPT)
