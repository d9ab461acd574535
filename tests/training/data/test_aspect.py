"""Ratio tables against the published ones, and what holds for any budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UserError
from tests.support import golden
from training.data.aspect import nearest, pixels, rounded_up, sizes


def test_the_published_tables() -> None:
    for row in golden.table("aspect_ratios")["tables"]:
        name = (row["budget"], row["side_multiple"], row["training"])
        made = sizes(row["budget"], row["side_multiple"], row["training"])
        assert {ratio: list(size) for ratio, size in made.items()} == row["table"], name
        assert list(made) == list(row["table"]), f"{name}: ties go to the first of equals"
        assert pixels(row["budget"]) == row["pixels"]


def test_the_published_choices() -> None:
    table = golden.table("aspect_ratios")
    for height, width, ratio in table["closest_ratio_among_256px"]:
        assert nearest(height, width, sizes("256px")) == ratio
    for height, width, used_height, used_width in table["requested_to_used_size"]:
        assert rounded_up(height, width) == (used_height, used_width)
    for resolution, ratio, height, width in table["resolution_and_ratio_to_size"]:
        assert sizes(resolution, training=False)[ratio] == (height, width)


@given(side=st.integers(128, 1500), multiple=st.sampled_from([16, 32]), training=st.booleans())
def test_sides_are_multiples_and_pixels_are_near_the_budget(side: int, multiple: int, training: bool) -> None:
    for height, width in sizes(f"{side}px", multiple, training).values():
        assert height % multiple == 0 and width % multiple == 0
        assert height > 0 and width > 0
        assert abs(height * width - side * side) <= multiple * (height + width + multiple)


def test_a_table_cannot_be_changed_by_its_reader() -> None:
    with pytest.raises(TypeError):
        sizes("256px")["1:1"] = (1, 1)  # pyright: ignore[reportIndexIssue]


def test_a_p_resolution_is_a_16_to_9_picture_of_that_height() -> None:
    assert pixels("720p") == 720 * 1280


@pytest.mark.parametrize("name", ["256", "px", "0px", "256px_", "256px_best", "256px_ar5:4"])
def test_an_unknown_resolution_names_what_exists(name: str) -> None:
    with pytest.raises(UserError, match=r"256px|2\.39:1"):
        sizes(name)
