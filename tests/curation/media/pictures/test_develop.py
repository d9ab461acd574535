"""The door of both passes, and the words by which one tells the other what was done."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.media.pictures.colour import light_of
from curation.media.pictures.develop import Conversion, Development
from tests.support import light
from tests.support.light import BT709, FFV1, to_yuv

SIZE = (480, 270)
TEXTS = {
    None: Conversion(),
    "deinterlaced tff": Conversion("tff"),
    "deinterlaced bff": Conversion("bff"),
    "tone-mapped from smpte2084": Conversion(None, "smpte2084"),
    "tone-mapped from arib-std-b67": Conversion(None, "arib-std-b67"),
    "gamut-mapped from bt2020": Conversion(None, "bt2020"),
    "gamut-mapped from smpte432": Conversion(None, "smpte432"),
    "deinterlaced tff, tone-mapped from smpte2084": Conversion("tff", "smpte2084"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_rows_text_and_back(text: str | None) -> None:
    assert Conversion.parse(text) == TEXTS[text]
    assert TEXTS[text].text == text


OTHERS = [
    "",
    "deinterlaced",
    "deinterlaced xff",
    "tone-mapped from bt2020",
    "sharpened",
    "bt2020",
    "deinterlaced tff, ",
]


@pytest.mark.parametrize("text", [*OTHERS, "tone-mapped from smpte2084, deinterlaced tff"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no conversion"):
        Conversion.parse(text)


def test_plain_pictures_pass_at_once_and_uncopied(tmp_path: Path) -> None:
    frames = light.frames(light.write(tmp_path / "a.mkv", light.moving(3, *SIZE), *FFV1, *BT709, vf=to_yuv()))
    development = Development()
    assert all(development.push(frame)[0] is frame for frame in frames)
    assert development.flush() == []
    assert Conversion.of(light_of(frames[0]), None).text is None


def test_interlaced_hdr_becomes_whole_pictures_in_bt709(tmp_path: Path) -> None:
    pictures = light.woven(light.patches(16, *SIZE), "tff")
    vf = to_yuv("smpte2084", "bt2020", "bt2020nc", form="yuv420p10")
    path = light.write(tmp_path / "a.mkv", pictures, *FFV1, *light.tags("bt2020", "smpte2084", "bt2020nc"), vf=vf)
    frames = light.frames(path)
    development = Development("tff")
    assert Conversion.of(development.light(frames[0]), "tff").text == "deinterlaced tff, tone-mapped from smpte2084"
    made = [one for frame in frames for one in development.push(frame)] + development.flush()
    assert [frame.pts for frame in made] == [frame.pts for frame in frames]
    assert {frame.format.name for frame in made} == {"yuv420p"}
    assert light.off(light.shown(light.encoded(made), tmp_path)) <= 16
    lower = [frame.to_ndarray()[140:270] for frame in made]
    assert all(light.combing(luma) < 0.8 for luma in lower)
