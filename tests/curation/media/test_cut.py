"""The cutting pass: exactly the measured frames, in the clip format, and no frame decoded more than it must."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.contract import Reason
from curation.media.plan import Encode
from curation.media.probe import Unfit
from pipelines.execution.orders.cut_orders import segments
from tests.support import media
from tests.support.measuring import as_clips, cuts, measured

GOOD = Encode(preset="ultrafast", crf=8)


def luma_of(data: bytes | Path) -> list[np.ndarray]:
    source = io.BytesIO(data) if isinstance(data, bytes) else str(data)
    with av.open(source, "r") as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


@pytest.mark.parametrize("name", ["scenes.mp4", "long_shot.mp4", "vp9.webm", "mpeg2.mpg", "hevc.mp4"])
def test_clips_hold_exactly_the_measured_frames(name: str) -> None:
    path = media.sample(name)
    source = luma_of(path)
    clips = as_clips(measured(path))
    files, _ = cuts(path, clips, encode=GOOD)
    for clip, data in zip(clips, files, strict=True):
        made = luma_of(data)
        assert len(made) == clip.frames
        for offset in (0, 1, clip.frames // 2, clip.frames - 1):
            right = psnr(made[offset], source[clip.start_frame + offset])
            assert right > 35, f"{name}: frame {offset} of the clip at {clip.start_frame}"


def test_a_clip_from_the_middle_starts_on_its_frame_whatever_was_skipped() -> None:
    path = media.sample("long_shot.mp4")
    source, clips = luma_of(path), as_clips(measured(path))
    (data,), tally = cuts(path, [clips[2]], encode=GOOD)
    made, start = luma_of(data), clips[2].start_frame
    assert psnr(made[0], source[start]) > 35
    assert psnr(made[0], source[start]) > psnr(made[0], source[start - 1]) + 3
    assert tally.decoded < len(source), "nothing was skipped"


@pytest.mark.parametrize("name", ["scenes.mp4", "long_shot.mp4", "vp9.webm", "variable_rate.mp4", "fps60.mp4"])
def test_nothing_is_decoded_more_than_twice_in_all(name: str) -> None:
    path = media.sample(name)
    result = measured(path)
    frames = len(luma_of(path))
    decoded = result.tally.decoded
    for some in segments(as_clips(result), most=1):
        decoded += cuts(path, list(some))[1].decoded
    assert decoded <= 2 * frames


def test_segments_part_only_where_a_decoder_can_start() -> None:
    clips = as_clips(measured(media.sample("long_shot.mp4")))
    assert [len(some) for some in segments(clips, most=16)] == [3]
    assert sum(len(some) for some in segments(clips, most=1)) == 3
    for some in list(segments(clips, most=1))[1:]:
        before = clips[clips.index(some[0]) - 1]
        assert before.end_s is not None
        assert some[0].key_s >= before.end_s - 1e-3


@pytest.mark.parametrize(
    ("name", "size", "fps"),
    [
        ("fps60.mp4", (320, 180), 30000 / 1001),
        ("fps50.mp4", (320, 180), 25.0),
        ("rotated.mp4", (180, 320), 24.0),
        ("anamorphic.mp4", (320, 180), 24.0),
        ("letterboxed.mp4", (320, 140), 24.0),
        ("pillarboxed.mp4", (200, 180), 24.0),
        ("ten_bit.mp4", (320, 180), 24.0),
    ],
)
def test_the_format_of_a_clip(name: str, size: tuple[int, int], fps: float) -> None:
    path = media.sample(name)
    files, _ = cuts(path, as_clips(measured(path)))
    with av.open(io.BytesIO(files[0]), "r") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, (context.width, context.height)) == ("h264", "yuv420p", size)
        stamps = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        assert float(stream.average_rate or 0) == pytest.approx(fps)
    steps = np.diff(sorted(stamps))
    assert len(set(steps.tolist())) == 1, "not a constant rate"
    assert files[0].find(b"moov") < files[0].find(b"mdat")


def test_a_variable_rate_becomes_constant_by_repeats() -> None:
    path = media.sample("variable_rate.mp4")
    clips = as_clips(measured(path))
    files, _ = cuts(path, clips, encode=GOOD)
    made, source = luma_of(files[0]), luma_of(path)
    assert len(made) == clips[0].frames > len(source)
    assert psnr(made[-1], source[-1]) > 30


def test_an_upright_picture_is_the_players(tmp_path: Path) -> None:
    path = media.sample("rotated.mp4")
    clips = as_clips(measured(path))
    made = luma_of(cuts(path, clips, encode=GOOD)[0][0])[0]
    coded = luma_of(path)[0]
    assert psnr(made, np.rot90(coded, -1)) > 30


def test_borders_go_where_the_clip_is_as_large_as_the_coded_frame(tmp_path: Path) -> None:
    # 4:3 in a frame of 16:9 whose pixels are wide, as DVCPRO HD has it: what is inside is shown 320 pixels wide.
    inner = media.picture("testsrc2", seconds=2.5, size=(240, 240))
    path = media.write(tmp_path / "wide.mp4", inner.filter("pad", 320, 240, -1, -1, "black").filter("setsar", "4/3"))
    (clip,) = as_clips(measured(path))
    assert (clip.crop.x, clip.crop.width, clip.width, clip.height) == (40, 240, 320, 240)
    made = luma_of(cuts(path, [clip], encode=GOOD)[0][0])[0]
    inside = cv2.resize(luma_of(path)[0][:, 40:280], (320, 240))
    assert psnr(made, inside) > 30


@pytest.mark.parametrize("field", ["first_check", "last_check", "all_check", "end_frame"])
def test_other_frames_than_were_measured_are_a_verdict_and_no_clip(field: str) -> None:
    path = media.sample("plain.mp4")
    (clip,) = as_clips(measured(path))
    with pytest.raises(Unfit) as caught:
        cuts(path, [replace(clip, **{field: getattr(clip, field) + 1})])
    assert caught.value.verdict.reason is Reason.OTHER_FRAMES
