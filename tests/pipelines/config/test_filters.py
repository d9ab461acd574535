"""The sample filters of a recipe: settled, and tried out, before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import UserError
from curation.filters import aesthetic_section
from curation.filters.ocr.base import DETECTOR_FILE, READER_FILE
from curation.filters.ocr.section import OcrSection
from pipelines.config import filters
from pipelines.config.recipe import Recipe, load

OFF = "[filters.aesthetic]\nenabled = false\n"


def recipe(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "r.toml"
    path.write_text(f'name = "r"\n{text}')
    return load(str(path))


def test_what_a_recipe_says_of_text_reaches_the_filter_and_its_fingerprint(tmp_path: Path) -> None:
    usual, other = (
        filters.listed(recipe(tmp_path, f"{OFF}[filters.ocr]\n{text}"))[0]
        for text in ("", 'reading = "none"\nline = 2.5\nlow = 0.1\ncharacters = 2\nconfidence = 0.6\n')
    )
    assert usual.fingerprint != other.fingerprint
    assert usual.make is not None
    assert other.make is not None
    assert usual.make().fingerprint == usual.fingerprint
    assert other.make().fingerprint == other.fingerprint


def test_the_coarse_look_for_text_can_be_switched_off(tmp_path: Path) -> None:
    texts = ("", "gate = 0.4", "gate_side = 320", "gate = false", "gate = 0", "gate = false\ngate_side = 320")
    recipes = [recipe(tmp_path, f"{OFF}[filters.ocr]\n{text}\n") for text in texts]
    made = [filters.listed(one)[0].fingerprint for one in recipes]
    assert len(set(made[:4])) == 4
    assert made[3] == made[4] == made[5]
    ((_, section), *_) = recipes[3].filters.ours
    assert isinstance(section, OcrSection) and section.parameters.gate == 0.0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('reading = "no"', "filters.ocr.reading = 'no': a number or \"none\" is allowed"),
        ("reading = 1.0", "filters.ocr.reading = 1.0: input should be less than 1"),
        ("reading = nan", "filters.ocr.reading = nan"),
        ("line = 0.5", "filters.ocr.line = 0.5: input should be greater than or equal to 1"),
        ("low = 15", "filters.ocr.low = 15: input should be less than or equal to 1"),
        ("characters = 0", "filters.ocr.characters = 0"),
        ("gate = true", "filters.ocr.gate = True: a number from 0 to below 1, or false, is allowed"),
        ("gate = 1.0", "filters.ocr.gate = 1.0: input should be less than 1"),
        ("gate_side = 641", "filters.ocr.gate_side = 641: input should be less than or equal to 640"),
        (
            "side = 640",
            "filters.ocr.side = 640: no such key; allowed are enabled, from_tier, engine, python, confidence",
        ),
    ],
)
def test_a_wrong_option_is_told_with_its_key(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe(tmp_path, f"[filters.ocr]\n{line}\n")
    assert told in caught.value.cause


def test_a_wrong_device_is_told_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"filters.aesthetic.device = 'cudaa'"):
        recipe(tmp_path, '[filters.aesthetic]\ndevice = "cudaa"\n')


def test_ready_tries_each_filter_that_is_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, str | None]] = []
    monkeypatch.setattr(filters, "try_out", lambda settings, python: tried.append((settings, python)) or "held")
    monkeypatch.chdir(tmp_path)
    text = f'{OFF}[filters.ocr]\nengine = "paddleocr"\npython = "bin/python"\n'
    (ocr, _) = filters.ready(recipe(tmp_path, text))
    ((settings, python),) = tried
    assert '"paddleocr"' in settings
    assert python == ocr.python == str(tmp_path / "bin" / "python"), "a worker starts in a folder of its own"
    assert filters.ready(recipe(tmp_path, f"{OFF}[filters.ocr]\nenabled = false\n"))[0].make is None
    assert len(tried) == 1


def test_a_gpu_of_the_workers_is_not_needed_for_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aesthetic_section, "_check_packages", lambda: None)
    for name in ("clip.safetensors", "head.pth"):
        (tmp_path / name).write_bytes(b"weights")
    text = (
        f'[filters.ocr]\nenabled = false\n[filters.aesthetic]\ndevice = "cuda"\n'
        f'clip_weights = "{tmp_path}/clip.safetensors"\nhead_weights = "{tmp_path}/head.pth"\n'
    )
    (check,) = filters.trials(recipe(tmp_path, text))
    assert (check.name, check.settings["device"]) == ("aesthetic", "cpu")
    assert filters.listed(recipe(tmp_path, text))[1].gpus == 1.0


@pytest.mark.parametrize(
    ("text", "made_by"),
    [
        ("[filters.ocr]\n", ("text_area-2-0daff985", "aesthetic-1-82281211")),
        ("[filters.ocr]\ngate = false\n", ("text_area-2-37778a90", "aesthetic-1-82281211")),
        ('dtype = "bf16"\ndevice = "cuda"\n', ("text_area-2-0daff985", "aesthetic-1-31857f6e")),
        (
            '[filters.ocr]\nengine = "paddleocr"\npython = "x"\nreading = "none"\nline = 2.5\nlow = 0.1\n'
            "characters = 2\nconfidence = 0.6\ngate_side = 320\n",
            ("text_area-2-fe42049d", "aesthetic-1-82281211"),
        ),
        (
            '[[filters.custom]]\nname = "logo"\nfilter = "a:B"\nscores = ["x", "y"]\nversion = 3\n'
            "options = { k = 1.5, l = [1, 2] }\n",
            ("text_area-2-0daff985", "aesthetic-1-82281211", "logo-3-d6b4a744"),
        ),
    ],
)
def test_a_fingerprint_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, made_by: tuple[str, ...]
) -> None:
    """Else all clips of all pyramids would be scored again. The weights are files of a few bytes."""
    for name in (DETECTOR_FILE, READER_FILE):
        (tmp_path / name).write_text(name)
    for name in ("clip", "head"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr("curation.filters.ocr.section.shipped_models", lambda: tmp_path)
    monkeypatch.setattr(aesthetic_section, "_check_packages", lambda: None)
    weights = f'[filters.aesthetic]\nclip_weights = "{tmp_path}/clip"\nhead_weights = "{tmp_path}/head"\n'
    found = filters.listed(recipe(tmp_path, weights + text))
    assert tuple(one.fingerprint for one in found) == made_by
    assert [(one.name, one.scores) for one in found[:2]] == [("ocr", ("text_area",)), ("aesthetic", ("aesthetic",))]


@pytest.mark.parametrize("engine", ["rapidocr", "paddleocr"])
def test_an_interpreter_that_is_not_there_ends_the_run_before_it_starts(tmp_path: Path, engine: str) -> None:
    with pytest.raises(UserError, match="/nowhere/python is not there"):
        filters.ready(recipe(tmp_path, f'{OFF}[filters.ocr]\nengine = "{engine}"\npython = "/nowhere/python"\n'))
    with pytest.raises(UserError, match="needs an environment of its own; run `make env-paddle`"):
        filters.ready(recipe(tmp_path, f'{OFF}[filters.ocr]\nengine = "paddleocr"\n'))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('name = "ocr"', "filters.custom.0: name = 'ocr' is a stage or a reason of Ziggurat's own"),
        ('name = "unreadable"', "filters.custom.0: name = 'unreadable' is a stage or a reason of Ziggurat's own"),
        ('name = "Logo"', "filters.custom.0.name = 'Logo': "),
        ('name = "motion"', "filters.custom.0: scores = 'motion': "),
        ('name = "logo"\nscores = ["a", "tier"]', "filters.custom.0: scores = 'tier': "),
        ('name = "logo"\nscores = ["logo_by"]', "filters.custom.0: scores = 'logo_by': "),
        ('name = "logo"\nscores = ["a", "a"]', "filters.custom: the score 'a' is given twice"),
        ('name = "logo"\nfrom_tier = "best"', "filters.custom (logo) from_tier = 'best': "),
        ('name = "logo"\noptions = { day = 2026-11-28 }', "filters.custom.0.options: numbers, texts, "),
        ('name = "logo"\ncolour = 3', "filters.custom.0.colour = 3: no such key; allowed are name, filter, scores"),
        ('name = "logo"\n[[tiers]]\nname = "a"\nlogos = [1, 2]', "tiers: logos: no such column; allowed are motion, "),
    ],
)
def test_a_wrong_table_of_an_own_filter_is_told(tmp_path: Path, table: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe(tmp_path, f'[[filters.custom]]\nfilter = "a:B"\n{table}\n')
    assert told in caught.value.cause and "\n" not in caught.value.cause


def test_names_and_scores_of_own_filters_are_given_once(tmp_path: Path) -> None:
    twice = '[[filters.custom]]\nfilter = "a:B"\nname = "{}"\nscores = ["{}"]\n'
    with pytest.raises(UserError, match="the name 'one' is given twice"):
        recipe(tmp_path, twice.format("one", "a") + twice.format("one", "b"))
    with pytest.raises(UserError, match="the score 'a' is given twice"):
        recipe(tmp_path, twice.format("one", "a") + twice.format("two", "a"))
