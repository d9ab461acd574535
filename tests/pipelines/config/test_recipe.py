"""Recipes: those that ship are sound, and a wrong one names the key, the value and what is allowed."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest

from curation.contract import Kind
from curation.errors import UserError
from curation.inputs.kinds import PICTURE_EXTENSIONS, VIDEO_EXTENSIONS
from curation.media.plan import ClipPlan, Encode, Limits, MediaPlan, Rules
from curation.pyramid.tiering.tiers import Range
from pipelines.config.recipe import SHIPPED, Recipe, differences, load, parsed

HEAD = 'name = "x"\n'


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.toml")))
def test_shipped_recipes_load_and_end_in_a_tier(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.cut.tier in recipe.pyramid_tiers.names


def test_the_report_recipe_has_the_reports_numbers() -> None:
    recipe = load("opensora2")
    assert recipe.plan.rules == Rules()
    assert (recipe.plan.rules.min_duration_s, recipe.plan.rules.min_bpp, recipe.plan.rules.min_fps) == (2.0, 0.02, 16.0)
    assert (recipe.plan.clips.min_s, recipe.plan.clips.max_s, recipe.plan.clips.max_side) == (2.0, 8.0, 1080)
    assert recipe.plan.clips.max_fps < 30
    assert "aesthetic" in recipe.pyramid_tiers.effective("256px")


def test_the_small_recipe_needs_no_weights() -> None:
    recipe = load("small")
    assert all("aesthetic" not in recipe.pyramid_tiers.effective(name) for name in recipe.pyramid_tiers.names)


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.toml")))
@pytest.mark.parametrize(("tier", "side"), [("256px", 256), ("768px", 768)])
def test_the_shipped_tiers_ask_for_the_pixels_of_their_resolution(name: str, tier: str, side: int) -> None:
    assert load(name).pyramid_tiers.effective(tier)["pixels"] == Range(ceil(0.8 * side**2))


def test_defaults_are_the_plans_own() -> None:
    recipe = Recipe.model_validate({"name": "x"})
    assert recipe.plan == MediaPlan(Rules(), clips=ClipPlan())
    assert recipe.encoding == Encode()
    assert recipe.limits == Limits()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[encode]\ncrf = 99", ["encode.crf", "99", "51"]),
        ('[encode]\npreset = "quick"', ["quick", "veryfast"]),
        ('[encode]\ncodec = "h264_nvenc"\npreset = "medium"', ["medium", "p1"]),
        ("[encode]\nquality = 3", ["encode.quality", "3", "crf"]),
        ("speed = 3", ["speed", "tiers"]),
        ('[shots]\ndetector = "magic"', ["shots.detector", "magic", "scene", "transnet"]),
        ("[clips]\nmin_s = 9.0", ["9.0", "8.0"]),
        ('[[tiers]]\nname = "a"\nmotoin = [1, 2]', ["motoin", "motion"]),
        ('[[tiers]]\nname = "a"\nmotion = [3, 2]', ["motion", "[3, 2]", "above"]),
        ('[[tiers]]\nname = "a"\nmotion = 3', ["motion", "3", "[lowest, highest]"]),
        ("[[tiers]]\nmotion = [1, 2]", ["name"]),
        ('[[tiers]]\nname = "a"\nkind = "picture"', ["kind", "'picture'", "video, image"]),
        ('[[tiers]]\nname = "a"\nkind = [1, 2]', ["kind", "[1, 2]", "video, image"]),
        ('[[tiers]]\nname = "a"\nkind = "image"\n[[tiers]]\nname = "b"\nkind = "video"', ["'b'", "kind", "image"]),
        ('[[tiers]]\nname = "a"\n[[tiers]]\nname = "a"', ["'a'", "2 times"]),
        ('[cut]\ntier = "gold"\n[[tiers]]\nname = "a"', ["cut.tier", "gold", "a"]),
        ('[filters.ocr]\nengine = "tesseract"', ["filters.ocr.engine", "tesseract", "rapidocr"]),
        ("[sandbox]\nmemory_mb = 1", ["sandbox.memory_mb", "1", "512"]),
        ("[rules]\naspect = [3, 1]", ["rules.aspect", "[lowest, highest]"]),
        ("[rules]\naspect = [-1, 0]", ["rules.aspect", "below 0"]),
        ("[rules]\naspect = [nan, 2]", ["rules.aspect"]),
        ("[rules]\nmin_bpp = inf", ["rules.min_bpp", "48"]),
        ("[rules]\nmin_duration_s = inf", ["rules.min_duration_s"]),
        ("[rules]\nmin_duration_s = nan", ["rules.min_duration_s"]),
        ('[rules]\nbanned_profiles = ["nosuch"]', ["nosuch", "Constrained Baseline", "High 10"]),
        ("[clips]\nmin_s = inf\nmax_s = inf", ["clips.min_s"]),
        ("[clips]\nmax_fps = 0.001", ["clips.max_fps", "1"]),
        ("[clips]\nfps = 0.5", ["clips.fps", "1"]),
        ("[images]\nmin_side = 300\nmax_side = 200", ["300", "200"]),
        ("[sandbox]\nsilence_s = 0.01", ["sandbox.silence_s", "1"]),
        ("[sandbox]\ncpu_s = inf", ["sandbox.cpu_s"]),
        ("[rules\n", ["TOML"]),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_what_is_allowed(text: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(HEAD + text)
    with pytest.raises(UserError) as caught:
        load(str(tmp_path / "r.toml"))
    said = str(caught.value)
    assert "\n" not in said
    assert all(word in said for word in words), said


def test_a_tier_of_one_kind_is_a_difference_as_a_range_is() -> None:
    tier = HEAD + '[[tiers]]\nname = "a"\n'
    still, both = parsed(tier + 'kind = "image"\n', "x"), parsed(tier, "x")
    assert still.pyramid_tiers.effective("a") == {"kind": Kind.IMAGE}
    assert differences(both, still) == ["tiers.a.kind none -> image"]


def test_an_unknown_name_lists_what_ships() -> None:
    with pytest.raises(UserError, match="opensora2"):
        load("opensora9")


def test_images_come_from_folders_where_the_recipe_says_so() -> None:
    assert parsed('name = "r"', "r").extensions == VIDEO_EXTENSIONS
    asked = parsed('name = "r"\n[images]\nfrom_folders = true', "r")
    assert asked.extensions == VIDEO_EXTENSIONS | PICTURE_EXTENSIONS
    assert asked.plan.fingerprint == parsed('name = "r"', "r").plan.fingerprint, "nothing is measured again for it"
