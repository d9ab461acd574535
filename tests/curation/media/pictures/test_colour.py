"""What a frame's tags are taken to mean."""

from __future__ import annotations

from typing import Any

import av
import pytest

from curation.contract import Reason
from curation.media.pictures.colour import Light, light_of, refusal


def frame(form: str = "yuv420p", size: tuple[int, int] = (640, 360), tags: tuple[int, ...] = (2, 2, 2, 0)) -> Any:
    made = av.VideoFrame(*size, form)
    made.color_primaries, made.color_trc, made.colorspace, made.color_range = tags
    return made


def tags_of(light: Light) -> tuple[int, int, int, int]:
    return light.primaries, light.transfer, light.matrix, light.range


@pytest.mark.parametrize(
    ("form", "size", "tags", "right"),
    [
        ("yuv420p", (1920, 1080), (2, 2, 2, 0), (1, 1, 1, 1)),
        ("yuv420p", (1280, 536), (2, 2, 2, 0), (1, 1, 1, 1)),
        ("yuv420p", (720, 576), (2, 2, 2, 0), (5, 6, 5, 1)),
        ("yuv420p", (720, 480), (2, 2, 2, 0), (6, 6, 6, 1)),
        ("yuv420p", (1920, 1080), (2, 2, 6, 0), (6, 6, 6, 1)),
        ("yuv420p", (320, 180), (2, 2, 1, 1), (1, 1, 1, 1)),
        ("yuv420p", (320, 180), (1, 13, 6, 2), (1, 13, 6, 2)),
        ("yuv420p", (1920, 1080), (2, 2, 0, 1), (1, 1, 1, 1)),
        ("yuvj420p", (640, 360), (2, 2, 2, 0), (6, 6, 6, 2)),
        ("gray", (1920, 1080), (2, 2, 2, 0), (1, 1, 1, 2)),
        ("gray", (1920, 1080), (2, 2, 2, 1), (1, 1, 1, 1)),
        ("gbrp", (1920, 1080), (2, 2, 0, 1), (1, 1, 1, 2)),
        ("rgb24", (640, 360), (1, 13, 0, 0), (1, 13, 6, 2)),
        ("pal8", (640, 360), (2, 2, 2, 0), (6, 6, 6, 2)),
        ("yuv420p10le", (1920, 1080), (9, 16, 9, 1), (9, 16, 9, 1)),
        ("yuv420p10le", (640, 360), (2, 16, 2, 0), (9, 16, 9, 1)),
        ("yuv420p10le", (640, 360), (9, 2, 2, 0), (9, 14, 9, 1)),
    ],
)
def test_missing_tags_are_decided_as_players_do(
    form: str, size: tuple[int, int], tags: tuple[int, ...], right: tuple[int, ...]
) -> None:
    assert tags_of(light_of(frame(form, size, tags))) == right


def test_a_context_stands_in_for_a_frame_without_tags() -> None:
    assert tags_of(light_of(frame(), frame(tags=(1, 1, 1, 2)))) == (1, 1, 1, 2)
    assert tags_of(light_of(frame(tags=(6, 6, 6, 1)), frame(tags=(1, 1, 1, 2)))) == (6, 6, 6, 1)


def test_eight_bits_are_no_hdr_whatever_they_say() -> None:
    light = light_of(frame(tags=(9, 16, 9, 1)))
    assert not light.hdr and light.mapped is None
    assert tags_of(light) == (1, 1, 9, 1)
    assert light_of(frame("yuv420p10le", tags=(9, 18, 9, 1))).mapped == "arib-std-b67"
    assert light_of(frame("p010le", tags=(9, 16, 9, 1))).hdr


@pytest.mark.parametrize(
    ("form", "tags", "shown"),
    [
        ("yuv420p10le", (9, 16, 9, 1), (1, 1, 1, 1)),
        ("yuv420p10le", (9, 14, 9, 2), (1, 1, 1, 1)),
        ("yuv420p", (12, 1, 1, 1), (1, 1, 1, 1)),
        ("yuv420p10le", (1, 1, 1, 1), (1, 1, 1, 1)),
        ("yuv422p", (5, 6, 5, 2), (5, 6, 5, 2)),
        ("gbrp", (1, 13, 0, 2), (1, 13, 6, 1)),
    ],
)
def test_what_a_clip_says(form: str, tags: tuple[int, ...], shown: tuple[int, ...]) -> None:
    assert tags_of(light_of(frame(form, tags=tags)).shown) == shown


def test_the_recipes_word_on_hdr() -> None:
    hdr, plain = light_of(frame("yuv420p10le", tags=(9, 16, 9, 1))), light_of(frame())
    verdict = refusal(hdr, "reject")
    assert verdict is not None and verdict.reason is Reason.HDR and verdict.detail == "smpte2084"
    assert refusal(hdr, "tonemap") is None
    assert refusal(plain, "reject") is None
    odd = refusal(light_of(frame("yuv420p10le", tags=(9, 16, 14, 1))), "tonemap")
    assert odd is not None and odd.reason is Reason.HDR
