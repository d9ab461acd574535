"""Colours of clips, as a player shows them by the tags in the file: every kind of source against its pictures."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.contract import Reason
from curation.media.frames import planes
from curation.media.measures.blur import laplacian_variance
from curation.media.pictures.convert import Converter
from curation.media.probe import Unfit
from tests.support import light
from tests.support.light import BT709, FFV1, UNTAGGED, X264, X265_10, tags, to_yuv

SD, HD = (480, 270), (1280, 720)

WIDE = tags("bt2020", "bt2020-10", "bt2020nc")


@dataclass(frozen=True)
class Kind:
    """A source: file name, filter, ffmpeg's options; what its clip must say, and how far colours may be off.

    `off` is wider for HDR, where levels near white are brought down.
    """

    file: str
    vf: str
    options: tuple[str, ...]
    says: tuple[int, int, int, int] = (1, 1, 1, 1)
    off: int = 6
    size: tuple[int, int] = SD
    plain: bool = False


_601, _2020 = to_yuv("smpte170m", "smpte170m", "smpte170m"), to_yuv("bt2020-10", "bt2020", "bt2020nc", form="yuv420p10")
_SAYS_601 = (6, 6, 6, 1)
_LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt")

KINDS = {
    "709": Kind("a.mp4", to_yuv(), (*X264, *BT709), plain=True),
    "709 untagged, HD": Kind("a.mp4", to_yuv() + UNTAGGED, X264, size=HD, plain=True),
    "601 untagged, SD": Kind("a.mkv", to_yuv(matrix="smpte170m") + UNTAGGED, FFV1, _SAYS_601, plain=True),
    "601 tagged, HD": Kind("a.mkv", to_yuv(matrix="smpte170m"), X264, (1, 1, 6, 1), size=HD, plain=True),
    "full range": Kind("a.mp4", to_yuv(span="pc"), (*X264, *BT709, "-color_range", "pc"), (1, 1, 1, 2), plain=True),
    "full range 4:2:2": Kind("a.mov", to_yuv(matrix="smpte170m", span="pc", form="yuvj422p"),
                             ("-c:v", "mjpeg", "-q:v", "1"), (1, 1, 5, 2), off=10),
    "10 bits": Kind("a.mp4", to_yuv(form="yuv420p10"), (*X265_10, *BT709)),
    "4:2:2 10 bits": Kind("a.mkv", to_yuv(form="yuv422p10"), (*FFV1, *BT709)),
    "4:4:4": Kind("a.mkv", to_yuv(form="yuv444p"), (*FFV1, *BT709)),
    "ProRes 4444": Kind("a.mov", to_yuv(form="yuva444p10"), ("-c:v", "prores_ks", *BT709), off=10),
    "RGB in H.264": Kind("a.mp4", "", ("-c:v", "libx264rgb", "-crf", "0"), _SAYS_601),
    "RGB in H.264, HD": Kind("a.mp4", "", ("-c:v", "libx264rgb", "-crf", "0"), size=HD),
    "planar RGB": Kind("a.mkv", "", (*FFV1, "-pix_fmt", "gbrp"), _SAYS_601),
    "planar RGB of 10 bits": Kind("a.mkv", "", (*FFV1, "-pix_fmt", "gbrp10"), _SAYS_601),
    "animation": Kind("a.mov", "", ("-c:v", "qtrle"), _SAYS_601),
    "PNG": Kind("a.mov", "", ("-c:v", "png", "-pix_fmt", "rgba"), _SAYS_601),
    "palette": Kind("a.mov", "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none", ("-c:v", "png"), _SAYS_601,
                    off=14),
    "HDR10": Kind("a.mp4", to_yuv("smpte2084", "bt2020", "bt2020nc", form="yuv420p10"),
                  (*X265_10, *tags("bt2020", "smpte2084", "bt2020nc")), off=16),
    "HLG": Kind("a.mp4", to_yuv("arib-std-b67", "bt2020", "bt2020nc", form="yuv420p10"),
                (*X265_10, *tags("bt2020", "arib-std-b67", "bt2020nc")), off=18),
    "BT.2020, SDR": Kind("a.mp4", _2020, (*X265_10, *WIDE), off=10),
    "BT.2020, SDR, 8 bits": Kind("a.mp4", to_yuv("bt2020-10", "bt2020", "bt2020nc"), (*X264, *WIDE), off=12),
    "Display P3": Kind("a.mkv", to_yuv(primaries="smpte432", form="yuv422p10"),
                       (*FFV1, *tags("smpte432", "bt709", "bt709")), off=10),
}  # fmt: skip


def converted(path: Path, count: int = 2) -> tuple[list[av.VideoFrame], list[av.VideoFrame]]:
    """The first frames as decoded and as converted."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        converter = Converter()
        decoded = [frame for _, frame in zip(range(count), container.decode(stream), strict=False)]
        return decoded, [converter(frame) for frame in decoded]


