"""A pyramid keeps its recipe: which one a command works by, what differs is said, and nothing changes unasked."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from curation.contract import CLIPS, VIDEOS
from curation.errors import UserError
from curation.filters.base import NO_SAMPLES
from curation.media.plan import MediaPlan
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import plans, recipes
from curation.pyramid.history.failures import PASSING
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened, retier
from curation.pyramid.tiering.tiers import MEASURES, Range
from curation.rows import frame_fingerprints
from pipelines.cli import main
from pipelines.commands.pyramid.tiers import bounded_below, moved, still_to_do, tiers
from pipelines.config.adoption import choose
from pipelines.config.filters import computable
from pipelines.config.recipe import SHIPPED, differences, parsed
from pipelines.render import pyramid as render
from tests.curation.pyramid.build import image_row, table, whole_video

TEXT = """
name = "mine"
[clips]
max_s = 8.0
[filters.ocr]
from_tier = "low"
[filters.aesthetic]
enabled = false
[[tiers]]
name = "low"
motion = [1.0, inf]
[[tiers]]
name = "high"
motion = [2.0, 20.0]
[cut]
tier = "low"
"""
SAME = TEXT.replace("[clips]\nmax_s = 8.0", "# the same in other words\n[encode]\ncrf = 18").replace("[1.0,", "[1,")
OTHER = TEXT.replace("8.0", "5.0").replace("20.0]", "30.0]")


def recipe(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    made, notices = choose(str(tmp_path / "p"), recipe(tmp_path, TEXT)).adopt(str(tmp_path / "p"))
    assert notices == []
    Committer(made).commit(whole_video(made, "v1", 5))
    return made


def everything(pyramid: Pyramid) -> tuple[str, list[bytes]]:
    """`pyramid.json` and all recipes."""
    files = pyramid.files
    return Path(pyramid.uri, "pyramid.json").read_text(), [
        files.read(f"recipes/{version:04d}.toml") or b"" for version in recipes.versions(files)
    ]


def test_a_new_pyramid_takes_the_recipe_given_or_small(tmp_path: Path) -> None:
    for given, text in ((None, (SHIPPED / "small.toml").read_text()), (recipe(tmp_path, TEXT), TEXT)):
        uri = str(tmp_path / str(given is None))
        made, _ = choose(uri, given).adopt(uri)
        assert made.recipe_text() == text
        assert choose(uri, None).recipe == parsed(text, "x") and choose(uri, None).keeps


def test_looking_for_a_recipe_makes_nothing(tmp_path: Path) -> None:
    choose(str(tmp_path / "p"), None)
    with pytest.raises(UserError, match="no recipe"):
        choose(str(tmp_path / "p"), "nosuch")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("text", [None, TEXT, SAME, TEXT.replace('"mine"', '"renamed"')])
def test_the_same_recipe_changes_nothing(pyramid: Pyramid, tmp_path: Path, text: str | None) -> None:
    before = everything(pyramid)
    choice = choose(pyramid.uri, None if text is None else recipe(tmp_path, text, "again.toml"))
    assert choice.keeps and choice.recipe == parsed(TEXT, "x")
    assert choice.adopt(pyramid.uri)[1] == [] and everything(pyramid) == before


def test_another_recipe_says_what_differs_and_does_nothing(pyramid: Pyramid, tmp_path: Path) -> None:
    before = everything(pyramid)
    with pytest.raises(UserError) as caught:
        choose(pyramid.uri, recipe(tmp_path, OTHER, "other.toml"))
    said = str(caught.value)
    assert "clips.max_s 8.0 -> 5.0" in said and "tiers.high.motion [2.0, 20.0] -> [2.0, 30.0]" in said
    assert "--replace-recipe" in said and "\n" not in said
    assert everything(pyramid) == before


def test_replacing_keeps_the_old_text_and_puts_the_new_tiers_in_force(pyramid: Pyramid, tmp_path: Path) -> None:
    moved(opened(pyramid.uri), "low", {"motion": (3.0, None)})
    changed, notices = choose(pyramid.uri, recipe(tmp_path, OTHER, "o.toml"), replace=True).adopt(pyramid.uri)
    assert changed.recipe_text() == OTHER and changed.about.recipe_version == 2
    assert everything(changed)[1] == [TEXT.encode(), OTHER.encode()]
    assert changed.tiers == parsed(OTHER, "x").pyramid_tiers and changed.about.moved == ()
    assert any("low motion 3.." in notice for notice in notices)
    tiers = {row["motion"]: row["tier"] for row in changed.query().to_table().to_pylist()}
    assert tiers == {0.0: None, 1.0: "low", 2.0: "high", 3.0: "high", 4.0: "high"} and not changed.about.retiering


def test_a_moved_threshold_stays_moved(pyramid: Pyramid, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved(opened(pyramid.uri), "high", {"motion": (4.0, None)})
    for given in (None, recipe(tmp_path, TEXT, "again.toml"), recipe(tmp_path, SAME, "same.toml")):
        choose(pyramid.uri, given).adopt(pyramid.uri)
        now = opened(pyramid.uri)
        assert now.tiers.effective("high") == {"motion": Range(4.0)}
        assert [row["tier"] for row in now.where(motion=3.0).to_table().to_pylist()] == ["low"]
    render.tiers(tiers(pyramid.uri, None, {}), as_json=False)
    assert "motion 4.. (moved from 2..20)" in capsys.readouterr().out
    render.tiers(tiers(pyramid.uri, None, {}), as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["moved"] for row in rows] == [
        {},
        {"motion": {"recipe": {"low": 2.0, "high": 20.0}, "now": {"low": 4.0, "high": None}}},
    ]


def test_videos_under_another_plan_than_the_recipe_s_are_counted(
    pyramid: Pyramid, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `--replace-recipe` in a run that was stopped."""
    plan = parsed(TEXT, "x").plan.fingerprint
    Committer(pyramid).commit(whole_video(pyramid, "v2", 1, plan))
    render.tiers(tiers(pyramid.uri), as_json=True)
    assert "note: videos under another plan than the recipe's: 1; " in capsys.readouterr().err
    Committer(pyramid).commit(whole_video(pyramid, "v1", 5, plan))
    assert not any("another plan" in note for note in tiers(pyramid.uri).notes)


