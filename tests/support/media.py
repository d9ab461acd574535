"""Sample videos for tests, made by ffmpeg's lavfi sources: small, deterministic, nobody's files needed.

`make` encodes one synthetic source, `scenes` joins several with hard cuts at known frames. `SAMPLES` names
one video for each property that the curation code must cope with; `sample(name)` makes it once per process,
in a folder that goes away at exit. The ffmpeg program is the one in imageio-ffmpeg, driven through
ffmpeg-python.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import ffmpeg
import imageio_ffmpeg
import numpy as np

Size = tuple[int, int]
Rate = int | str

# One thread and bitexact: the same call gives the same bytes, whatever the machine's core count and clock.
_EXACT: Mapping[str, Any] = {"threads": 1, "fflags": "+bitexact", "flags:v": "+bitexact", "map_metadata": -1}

# lavfi graphs. `life` and `noise` change wholly from frame to frame: not among the defaults of `scenes`.
# `gradients` ignores its seed for colours and points, so they are given.
SOURCES: Mapping[str, str] = {
    "testsrc2": "testsrc2=size={w}x{h}:rate={fps}",
    "mandelbrot": "mandelbrot=size={w}x{h}:rate={fps}",
    "smptebars": "smptebars=size={w}x{h}:rate={fps}",
    "life": "life=size={w}x{h}:rate={fps}:seed=7:ratio=0.4:mold=10:life_color=yellow:death_color=navy",
    "gradients": "gradients=size={w}x{h}:rate={fps}:seed=7:speed=0.02:c0=0x203070:c1=0xd06020:x0=0:y0=0:x1=160:y1=90",
    "noise": "color=color=gray:size={w}x{h}:rate={fps},noise=all_seed=7:alls=60:allf=t",
    "black": "color=color=black:size={w}x{h}:rate={fps}",
    "white": "color=color=white:size={w}x{h}:rate={fps}",
    "green": "color=color=0x107030:size={w}x{h}:rate={fps}",
}


def run(stream: Any) -> None:
    """Run an ffmpeg-python graph; a failure carries ffmpeg's own last words."""
    try:
        ffmpeg.run(
            stream.global_args("-hide_banner", "-nostdin", "-loglevel", "error"),
            cmd=imageio_ffmpeg.get_ffmpeg_exe(),
            overwrite_output=True,
            capture_stdout=True,
            capture_stderr=True,
        )
    except ffmpeg.Error as error:
        raise RuntimeError(f"ffmpeg failed: {error.stderr.decode(errors='replace')[-2000:]}") from error


def picture(source: str, *, seconds: float, fps: Rate = 24, size: Size = (320, 180)) -> Any:
    """An ffmpeg-python stream of a named source: the raw material of `make` and `scenes`."""
    graph = SOURCES[source].format(w=size[0], h=size[1], fps=fps)
    return ffmpeg.input(graph, f="lavfi", t=seconds)


def write(path: Path, stream: Any, *, audio: bool = False, seconds: float = 0.0, **options: Any) -> Path:
    """Encode a stream to `path`, with x264 unless `options` (ffmpeg's output options) say otherwise."""
    settings: dict[str, Any] = {"vcodec": "libx264", "pix_fmt": "yuv420p", **_EXACT, **options}
    if settings["vcodec"] == "libx264":
        settings = {"preset": "veryfast", "crf": 20, **settings}
        if "b:v" in options:
            settings.pop("crf")
    streams = [stream]
    if audio:
        streams.append(ffmpeg.input("sine=frequency=440:sample_rate=44100", f="lavfi", t=seconds))
        settings = {"acodec": "aac", "flags:a": "+bitexact", **settings}
    run(ffmpeg.output(*streams, str(path), **settings))
    return path


def make(
    path: Path,
    *,
    seconds: float = 4.0,
    fps: Rate = 24,
    size: Size = (320, 180),
    source: str = "testsrc2",
    audio: bool = False,
    **options: Any,
) -> Path:
    """One synthetic shot. `fps` may be a ratio ("30000/1001"); `options` are ffmpeg's output options."""
    stream = picture(source, seconds=seconds, fps=fps, size=size)
    return write(path, stream, audio=audio, seconds=seconds, **options)


def cut_frames(lengths_s: Sequence[float], fps: Rate = 24) -> list[int]:
    """The first frame of every shot but the first one, for a video that `scenes` made of these lengths."""
    frames = [round(Fraction(str(fps)) * Fraction(str(length))) for length in lengths_s]
    return [sum(frames[: index + 1]) for index in range(len(frames) - 1)]


def scenes(
    path: Path,
    lengths_s: Sequence[float],
    *,
    fps: Rate = 24,
    size: Size = (320, 180),
    sources: Sequence[str] = ("testsrc2", "gradients", "smptebars", "mandelbrot"),
    **options: Any,
) -> Path:
    """Shots of these lengths with hard cuts at `cut_frames(lengths_s, fps)`; the sources go round."""
    shots = []
    for index, length in enumerate(lengths_s):
        shot = picture(sources[index % len(sources)], seconds=length, fps=fps, size=size)
        shots.append(shot.filter("format", "yuv420p").filter("setsar", 1))
    return write(path, ffmpeg.concat(*shots), **options)


