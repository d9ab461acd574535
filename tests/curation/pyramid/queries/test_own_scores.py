"""Scores of a pyramid's own: columns as good as ours, that no command and no older handle loses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.contract import SCORES, clips_schema
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.commits.journal import Journal, recover
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.history.waiting import Wanted, waiting
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage import about
from curation.pyramid.storage.about import FILE
from curation.pyramid.storage.columns import add_scores
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.retier import retier
from curation.pyramid.tiering.tiers import MEASURES, Range, Tier, Tiers, may_be_score, single
from pipelines import cli
from tests.curation.pyramid.build import TIERS, table, whole_video

OWN = ("logo", "logo_area")
BOUNDED = Tiers((Tier("all"), Tier("clean", {"logo": Range(None, 0.3)})))
# One of them is 0.3 to float32.
VALUES = [0.1, 0.3, 0.30000001, 0.5, None, 0.2]


def scored(*rows: dict[str, Any], own: tuple[str, ...] = OWN) -> pa.Table:
    return table(rows, clips_schema(own))


def ids_of(pyramid: Pyramid) -> list[str]:
    return pyramid.query().ids()


def filled(folder: Path) -> Pyramid:
    pyramid = Pyramid.create(folder, BOUNDED, "test", scores=OWN)
    Committer(pyramid).commit(whole_video(pyramid, "v", len(VALUES)))
    rows = [
        {"clip_id": name, "logo": value, "logo_by": "logo-1", "logo_why": None if value is not None else "no frames"}
        for name, value in zip(ids_of(pyramid), VALUES, strict=True)
    ]
    Committer(pyramid).commit(Batch(clip_updates=[scored(*rows)]))
    return pyramid


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    return filled(tmp_path / "p")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    return filled(tmp_path_factory.mktemp("own") / "p")


def test_which_names_a_score_may_have() -> None:
    assert all(map(may_be_score, ("logo", "x", "nsfw_2", "a" * 48)))
    taken = (
        "motion",
        "clip_id",
        "tier",
        "duration_s",
        "logo_by",
        "logo_why",
        "plan",
        "ended",
        "media",
        "uri",
        "source",
    )
    assert not any(map(may_be_score, (*taken, "", "Logo", "2d", "a-b", "a b", "a" * 49, "lógo", "a;b")))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(low=st.none() | st.sampled_from([0.1, 0.2, 0.3, 0.5]), high=st.none() | st.sampled_from([0.3, 0.30000001, 0.5]))
def test_a_range_keeps_what_plain_python_keeps(kept: Pyramid, low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        return
    names = ids_of(kept)
    wanted = [name for name, value in zip(names, VALUES, strict=True) if Range(low, high).holds(value, rounded=True)]
    assert kept.where(logo=(low, high)).ids() == wanted
    assert kept.where(logo=(low, high)).count() == len(wanted)


def test_it_is_searched_ordered_and_shown_like_ours(kept: Pyramid) -> None:
    names = ids_of(kept)
    assert kept.where(logo_by="logo-1").count() == len(VALUES)
    assert kept.where(logo_why="no frames").ids() == kept.where(logo=None).ids() == [names[4]]
    assert kept.query().having("logo").count() == 5
    best = kept.query().order("logo", descending=True).limit(2).columns("logo").to_table()["logo"].to_pylist()
    assert best == [0.5, single(0.3)]
    row = kept.query().limit(1).to_table().to_pylist()[0]
    assert {"logo", "logo_by", "logo_why", "logo_area"} <= row.keys() and row["logo_area"] is None
    assert kept.query().whole().to_table().schema.field("logo").type == pa.float32()
    for wrong in (
        lambda: kept.where(logos=1),
        lambda: kept.query().columns("logos"),
        lambda: kept.query().order("log"),
    ):
        with pytest.raises(UserError, match=r"there are .*logo_area"):
            wrong()


def test_tiers_bound_it(pyramid: Pyramid) -> None:
    names = ids_of(pyramid)
    clean = [name for name, value in zip(names, VALUES, strict=True) if Range(None, 0.3).holds(value, rounded=True)]
    assert pyramid.tier("clean").ids() == clean == pyramid.where(tier="clean").ids()
    (_, row) = tier_report(pyramid)
    (loss,) = row.losses
    assert (row.clips, loss.alone, loss.alone_null) == (len(clean), len(VALUES) - len(clean) - 1, {"no frames": 1})
    moved = pyramid.moving(lambda tiers: tiers.moved("clean", "logo", Range(None, 0.2)))
    retier(moved)
    assert pyramid.where(tier="clean").ids() == [names[0], names[5]] == Pyramid.open(pyramid.uri).tier("clean").ids()
    with pytest.raises(
        ValueError, match=r"no column 'logos' to set a range on; did you mean logo\? allowed are .*logo_area"
    ):
        pyramid.moving(lambda tiers: tiers.moved("clean", "logos", Range(None, 0.2)))


def test_no_other_pyramid_has_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column 'logo'"):
        Pyramid.create(tmp_path / "p", BOUNDED, "test")
    plain = Pyramid.create(tmp_path / "q", TIERS, "test")
    assert plain.scores == SCORES and "logo" not in plain.dataset("clips").schema.names
    assert "scores" not in json.loads((tmp_path / "q" / FILE).read_text())
    with pytest.raises(UserError, match="no column 'logo'"):
        plain.where(logo=1)


def test_one_whose_name_every_pyramid_has_by_now_is_no_column_more(pyramid: Pyramid) -> None:
    """As when Ziggurat gets a score that users had before under the same name."""
    file = Path(pyramid.uri, FILE)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scores": ["aesthetic", *OWN]}))
    now = Pyramid.open(pyramid.uri)
    assert now.scores == (*SCORES, *OWN)
    assert len(set(now.schema("clips").names)) == len(now.schema("clips").names)
    Committer(now).commit(whole_video(now, "w", 2))
    assert now.query().whole().to_table().num_rows == len(VALUES) + 2


def test_what_is_written_beside_it_leaves_it(pyramid: Pyramid) -> None:
    """By whoever knows of it and by who opened the pyramid before it had it; `upkeep` too."""
    before = pyramid.query().columns("clip_id", "logo", "logo_by", "logo_why").to_table().to_pylist()
    older = Pyramid(pyramid.uri, about.About(Tiers(), "test"), pyramid.storage_options)
    for one in (pyramid, older):
        rows = [{"clip_id": name, "jitter": 1.0, "jitter_by": "j"} for name in ids_of(pyramid)]
        Committer(one).commit(Batch(clip_updates=[scored(*rows)]))
        Committer(one).commit(whole_video(one, f"w{one is older}", 1))
    upkeep(pyramid)
    after = pyramid.where(video_id="v").columns("clip_id", "logo", "logo_by", "logo_why").to_table().to_pylist()
    assert after == before
    assert pyramid.where(video_id="v", jitter=1.0, tier="clean").count() == 4
    row = {"clip_id": before[0]["clip_id"], "logo": 9.0, "logo_by": "logo-2"}
    Committer(older).commit(Batch(clip_updates=[scored(row)]))
    assert pyramid.where(logo=9.0).ids() == [row["clip_id"]], "out of a journal, say"
    with pytest.raises(AssertionError, match="before they are made"):
        Committer(older).commit(Batch(clip_updates=[scored({"clip_id": row["clip_id"], "nsfw": 1.0}, own=("nsfw",))]))


def test_a_recipe_adds_scores_and_takes_none(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "test")
    Committer(pyramid).commit(whole_video(pyramid, "v", 2))
    for scores, all_ in ((("b",), ("b",)), (("a", "b"), ("a", "b")), ((), ("a", "b")), (("c",), ("c", "a", "b"))):
        add_scores(pyramid, scores)
        add_scores(pyramid, scores)  # two jobs do the same
        pyramid = pyramid.with_recipe("test", f"# {scores}", TIERS, scores=scores)
        assert Pyramid.open(pyramid.uri).about.scores == all_
        assert {*all_} <= {*pyramid.dataset("clips").schema.names}
    assert pyramid.query().columns("clip_id", "c").to_table()["c"].to_pylist() == [None, None]


def options(name: str) -> set[str]:
    """The long options of a command, as columns would be called."""
    command = getattr(typer.main.get_command(cli.app), "commands")[name]  # noqa: B009
    return {one.removeprefix("--").replace("-", "_") for param in command.params for one in param.opts if "--" in one}


@pytest.mark.parametrize("command", ["query", "tiers"])
def test_no_score_is_called_like_an_option_of_a_command_that_takes_columns(command: str) -> None:
    assert options(command) >= {"json"}
    assert not any(map(may_be_score, options(command)))


def test_jobs_with_other_scores_of_their_own_are_recovered_together(tmp_path: Path) -> None:
    """Both were killed, and the pyramid had been opened before one of them gave it its scores."""
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "test")
    for number, own in enumerate(((), ("a", "b"), ("b", "a"))):
        add_scores(pyramid, own)
        pyramid = pyramid.with_recipe("test", f"# {number}", TIERS, scores=own)
        whole = whole_video(pyramid, f"v{number}", 1)
        assert whole.clips is not None
        (row,) = whole.clips.to_pylist()
        row |= {name: None for score in own for name in (score, f"{score}_by")}
        row |= {f"{score}_why": "not run yet" for score in own}
        Journal(pyramid.uri, f"killed{number}").keep(replace(whole, clips=scored(row, own=own)))
    assert recover(Pyramid(pyramid.uri, about.About(TIERS, "test"))) == 3
    rows = Pyramid.open(pyramid.uri).query().columns("video_id", "a_why", "b_why").to_table().to_pylist()
    found = {row["video_id"]: (row["a_why"], row["b_why"]) for row in rows}
    assert found == {"v0": (None, None), "v1": ("not run yet",) * 2, "v2": ("not run yet",) * 2}


def test_what_says_nothing_of_a_score_leaves_its_reason(pyramid: Pyramid) -> None:
    (name, *_) = ids_of(pyramid)
    nothing: dict[str, Any] = {"logo_area": None, "logo_area_by": None, "logo_area_why": None}
    for row in (nothing | {"logo_area_why": "not run yet"}, nothing):
        Committer(pyramid).commit(Batch(clip_updates=[scored({"clip_id": name, **row})]))
        assert pyramid.where(clip_id=name).columns("logo_area_why").to_table()["logo_area_why"].to_pylist() == [
            "not run yet"
        ]


def test_a_clip_that_lacks_one_of_a_filters_scores_is_found(pyramid: Pyramid) -> None:
    def found(also: tuple[str, ...], by: str = "logo-1") -> int:
        return sum(b.num_rows for b in Ledger(pyramid, True).stale_clips("logo", by, BOUNDED, None, also=also))

    assert (found(()), found(("logo_area",))) == (0, len(VALUES))
    rows = [{"clip_id": name, "logo_area": 1.0, "logo_area_by": "logo-1"} for name in ids_of(pyramid)]
    Committer(pyramid).commit(Batch(clip_updates=[scored(*rows)]))
    assert (found(()), found(("logo_area",)), found(("logo_area",), "logo-2")) == (0, 0, len(VALUES))
    assert waiting(pyramid, {"logo": Wanted("logo-1", None, ("logo_area",))}, None).scores == {}
    assert waiting(pyramid, {"logo": Wanted("logo-1", None, ("motion",))}, None).scores == {"logo": len(VALUES)}


def test_clips_that_lack_it_are_found_behind_the_cheaper_scores(pyramid: Pyramid) -> None:
    def found(score: str, tiers: Tiers, tier: str | None, by: str = "logo-1") -> int:
        return sum(batch.num_rows for batch in Ledger(pyramid).stale_clips(score, by, tiers, tier))

    assert found("logo", BOUNDED, None) == 0 and found("logo", BOUNDED, None, "logo-2") == len(VALUES)
    assert found("logo_area", BOUNDED, None) == len(VALUES) and found("logo_area", BOUNDED, "clean") == 4
    assert pyramid.scores[-2:] == OWN and not set(OWN) & set(MEASURES)