def test_videos_with_scores_of_another_side_are_counted(pyramid: Pyramid) -> None:
    ids = pyramid.query().ids()
    for side, told in ((360, True), (0, False)):
        made_by = frame_fingerprints(MediaPlan(score_side=side))
        columns = {
            name: [value] * len(ids)
            for score, by in made_by.items()
            for name, value in ((score, 1.0), (f"{score}_by", by))
        }
        Committer(pyramid).commit(Batch(clip_updates=[pa.table({"clip_id": ids} | columns)]))
        assert any("measured otherwise than the recipe says: 1;" in note for note in tiers(pyramid.uri).notes) == told


def test_tiers_are_shown_whatever_the_recipe_says(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pyramid, "recipe_text", lambda self: TEXT + "[rules]\nof_another_version = 1\n")
    found = tiers(pyramid.uri)
    assert len(found.rows) == 2 and "of_another_version" in found.notes[0]


def test_two_who_move_at_once_both_move(pyramid: Pyramid) -> None:
    """Each opened the pyramid before the other moved."""
    one, other = opened(pyramid.uri), opened(pyramid.uri)
    moved(one, "low", {"motion": (1.5, None)})
    moved(other, "high", {"sharpness": (5.0, None)})
    now = opened(pyramid.uri).tiers
    assert now.effective("high") == {"motion": Range(2.0, 20.0), "sharpness": Range(5.0)}
    assert now.effective("low") == {"motion": Range(1.5)}


@pytest.mark.parametrize("column", MEASURES)
def test_the_column_tier_follows_a_bound_on_whatever_a_tier_may_bound(pyramid: Pyramid, column: str) -> None:
    """Of the five clips two are 640 x 360; the others say nothing of their size. All have a rate, frames and so a
    length.
    """
    every = sorted(pyramid.query().ids())
    rows = [{"clip_id": name, "width": 640, "height": 360} for name in every[3:]]
    Committer(pyramid).commit(Batch(clip_updates=[table(rows, CLIPS)]))
    moved(opened(pyramid.uri), "high", {"motion": (1.0, None)})
    known = every if column in ("fps", "frames", "duration_s") else every[3:]
    for low, those in ((1.0, known), (10**6, [])):
        moved(opened(pyramid.uri), "high", {column: (low, None)})
        now = opened(pyramid.uri)
        high = {row["clip_id"] for row in now.dataset("clips").to_table().to_pylist() if row["tier"] == "high"}
        assert high == set(now.tier("high").ids())
        assert high <= set(those) and bool(high) == bool(those)