@pytest.mark.parametrize("name", KINDS)
def test_a_clip_shows_its_sources_colours(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    path = light.write(tmp_path / kind.file, light.patches(2, *kind.size), *kind.options, vf=kind.vf)
    decoded, made = converted(path)
    if kind.plain:
        assert all(a is b for a, b in zip(decoded, made, strict=True)), "a plain picture was copied"
    assert {frame.format.name for frame in made} <= {"yuv420p", "yuvj420p"}
    assert [frame.pts for frame in made] == [frame.pts for frame in decoded]
    clip = light.encoded(made)
    picture = light.shown(clip, tmp_path)
    assert light.off(picture) <= kind.off, f"{light.seen(picture).tolist()}"
    assert clip_tags(clip) == kind.says
    assert clip.count(b"colrnclx") == 1


def clip_tags(clip: bytes) -> tuple[int, int, int, int]:
    with av.open(io.BytesIO(clip), "r") as container:
        context = container.streams.video[0].codec_context
        return context.color_primaries, context.color_trc, context.colorspace, context.color_range


def test_the_colr_box_says_what_the_stream_says(tmp_path: Path) -> None:
    path = light.write(tmp_path / "a.mp4", light.patches(2, *SD), *X264, *BT709, vf=to_yuv())
    clip = light.encoded(converted(path)[1])
    at = clip.index(b"colrnclx") + 8
    assert clip[at : at + 7] == bytes([0, 1, 0, 1, 0, 1, 0])


@pytest.mark.parametrize("form", ["gray", "gray10le"])
def test_grey_sources_keep_their_levels(form: str, tmp_path: Path) -> None:
    path = light.write(tmp_path / "a.mkv", light.patches(2, *SD), *FFV1, "-pix_fmt", form)
    right = light.frames(path)[0].to_ndarray(format="rgb24")
    picture = light.shown(light.encoded(converted(path)[1]), tmp_path)
    assert np.abs(light.seen(picture) - light.seen(right)).max() <= 4


@pytest.mark.parametrize(
    ("file", "options"),
    [("a.mov", ("-c:v", "qtrle")), ("a.mov", ("-c:v", "png")), ("a.mkv", (*FFV1, "-pix_fmt", "yuva444p10"))],
)
def test_what_is_transparent_is_black(file: str, options: tuple[str, ...], tmp_path: Path) -> None:
    picture = np.full((270, 480, 4), (200, 100, 40, 255), np.uint8)
    picture[:, 160:320, 3], picture[:, 320:, 3] = 0, 128
    path = light.write(tmp_path / file, [picture] * 2, *options, form="rgba")
    shown = light.shown(light.encoded(converted(path)[1]), tmp_path)[135].astype(int)
    for x, right in ((80, (200, 100, 40)), (240, (0, 0, 0)), (400, (100, 50, 20))):
        assert np.abs(shown[x] - right).max() <= 6, f"at {x}: {shown[x]}"


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_measures_like_the_same_pictures_in_sdr(transfer: str, tmp_path: Path) -> None:
    pictures = light.moving(3, *SD)
    sdr = light.write(tmp_path / "sdr.mkv", pictures, *FFV1, *BT709, vf=to_yuv())
    vf = to_yuv(transfer, "bt2020", "bt2020nc", form="yuv420p10")
    hdr = light.write(tmp_path / "hdr.mkv", pictures, *FFV1, *tags("bt2020", transfer, "bt2020nc"), vf=vf)

    def measures(path: Path) -> tuple[float, float]:
        first, second = (planes(frame)[0] for frame in converted(path)[1])
        return laplacian_variance(first), cv2.norm(first, second, cv2.NORM_L1)

    for ours, right in zip(measures(hdr), measures(sdr), strict=True):
        assert ours == pytest.approx(right, rel=0.2)


def test_a_picture_does_not_depend_on_those_before_it(tmp_path: Path) -> None:
    vf = to_yuv("smpte2084", "bt2020", "bt2020nc", form="yuv420p10")
    path = light.write(tmp_path / "a.mkv", light.moving(4, *SD), *FFV1, *tags("bt2020", "smpte2084", "bt2020nc"), vf=vf)
    decoded = light.frames(path)
    converter = Converter()
    forth = [converter(frame).to_ndarray() for frame in decoded]
    back = [converter(frame).to_ndarray() for frame in reversed(decoded)]
    assert all(np.array_equal(a, b) for a, b in zip(forth, reversed(back), strict=True))
    assert np.array_equal(Converter()(decoded[2]).to_ndarray(), forth[2])


def test_the_light_may_change_within_a_stream(tmp_path: Path) -> None:
    vf = to_yuv("smpte2084", "bt2020", "bt2020nc", form="yuv420p10")
    hdr = light.write(tmp_path / "a.mkv", light.patches(1, *SD), *FFV1, *tags("bt2020", "smpte2084", "bt2020nc"), vf=vf)
    sdr = light.write(tmp_path / "b.mkv", light.patches(1, *HD), *FFV1, *BT709, vf=to_yuv())
    (one,), (two,) = light.frames(hdr), light.frames(sdr)
    converter = Converter()
    for _ in range(2):
        assert converter.light(one).mapped == "smpte2084"
        assert (converter(one).width, converter(one).color_trc) == (480, 1)
        assert converter.light(two).mapped is None
        assert converter(two) is two


def test_a_process_that_may_write_no_file_can_map_tones() -> None:
    code = """
import resource, av
from curation.media.pictures.convert import Converter
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
frame = av.VideoFrame(64, 64, "yuv420p10le")
frame.color_trc, frame.color_primaries, frame.colorspace = 16, 9, 9
print(Converter()(frame).format.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "yuv420p", done.stderr


@pytest.mark.parametrize("name", ["x2rgb10be", "gray32le", "y210be"])
def test_a_pixel_format_that_cannot_be_converted_is_a_verdict(name: str) -> None:
    with pytest.raises(Unfit) as caught:
        Converter()(av.VideoFrame(64, 48, name))
    assert caught.value.verdict.reason is Reason.UNSUPPORTED_CODEC
    assert name in caught.value.verdict.detail