def boxed(path: Path, *, inner: Size, outer: Size, seconds: float = 4.0, source: str = "testsrc2") -> Path:
    """A picture of `inner` size in the middle of a black one of `outer` size: letterbox or pillarbox."""
    stream = picture(source, seconds=seconds, size=inner)
    return write(path, stream.filter("pad", outer[0], outer[1], "(ow-iw)/2", "(oh-ih)/2", "black"))


def rotated(path: Path, degrees: int = 90, **options: Any) -> Path:
    """As `make`, with a display matrix that a player turns the picture by (clockwise)."""
    upright = make(path.with_name(f".upright-{path.name}"), **options)
    # ffmpeg's option counts anticlockwise.
    run(ffmpeg.input(str(upright), display_rotation=-degrees).output(str(path), c="copy", **_EXACT))
    upright.unlink()
    return path


def variable_rate(path: Path, *, seconds: float = 4.0) -> Path:
    """24 frames a second in the first half, every second frame dropped in the other one."""
    stream = picture("testsrc2", seconds=seconds)
    stream = stream.filter("select", f"lt(t,{seconds / 2})+not(mod(n,2))")
    return write(path, stream, fps_mode="vfr", video_track_timescale=24000)


def burned_text(path: Path, text: str = "BREAKING NEWS 1234", *, seconds: float = 4.0, size: Size = (640, 360)) -> Path:
    """White letters on a dark band; drawn by OpenCV, so as not to depend on the fonts of the machine."""
    width, height = size
    band = np.zeros((height, width, 4), np.uint8)
    band[height // 2 - 40 : height // 2 + 40, :, 3] = 255
    cv2.putText(band, text, (20, height // 2 + 15), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (255, 255, 255, 255), 3)
    image = path.with_name(f".band-{path.stem}.png")
    cv2.imwrite(str(image), band)
    overlay = ffmpeg.input(str(image))
    grain = picture("gradients", seconds=seconds, size=size).filter("noise", all_seed=7, alls=8)
    write(path, grain.overlay(overlay))
    image.unlink()
    return path


def audio_only(path: Path, *, seconds: float = 4.0) -> Path:
    tone = ffmpeg.input("sine=frequency=440:sample_rate=44100", f="lavfi", t=seconds)
    run(tone.output(str(path), acodec="aac", **{**_EXACT, "flags:a": "+bitexact"}))
    return path


_BASELINE: Mapping[str, Any] = {"profile:v": "baseline"}
_MPEG2: Mapping[str, Any] = {"vcodec": "mpeg2video", "b:v": "1M"}
_VP9: Mapping[str, Any] = {"vcodec": "libvpx-vp9", "b:v": "400k", "deadline": "realtime", "cpu-used": 8}
_HEVC: Mapping[str, Any] = {
    "vcodec": "libx265",
    "preset": "ultrafast",
    "tag:v": "hvc1",
    "x265-params": "log-level=0",
}

SAMPLES: Mapping[str, Callable[[Path], Path]] = {
    "plain.mp4": make,
    "sound.mp4": lambda path: make(path, audio=True),
    "scenes.mp4": lambda path: scenes(path, (2.5, 3, 2, 2.5)),
    "long_shot.mp4": lambda path: make(path, seconds=19, fps=24),
    "still.mp4": lambda path: make(path, source="smptebars", seconds=3),
    "noise.mp4": lambda path: make(path, source="noise", seconds=3),
    "letterboxed.mp4": lambda path: boxed(path, inner=(320, 140), outer=(320, 240)),
    "pillarboxed.mp4": lambda path: boxed(path, inner=(200, 180), outer=(320, 180)),
    "rotated.mp4": rotated,
    "anamorphic.mp4": lambda path: write(path, picture("testsrc2", seconds=4, size=(240, 180)).filter("setsar", "4/3")),
    "variable_rate.mp4": variable_rate,
    "ten_bit.mp4": lambda path: make(path, pix_fmt="yuv420p10le"),
    "mpeg2.mpg": lambda path: write(path, picture("testsrc2", seconds=4, fps=25), **_MPEG2),
    "vp9.webm": lambda path: write(path, picture("testsrc2", seconds=4), **_VP9),
    "hevc.mp4": lambda path: write(path, picture("testsrc2", seconds=4), **_HEVC),
    "constrained_baseline.mp4": lambda path: write(path, picture("testsrc2", seconds=4), **_BASELINE),
    "low_bpp.mp4": lambda path: make(path, size=(640, 360), source="gradients", crf=45),
    "fps12.mp4": lambda path: make(path, fps=12),
    "fps2997.mp4": lambda path: make(path, fps="30000/1001"),
    "fps50.mp4": lambda path: make(path, fps=50),
    "fps60.mp4": lambda path: make(path, fps=60),
    "short.mp4": lambda path: make(path, seconds=1.5),
    "wide.mp4": lambda path: make(path, size=(640, 160)),
    "tall.mp4": lambda path: make(path, size=(160, 640)),
    "burned_text.mp4": burned_text,
    "audio_only.m4a": audio_only,
}
"""One video for each property that matters, named by it. 4 s of 320x180 at 24 fps unless that differs.

Only `low_bpp` and `still` have fewer than 0.02 bits per pixel, the first because that is its point.
"""


@functools.cache
def session_folder() -> Path:
    """A folder that lives as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="ziggurat-samples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def sample(name: str) -> Path:
    """The named video of `SAMPLES`, made at first use and shared by all tests: do not write to it."""
    return SAMPLES[name](session_folder() / name)