def test_a_threshold_is_taken_away(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    found = tiers(pyramid.uri, "high", unset=["motion"])
    now = opened(pyramid.uri)
    assert now.tiers.steps[1].ranges == {} and now.tiers.effective("high") == now.tiers.effective("low")
    assert found.changed and [(one.column, one.now) for one in found.moved] == [("motion", None)]
    render.tiers(found, as_json=False)
    assert "high has no range of its own for motion now; the recipe has 2..20" in capsys.readouterr().out
    for wanted, unset, message in (
        ({}, ["motion"], "tier high has no range of its own for motion; it has none"),
        ({"motion": (1.0, 2.0)}, ["motion"], "both moved and unset"),
        ({}, ["colour"], "no range of its own for colour"),
    ):
        with pytest.raises(UserError, match=message):
            tiers(pyramid.uri, "high", wanted, unset)
    with pytest.raises(UserError, match="without a tier"):
        tiers(pyramid.uri, unset=["motion"])


def test_a_tier_is_moved_to_one_kind_and_back(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    before = opened(pyramid.uri).tier("low").count()
    Committer(pyramid).commit(Batch(clips=table([image_row("i1", "v9")], CLIPS)))
    assert main(["tiers", pyramid.uri, "--move", "high", "--kind", "image"]) == 0
    said = capsys.readouterr().out
    assert "kind image (moved from none)" in said and "motion 2..20" in said
    now = opened(pyramid.uri)
    assert now.where(tier="high").ids() == ["i1"] == now.tier("high").ids() and now.tier("low").count() == before + 1
    assert main(["tiers", pyramid.uri, "--move", "low", "--kind", "video"]) == 2
    assert "leaves nothing of video" in capsys.readouterr().err
    assert main(["tiers", pyramid.uri, "--move", "low", "--kind", "picture"]) == 2
    assert "one of video, image is allowed" in capsys.readouterr().err
    assert main(["tiers", pyramid.uri, "--json"]) == 0
    high = json.loads(capsys.readouterr().out.splitlines()[1])
    assert high["moved"] == {"kind": {"recipe": None, "now": "image"}}
    assert [loss["range"] for loss in high["losses"] if loss["column"] == "kind"] == ["image"]
    assert main(["tiers", pyramid.uri, "--move", "high", "--unset", "kind"]) == 0
    assert opened(pyramid.uri).about.moved == () and opened(pyramid.uri).tiers == pyramid.tiers


def test_a_tier_below_that_bounds_a_moved_one_is_named(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    render.tiers(tiers(pyramid.uri, "high", {"motion": (0.5, 30.0)}), as_json=False)
    said = capsys.readouterr()
    assert "high: of motion 0.5..30 only 1..30 passes; a tier below bounds it: low (1..)" in said.err
    inside = Range(1.5, 3.0)
    assert bounded_below(pyramid.tiers.moved("high", "motion", inside), "high", {"motion": inside}) == []


def test_loosening_says_how_many_wait_and_for_what(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    left = still_to_do(pyramid, parsed(TEXT, "x"))
    assert (left.scores, left.cut) == ({"text_area": 4}, 0)
    render.tiers(tiers(pyramid.uri, "low", {"motion": (0.0, None)}), as_json=True)
    said = capsys.readouterr()
    assert f"clips wait: 5 for text_area; `ziggurat curate {pyramid.uri} --fill` does it all" in said.err
    assert [json.loads(line)["waiting"] for line in said.out.splitlines()] == [{"text_area": 5, "cut": 0}] * 2


def test_what_waits_is_what_the_next_run_does(pyramid: Pyramid) -> None:
    """Clips without a score, with one of another filter, with one that failed by a fault of ours; likewise for cuts."""
    (ocr,) = computable(parsed(TEXT, "x"))
    ids = pyramid.query().order("motion").limit(5).ids()
    said = [(4.0, "another", None), (4.0, ocr.fingerprint, None), (None, ocr.fingerprint, "internal_error: x")]
    said += [(None, ocr.fingerprint, "decoder_crashed"), (None, None, NO_SAMPLES)]
    columns = ("text_area", "text_area_by", "text_area_why")
    rows = [{"clip_id": name, **dict(zip(columns, one, strict=True))} for name, one in zip(ids, said, strict=True)]
    Committer(pyramid).commit(Batch(clip_updates=[table(rows, CLIPS)]))
    render.tiers(tiers(pyramid.uri, "low", {"motion": (0.0, None)}), as_json=True)
    assert still_to_do(opened(pyramid.uri), parsed(TEXT, "x")).scores == {"text_area": 2}
    found = Ledger(pyramid).stale_clips(
        "text_area", ocr.fingerprint, opened(pyramid.uri).tiers, "low", ("clip_id",), again=(PASSING,)
    )
    assert sorted(name for batch in found for name in batch[0].to_pylist()) == sorted([ids[0], ids[2], ids[4]])


def test_a_pyramid_of_before_takes_its_recipe_by_name_and_keeps_its_tiers(tmp_path: Path) -> None:
    tiers = parsed(TEXT, "x").pyramid_tiers.moved("low", "motion", Range(3.0))
    made = Pyramid.create(tmp_path / "old", tiers, "mine")
    with pytest.raises(UserError, match="name it once with --recipe"):
        choose(made.uri, None)
    with pytest.raises(UserError, match="name mine -> small"):
        choose(made.uri, "small")
    now, (notice,) = choose(made.uri, recipe(tmp_path, TEXT)).adopt(made.uri)
    assert "keeps the recipe mine" in notice
    assert now.tiers == tiers and now.recipe_text() == TEXT
    assert [(one.tier, one.before) for one in now.about.moved] == [("low", Range(1.0))]
    small = Pyramid.create(tmp_path / "small", parsed((SHIPPED / "small.toml").read_text(), "s").pyramid_tiers, "small")
    assert choose(small.uri, None).adopt(small.uri)[0].about.recipe_version == 1


def test_of_two_that_make_a_pyramid_at_once_the_first_ones_recipe_is_kept(tmp_path: Path) -> None:
    uri = str(tmp_path / "p")
    mine, same, other = (choose(uri, recipe(tmp_path, text, f"{n}.toml")) for n, text in enumerate((TEXT, SAME, OTHER)))
    forced = choose(uri, recipe(tmp_path, OTHER, "forced.toml"), replace=True)
    mine.adopt(uri)
    assert same.adopt(uri)[0].recipe_text() == TEXT
    with pytest.raises(UserError, match=r"clips.max_s 8.0 -> 5.0"):
        other.adopt(uri)
    assert Pyramid.open(uri).recipe_text() == TEXT
    assert forced.adopt(uri)[0].recipe_text() == OTHER


def test_differences_are_of_meaning() -> None:
    assert differences(parsed(TEXT, "a"), parsed(SAME, "b")) == []
    gone = TEXT.replace('[[tiers]]\nname = "high"\nmotion = [2.0, 20.0]\n', "")
    assert differences(parsed(TEXT, "a"), parsed(gone, "b")) == [
        "tiers [low, high] -> [low]",
        "tiers.high.motion [2.0, 20.0] -> none",
    ]


class Word(RuleBasedStateMachine):
    """Commands in any order: recipe, tiers and plans are what the last command that says so made them."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ziggurat-word-"))
        self.uri = str(self.folder / "p")
        self.texts = [recipe(self.folder, text, f"{n}.toml") for n, text in enumerate((TEXT, OTHER, SAME))]
        made, _ = choose(self.uri, self.texts[0]).adopt(self.uri)
        self.text, self.tiers, self.plans = TEXT, made.tiers, set[str]()
        Committer(made).commit(whole_video(made, "v0", 4))

    def _plan(self, pyramid: Pyramid, plan: MediaPlan) -> None:
        """What `curate` does first."""
        plans.keep(pyramid.files, plan)
        self.plans.add(plan.fingerprint)

    @rule(which=st.sampled_from([None, 0, 1, 2]))
    def curate(self, which: int | None) -> None:
        given = None if which is None else self.texts[which]
        other = which is not None and differences(
            parsed(self.text, "a"), parsed(Path(self.texts[which]).read_text(), "b")
        )
        if other:
            with pytest.raises(UserError, match="--replace-recipe"):
                choose(self.uri, given)
            return
        pyramid, _ = choose(self.uri, given).adopt(self.uri)
        self._plan(pyramid, choose(self.uri, given).recipe.plan)
        Committer(pyramid).commit(whole_video(pyramid, "v1", 3))

    @rule(which=st.sampled_from([0, 1, 2]))
    def replace(self, which: int) -> None:
        choice = choose(self.uri, self.texts[which], replace=True)
        pyramid, _ = choice.adopt(self.uri)
        if not choice.keeps:
            self.text, self.tiers = choice.text, choice.recipe.pyramid_tiers
        self._plan(pyramid, choice.recipe.plan)

    @rule(low=st.sampled_from([0.0, 1.5, 2.5]), killed=st.booleans())
    def move(self, low: float, killed: bool) -> None:
        pyramid = opened(self.uri)
        self.tiers = self.tiers.moved("low", "motion", Range(low))
        changed = pyramid.with_tiers(self.tiers)
        if not killed:  # a killed one leaves the rest to the next command
            retier(changed)

    @rule()
    def look(self) -> None:
        opened(self.uri).query().to_table()

    @rule()
    def tidy(self) -> None:
        upkeep(opened(self.uri))

    @rule()
    def commit_of_a_run_that_began_long_ago(self) -> None:
        pyramid = Pyramid.open(self.uri)
        Committer(Pyramid(self.uri, pyramid.about)).commit(whole_video(pyramid, "v2", 2))

    @invariant()
    def keeps_its_word(self) -> None:
        pyramid = opened(self.uri)
        assert pyramid.recipe_text() == self.text
        assert pyramid.tiers == self.tiers
        assert {
            name.split("/")[-1].removesuffix(".json") for name in pyramid.files.names("plans", ".json")
        } == self.plans
        assert all(plans.load(pyramid.files, name) is not None for name in self.plans)
        for row in pyramid.query().to_table().to_pylist():
            assert row["tier"] == self.tiers.highest(row)

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


Word.TestCase.settings = settings(max_examples=12, stateful_step_count=8, deadline=None)
TestWord = Word.TestCase


def test_a_kept_recipe_that_can_no_longer_be_read_gives_way_to_one_that_replaces_it(
    pyramid: Pyramid, tmp_path: Path
) -> None:
    """Damaged, cut short to what is a recipe still, or of an older version that took what this one refuses."""
    path, about = Path(pyramid.uri, "recipes", "0001.toml"), Path(pyramid.uri, "pyramid.json")
    whole, said = path.read_text(), json.loads(about.read_text())
    unhashed = json.dumps({key: value for key, value in said.items() if key != "recipe_sha256"})
    other = recipe(tmp_path, OTHER, "other.toml")
    for text, description, told in (
        (whole[: whole.index("[[tiers]]")], json.dumps(said), "is not the text that was kept"),
        (whole + "\n[run]\nwindow = true\n", json.dumps(said), "is not the text that was kept"),
        (whole + "\n[run]\nwindow = true\n", unhashed, r"run\.window = True"),
        (None, json.dumps(said), "is missing"),
    ):
        about.write_text(description)
        path.unlink(missing_ok=True) if text is None else path.write_text(text)
        for given in (None, other):
            with pytest.raises(UserError, match=told):
                choose(pyramid.uri, given)
        assert any(re.search(told, note) for note in tiers(pyramid.uri).notes)
        made, _ = choose(pyramid.uri, other, replace=True).adopt(pyramid.uri)
        assert made.recipe_text() == OTHER
    about.write_text(unhashed)
    path.write_text(whole)
    assert choose(pyramid.uri, None).keeps, "older pyramids have no hash"


def test_a_score_that_a_list_has_as_a_column_is_told(pyramid: Pyramid, tmp_path: Path) -> None:
    said = json.dumps({"logo": "yes"})
    row = {"video_id": "v1", "uris": ["/in/v1.mp4"], "extra": said, "status": "done"}
    Committer(pyramid).commit(Batch(videos=table([row], VIDEOS)))
    own = TEXT + '\n[[filters.custom]]\nname = "logo"\nfilter = "a:B"\n'
    made, notices = choose(pyramid.uri, recipe(tmp_path, own, "own.toml"), replace=True).adopt(pyramid.uri)
    assert "the column logo of your lists is extra.logo from now on" in notices
    assert made.about.scores == ("logo",)
    assert made.query().columns("extra.logo").limit(1).to_table()["extra.logo"].to_pylist() == ["yes"]
