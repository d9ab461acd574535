"""Alpha that rides beside VP8 and VP9: the clip is the picture over black, from whatever frame it is cut."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from curation.media.plan import Encode
from tests.support import light
from tests.support.measuring import LENIENT, as_clips, cuts, measured

SIZE = (240, 136)
PLAN = replace(LENIENT, clips=replace(LENIENT.clips, min_s=0.4, max_s=0.6))
GOOD = Encode(preset="veryfast", crf=4)
VP9 = ("-c:v", "libvpx-vp9", "-b:v", "4M", "-g", "10", "-deadline", "realtime", "-cpu-used", "8")
VP8 = ("-c:v", "libvpx", "-b:v", "4M", "-g", "10", "-deadline", "realtime", "-cpu-used", "8")


def pictures(count: int) -> list[np.ndarray]:
    """RGBA: a third transparent, a third half so, and the alpha moves with the pictures."""
    made = []
    for number, rgb in enumerate(light.moving(count, *SIZE, speed=1)):
        alpha = np.full(SIZE[::-1], 255, np.uint8)
        alpha[:, 80:160], alpha[:, 160:] = 0, 128
        made.append(np.dstack([rgb, np.roll(alpha, number, axis=1)]))
    return made


def write(path: Path, options: tuple[str, ...], count: int = 60) -> Path:
    vf = "scale=out_color_matrix=smpte170m:out_range=tv"
    return light.write(
        path, pictures(count), *options, "-auto-alt-ref", "0", "-pix_fmt", "yuva420p", vf=vf, form="rgba"
    )


def shown(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data), "r") as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("file", "options"), [("a.webm", VP9), ("a.mkv", VP9), ("a.webm", VP8)])
def test_what_is_transparent_is_black(file: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = write(tmp_path / file, options)
    result = measured(path, PLAN)
    assert result.facts.pix_fmt == "yuva420p"
    clips = as_clips(result)
    assert len(clips) == 4
    right = [picture[..., :3] * (picture[..., 3:] / 255) for picture in pictures(60)]
    for clip in (clips[3], clips[1]):  # a jump, and back: each into the middle of the film
        ((data,), _) = cuts(path, [clip], PLAN, GOOD)
        for number, picture in enumerate(shown(data)):
            off = np.abs(picture - right[clip.start_frame + number])
            assert off.mean() < 4, f"frame {number} of the clip at {clip.start_frame}: {off.mean()}"


def test_pictures_without_alpha_of_a_film_that_has_some_are_opaque(tmp_path: Path) -> None:
    """Additions of other kinds, or none, on single packets change nothing of what is seen."""
    path = write(tmp_path / "a.webm", VP9)
    bare = path.read_bytes().replace(b"\xee\x81\x01", b"\xee\x81\x05")  # BlockAddID 1: the alpha; 5: something else
    assert bare != path.read_bytes()
    other = tmp_path / "b.webm"
    other.write_bytes(bare)
    clips = as_clips(measured(other, PLAN))
    ((data,), _) = cuts(other, clips[:1], PLAN, GOOD)
    with av.open(str(other)) as container:
        right = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert max(np.abs(a - b).mean() for a, b in zip(shown(data), right, strict=False)) < 4


def test_damage_of_the_alpha_is_damage_of_the_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.webm", VP9)
    whole = path.read_bytes()
    assert [clip.ended_by for clip in measured(path, PLAN).clips] == ["length"] * 3 + ["end"]
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        alpha = bytes(packets[24].get_sidedata("matroska_block_additional"))[8:]
    at = whole.index(alpha)
    hurt = tmp_path / "b.webm"
    hurt.write_bytes(whole[:at] + b"\xff" * len(alpha) + whole[at + len(alpha) :])
    clips = measured(hurt, PLAN).clips
    held = {number for clip in clips for number in range(clip.start_frame, clip.end_frame)}
    assert not held & set(range(24, 30)), "pictures with damaged alpha are in a clip"
    assert held >= {*range(15), *range(30, 60)}, "more is left out than damage can have reached"
    assert len(cuts(hurt, as_clips(measured(hurt, PLAN)), PLAN, GOOD)[0]) == len(clips)
