"""The suffix against the published prompts, and the training form beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UserError
from tests.support import golden
from training.prompt import Form, chosen_motion, measured_motion, with_suffix

ROOT = Path(__file__).parents[2]


def test_the_published_prompts() -> None:
    for row in golden.table("prompt_suffix"):
        got = [with_suffix(text, row["fps"], int(row["motion_score"])) for text in row["texts"]]
        assert got == row["out"]


@pytest.mark.parametrize(
    ("fps", "motion", "form", "want"),
    [
        (24, 4, Form.COMMA, "A cat runs. 24 FPS, 4 motion score."),
        (24, 4, Form.SENTENCES, "A cat runs. 24 FPS. 4 motion score."),
        (None, None, Form.COMMA, "A cat runs."),
        (None, None, Form.SENTENCES, "A cat runs."),
        (23.976, None, Form.COMMA, "A cat runs. 24 FPS."),
        (12.5, None, Form.SENTENCES, "A cat runs. 12 FPS."),
        (14.985, None, Form.SENTENCES, "A cat runs. 15 FPS."),
        (None, 3, Form.COMMA, "A cat runs. 3 motion score."),
        (None, 3, Form.SENTENCES, "A cat runs. 3 motion score."),
    ],
)
def test_both_forms(fps: float | None, motion: int | None, form: Form, want: str) -> None:
    assert with_suffix(" A cat runs. ", fps, motion, form) == want


def test_an_empty_caption_has_facts_alone() -> None:
    assert with_suffix("", 24, 4, Form.COMMA) == "24 FPS, 4 motion score."
    assert with_suffix(" ", 24, 4) == "24 FPS. 4 motion score."
    assert with_suffix("", None, None) == "."


@pytest.mark.parametrize(("vmaf", "score"), [(0.0, 1), (0.4, 1), (3.6, 4), (4.4, 4), (15.2, 15), (31.0, 15)])
def test_a_measured_motion_is_a_whole_number_in_range(vmaf: float, score: int) -> None:
    assert measured_motion(vmaf) == score


@given(st.integers(-3, 20))
def test_a_chosen_motion_is_in_range(score: int) -> None:
    if 1 <= score <= 15:
        assert chosen_motion(score) == score
    else:
        with pytest.raises(UserError, match="give 1 to 15"):
            chosen_motion(score)


def test_one_function_writes_the_facts_and_only_for_training_and_sampling() -> None:
    """So no caption in a pyramid, a manifest or an export ends in them: these come from `curation` and `pipelines`."""
    calling, writing = set[str](), set[str]()
    for package in ("curation", "pipelines", "training"):
        for path in (ROOT / package).rglob("*.py"):
            tree, name = ast.parse(path.read_text()), str(path.relative_to(ROOT))
            for node in ast.walk(tree):
                if (
                    isinstance(node, ast.Call)
                    and getattr(node.func, "id", getattr(node.func, "attr", "")) == "with_suffix"
                ):
                    calling.add(name)
                if isinstance(node, ast.JoinedStr) and any(
                    isinstance(part, ast.Constant) and (" FPS" in str(part.value) or part.value == " motion score")
                    for part in node.values
                ):
                    writing.add(name)
    assert calling == {"training/data/encoder.py", "training/sampling/sampler.py"}
    assert writing == {"training/prompt.py"}
