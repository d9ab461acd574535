"""What a user's embedder may give: vectors of the width that was declared, or a reason; all else is a fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curation.embed import custom
from curation.embed.base import WrongVector, checked, unit
from curation.embed.custom import Custom, custom_by

CLIP = [np.zeros((4, 4, 3), np.uint8)]


def embedder(answers: Any, monkeypatch: pytest.MonkeyPatch, width: int = 3) -> Custom:
    class Given:
        def measure(self, clips: Any) -> Any:
            return answers

    monkeypatch.setattr(custom, "found", lambda name, filter_: Given)
    return Custom("own", "a:B", width, 1, {})


def test_vectors_and_reasons_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    made = embedder([np.array([1, 2, 3]), "  too\n dark ", None], monkeypatch).pictures([CLIP] * 3)
    assert made[0].dtype == np.float32 and made[0].tolist() == [1, 2, 3]  # pyright: ignore[reportAttributeAccessIssue]
    assert made[1:] == ["own: too dark", "own: no vector"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.ones(4), r"shape \(4,\), and its space has 3 numbers"),
        (np.ones((1, 3)), r"shape \(1, 3\)"),
        (np.array([1, np.nan, 0]), "a number that float16 does not hold"),
        (np.array([1, 70_000, 0]), "a number that float16 does not hold"),
        (np.array(["a", "b", "c"]), "a number that float16 does not hold"),
        (np.zeros(3), "a vector of zeros"),
        (0.5, r"shape \(\)"),
    ],
)
def test_what_is_no_vector_of_the_space_is_refused(answer: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongVector, match=says):
        embedder([answer], monkeypatch).pictures([CLIP])


def test_an_answer_for_each_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongVector, match="gave 1 answers for 2"):
        embedder([np.ones(3)], monkeypatch).pictures([CLIP, CLIP])


def test_what_changes_a_vector_changes_its_maker() -> None:
    makers = {custom_by(*one) for one in (("a", 1, "m:A", 3, {}), ("a", 2, "m:A", 3, {}), ("a", 1, "m:B", 3, {}))}
    makers |= {custom_by("a", 1, "m:A", 4, {}), custom_by("a", 1, "m:A", 3, {"x": 1})}
    assert len(makers) == 5


def test_unit_length() -> None:
    assert np.linalg.norm(unit(np.array([[3.0, 4.0]]))) == pytest.approx(1)
    assert unit(np.zeros((1, 2))).tolist() == [[0, 0]]
    assert checked(np.array([1, 0]), 2, "x").dtype == np.float32
