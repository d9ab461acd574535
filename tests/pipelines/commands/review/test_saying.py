"""`keep`, `drop`, `undecide` and `tag` as a person types them, and what other commands make of what was said."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from curation.exports.export import DROPPED as NOT_EXPORTED
from curation.pyramid.commits.commit import Committer
from curation.pyramid.store import Pyramid
from curation.shards.freezing import DROPPED
from pipelines.cli import main
from pipelines.commands.review import who
from pipelines.sheet.contact_sheet import describe
from tests.curation.pyramid.build import TIERS, whole_image
from tests.curation.shards.build import filled
from tests.support.face import refused, said

Captured = pytest.CaptureFixture[str]
TABLE = "side_multiple = 32\n[buckets.128px]\n16 = { batch = 2 }\n"


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    made = Pyramid.create(tmp_path / "p", TIERS, "test")
    for name in ("v1", "v2"):
        filled(made, name, 3)
    Committer(made).commit(whole_image(made, "i1"))
    return made


def test_clips_by_ids_or_by_the_beginnings_of_them(pyramid: Pyramid, capsys: Captured) -> None:
    one, other, *_ = ids = pyramid.query().ids()
    (done,) = said(capsys, "drop", pyramid.uri, one, other[:8])
    assert (done["said"], done["by"], done["changed"]) == ("drop", getpass.getuser(), 2)
    assert sorted(pyramid.where(decision="drop", decision_by=getpass.getuser()).ids()) == sorted([one, other])
    assert main(["keep", pyramid.uri, one, "--by", "anna"]) == 0
    out = capsys.readouterr().out
    assert "1 clips kept by anna" in out and f"{one} was dropped by {getpass.getuser()} at 20" in out
    assert main(["tag", pyramid.uri, one, "--add", "sunset,day-1", "--add", "x", "--by", "anna"]) == 0
    assert main(["why", pyramid.uri, one]) == 0
    told = capsys.readouterr().out
    assert "kept by anna at 20" in told and "tagged day-1 by anna at 20" in told
    (row,) = said(capsys, "query", pyramid.uri, "--tagged", "sunset,-blurry", "--decision", "keep")
    assert (row["clip_id"], row["tagged"], row["tagged_by"]) == (one, "day-1,sunset,x", ["anna"] * 3)
    assert said(capsys, "tag", pyramid.uri, one, "--remove", "x", "--remove", "sunset")[0]["changed"] == 1
    assert len(said(capsys, "query", pyramid.uri, "--tagged=-day-1")) == len(ids) - 1


def test_all_clips_of_a_query_and_no_other(pyramid: Pyramid, capsys: Captured) -> None:
    wanted = pyramid.tier("low").where(video_id="v1", kind="video").ids()
    done = said(capsys, "drop", pyramid.uri, "--video-id", "v1", "--tier", "low", "--kind=video")[0]
    assert done["changed"] == len(wanted) == 2 and done["notes"] == []
    assert sorted(pyramid.where(decision="drop").ids()) == sorted(wanted)
    assert said(capsys, "undecide", pyramid.uri, "--decision", "drop")[0]["changed"] == 2
    (done,) = said(capsys, "keep", pyramid.uri, "--motion", "..0.5")
    assert done["changed"] == 3 and "1 of the clips are images" in done["notes"][0]


def test_what_is_not_said_clearly_is_refused(
    pyramid: Pyramid, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, version = pyramid.query().ids()[0], pyramid.dataset("clips").version
    for arguments, told in (
        (("drop",), "no clip is named"),
        (("drop", clip, "--tier", "low"), "by ids and by conditions"),
        (("drop", clip, "0" * 32), "no clip has an id that begins with"),
        (("drop", clip[:3]), "no clip has an id that begins with"),
        (("keep", "--moton", "1.."), "no column 'moton'"),
        (("keep", "--tier", "none"), "'none'"),
        (("tag", clip), "no tag is named"),
        (("tag", clip, "--add", "a b"), "cannot be a tag"),
        (("keep", clip, "--by", ""), "no name of a person"),
    ):
        assert told in refused(capsys, arguments[0], pyramid.uri, *arguments[1:]), arguments
    monkeypatch.setattr(who.getpass, "getuser", lambda: (_ for _ in ()).throw(KeyError("uid not found")))
    assert "--by NAME" in refused(capsys, "keep", pyramid.uri, clip)
    assert pyramid.dataset("clips").version == version


def test_what_goes_to_training_leaves_out_what_was_dropped(pyramid: Pyramid, capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "table.toml").write_text(TABLE)
    freeze = ("freeze", pyramid.uri, "--preset", str(tmp_path / "table.toml"), "--kind", "video", "--name")
    clip = pyramid.tier("low").where(kind="video").ids()[0]
    said(capsys, "drop", pyramid.uri, clip)
    (all_,) = said(capsys, *freeze, "all")
    assert (all_["samples"], all_["missed"]) == (5, {DROPPED: 1})
    (low,) = said(capsys, *freeze, "low", "--tier", "low")
    assert low["samples"] == 3 and DROPPED not in low["missed"]
    (asked,) = said(capsys, *freeze, "asked", "--tier", "low", "--decision", "drop")
    assert asked["samples"] == 1 and "decision drop" in asked["query"]
    exported = ("export", pyramid.uri, "--as", "jsonl", "--kind", "video", "-o")
    (done,) = said(capsys, *exported, str(tmp_path / "x"))
    assert (done["clips"], done["left_out"]) == (5, {NOT_EXPORTED: 1})
    (done,) = said(capsys, *exported, str(tmp_path / "y"), "--decision", "drop")
    lines = [json.loads(line) for line in (tmp_path / "y" / "metadata.jsonl").read_text().splitlines()]
    assert [(line["clip_id"], line["decision"]) for line in lines] == [(clip, "drop")] and done["left_out"] == {}


def test_tiers_and_the_sheet_say_that_it_was_a_person(pyramid: Pyramid, capsys: Captured) -> None:
    clip = pyramid.tier("low").ids()[0]
    said(capsys, "drop", pyramid.uri, clip, "--by", "anna")
    assert next(row["dropped"] for row in said(capsys, "tiers", pyramid.uri)) == 1
    assert main(["tiers", pyramid.uri]) == 0
    assert "a person's word" in capsys.readouterr().out
    drawn = describe(pyramid.tier("low"), "low", [], [clip, *pyramid.where(motion=(None, 0.5), kind="video").ids()])
    assert [tile.missed[0].text for tile in drawn.dropped][-1] == "dropped by anna"
    assert {tile.missed[0].column for tile in drawn.dropped} == {"motion", "decision"}
