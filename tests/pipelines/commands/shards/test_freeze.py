"""`ziggurat freeze` and `manifests` as a person types them; buckets and draws are the rule of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from curation.shards import folder
from pipelines.cli import main
from tests.curation.pyramid.build import TIERS
from tests.curation.shards.build import filled, pictured
from tests.support.face import refused, said

TABLE = """
side_multiple = 32
[buckets.128px]
1 = { batch = 4, p = 1.0 }
16 = { batch = 2, p = 0.5 }
"""


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    (tmp_path / "table.toml").write_text(TABLE)
    made = Pyramid.create(tmp_path / "pyramid", TIERS, "test")
    for number in range(8):
        filled(made, f"v{number}")
    pictured(made, "i1")
    return made


def table(pyramid: Pyramid) -> str:
    return str(Path(pyramid.uri).with_name("table.toml"))


def test_a_tier_and_conditions_are_frozen_and_shown(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    given = (pyramid.uri, "--name", "n", "--tier", "low", "--preset", table(pyramid), "--motion", "1..1", "--seed", "1")
    (made,) = said(capsys, "freeze", *given)
    assert made["kind"] == "manifest" and made["seed"] == 1 and made["tier"] == "low"
    assert made["query"] == ["motion 1..", "motion 1..1"] and made["table"].startswith("side_multiple = 32")
    assert made["buckets"]["128px 1"] == 1 and made["missed"] == {"not drawn": 8 - made["buckets"]["128px 16"]}
    frozen = folder.open_manifest(pyramid.uri, "n")
    assert {row["motion"] for row in frozen.samples.to_pylist()} == {1.0, None}
    (shown,) = said(capsys, "manifests", pyramid.uri, "n")
    assert shown == made
    (listed,) = said(capsys, "manifests", pyramid.uri)
    assert listed == {name: value for name, value in made.items() if name not in ("forgotten", "pinned")}


def test_a_person_sees_buckets_and_what_is_left_out(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    filled(pyramid, "small", width=32, height=32)
    assert main(["freeze", pyramid.uri, "--name", "n", "--preset", table(pyramid)]) == 0
    shown = capsys.readouterr().out
    for words in ("#n: ", "128px 16 frames", "left out: too small", "add a smaller one", "draws by seed 42", "clips "):
        assert words in shown
    assert main(["manifests", pyramid.uri]) == 0
    assert "left out" in capsys.readouterr().out


def test_a_clip_gets_its_bucket_whatever_else_is_there(
    pyramid: Pyramid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("one", "two")):
        said(capsys, "freeze", pyramid.uri, "--name", name, "--preset", table(pyramid))
        for more in range(6):
            filled(pyramid, f"{number}-{more}")
    said(capsys, "freeze", pyramid.uri, "--name", "other", "--preset", table(pyramid), "--seed", "7")
    one, two, other = (
        {row["clip_id"]: row for row in folder.open_manifest(pyramid.uri, name).samples.to_pylist()}
        for name in ("one", "two", "other")
    )
    old = {row["clip_id"] for row in two.values()} & set(
        pyramid.query().where(video_id=[f"v{n}" for n in range(8)]).ids()
    )
    assert {name: two[name] for name in old} == {name: row for name, row in one.items() if row["kind"] == "video"}
    assert 0 < len(old) < 24 and len(two) > len(one)
    assert {name for name in other if name in one} != set(one)


def test_what_is_wrong_is_one_line(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    mine = ("--preset", table(pyramid))
    assert "tier 'none': unknown; there are low" in refused(
        capsys, "freeze", pyramid.uri, "--name", "n", "--tier", "none", *mine
    )
    assert "no bucket table" in refused(capsys, "freeze", pyramid.uri, "--name", "n", "--preset", "nothing")
    assert "is no name" in refused(capsys, "freeze", pyramid.uri, "--name", "a/b", *mine)
    assert "no column" in refused(capsys, "freeze", pyramid.uri, "--name", "n", "--beauty", "1..", *mine)
    high = refused(capsys, "freeze", pyramid.uri, "--name", "n", "--width", "9999..", *mine)
    assert "no clip is in this tier" in high
    stage = refused(capsys, "freeze", pyramid.uri, "--name", "n", "--kind", "video", "--preset", "image")
    assert "too short" in stage or "too small" in stage
    assert "has no manifest 'n'" in refused(capsys, "manifests", pyramid.uri, "n")
    assert folder.listed(pyramid.files) == []


def test_a_takedown_names_the_manifest(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "freeze", pyramid.uri, "--name", "n", "--preset", table(pyramid))
    taken = folder.open_manifest(pyramid.uri, "n").samples["video_id"].to_pylist()
    gone = next(name for name in taken if name != "i1")
    (done,) = said(capsys, "forget", pyramid.uri, gone, "--yes")
    assert done["manifests"] == ["n"] and done["pins"] == ["manifest-n"]
    (shown,) = said(capsys, "manifests", pyramid.uri, "n")
    assert shown["forgotten"] == taken.count(gone)
    assert shown["pinned"] is True
    (shown,) = said(capsys, "manifests", pyramid.uri, "n", "--unpin")
    assert shown["pinned"] is False and shown["name"] == "n"
    (shown,) = said(capsys, "manifests", pyramid.uri, "n", "--unpin")  # again: nothing is left to do
    assert shown["pinned"] is False
    (done,) = said(capsys, "forget", pyramid.uri, gone, "--yes")
    assert done["pins"] == [] and done["left"] == []
    assert main(["manifests", pyramid.uri, "n"]) == 0
    assert "not pinned any more: " in capsys.readouterr().out
    assert "--unpin is of one manifest" in refused(capsys, "manifests", pyramid.uri, "--unpin")


def test_whose_captions_a_manifest_has(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    given = (pyramid.uri, "--name", "n", "--preset", table(pyramid), "--caption-by", "given")
    (made,) = said(capsys, "freeze", *given)
    assert made["caption_by"] == ["given"] and made["captions"] == {"given": made["samples"]}
    assert main(["manifests", pyramid.uri, "n"]) == 0
    assert f"captions by given: given {made['samples']}" in capsys.readouterr().out
    error = refused(capsys, "freeze", pyramid.uri, "--name", "m", "--preset", table(pyramid), "--caption-by", "dense")
    assert "no clip has a caption by 'dense'" in error and "there are given" in error
    assert folder.listed(pyramid.files) == ["n"]
