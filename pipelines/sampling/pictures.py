"""Pictures in and out of sampling: references read, videos written as MP4, contact sheets drawn.

A reference is a stranger's file: image or video, it becomes pixels in the sandbox.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from curation.errors import UserError
from pipelines.sheet.canvas import Canvas, colour, printable, shortened

if TYPE_CHECKING:
    from torch import Tensor

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_CRF = "14"
_FRAMES, _CELL, _MARGIN, _LINE = 6, 200, 16, 22


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of a reference: `head` frames at its start and `tail` at its end, as (height, width) pictures.

    `fit`: of another aspect, it is cropped, or refused.
    """

    head: int
    tail: int
    height: int
    width: int
    fit: Literal["error", "crop"] = "crop"


@dataclass(frozen=True, slots=True)
class Reference:
    """Pixels (3, T, height, width) in [-1, 1], head before tail; an image has T = 1. `note`: what was cut off them."""

    pixels: Tensor
    note: str | None = None


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES


def read_reference(path: Path, wanted: Wanted) -> Reference:
    """The wanted frames of an image or a video.

    Of a video its longest shot counts, up to a minute of it. UserError where it cannot be read or has too few frames.
    """
    import torch

    if not path.is_file():
        raise UserError(f"{path} does not exist", "give an image or a video")
    frames = _image(path) if is_image(path) else _video(path, wanted.head, wanted.tail)
    pixels = torch.cat([_fitted(frame, wanted) for frame in frames], 1)
    height, width = frames[0].shape[:2]
    kept_height, kept_width = _kept(height, width, wanted)
    if (kept_height, kept_width) == (height, width):
        return Reference(pixels)
    kept = f"cropped to {kept_width}x{kept_height} for a video of {wanted.width}x{wanted.height}"
    return Reference(pixels, f"{path}, {width}x{height}, is {kept}")


def _fitted(frame: np.ndarray, wanted: Wanted) -> Tensor:
    """One RGB frame (H, W, 3) as (3, 1, height, width): at most one of them is large at a time."""
    import torch

    from training.sampling.sampler import cropped, fitted

    made = torch.from_numpy(frame.copy()).permute(2, 0, 1)[:, None]
    if wanted.fit == "crop":
        made = cropped(made, wanted.height, wanted.width)
    return fitted(made.float() / 127.5 - 1, wanted.height, wanted.width)


def _kept(height: int, width: int, wanted: Wanted) -> tuple[int, int]:
    from training.sampling.sampler import kept

    return kept(height, width, wanted.height, wanted.width) if wanted.fit == "crop" else (height, width)


def _image(path: Path) -> list[np.ndarray]:
    from curation.media.plan import Limits
    from curation.media.sandbox.sandbox import Sandbox

    with Sandbox(Limits()) as sandbox:
        (found,) = sandbox.pictures([path.read_bytes()], path.name)
    if found is None:
        raise UserError(f"{path} is no image that can be read", "give a PNG, JPEG or WebP file")
    return [found[..., ::-1]]


def _video(path: Path, head: int, tail: int) -> list[np.ndarray]:
    """The first `head` and the last `tail` RGB frames of a video's longest shot, cut and decoded in the sandbox."""
    from curation.contract import Clip
    from curation.media.plan import ClipPlan, Encode, Limits, MediaPlan, Rules
    from curation.media.sandbox.sandbox import Sandbox

    rules = Rules(min_duration_s=0, min_bpp=0, min_fps=1, min_aspect=0.1, max_aspect=10, banned_profiles=())
    plan = MediaPlan(rules, clips=ClipPlan(min_s=0.04, max_s=60.0))
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder, Sandbox(Limits()) as sandbox:
        link = Path(folder, "reference")
        link.symlink_to(path.absolute())
        found = sandbox.measure(link, path.name, plan)
        if found.verdict or not found.clips:
            reason = found.verdict.reason if found.verdict else "no clip"
            raise UserError(f"{path} cannot be used ({reason})", "give another video")
        longest = max(found.clips, key=lambda clip: clip.frames)
        if longest.frames < max(head, tail):
            cause = f"{max(head, tail)} frames are needed, the longest shot of {path} has {longest.frames}"
            raise UserError(cause, "give a longer video")
        span = {name: getattr(longest, name) for name in _span_fields()}
        clip = Clip(clip_id="0" * 32, video_id="0" * 32, **span)
        done = sandbox.cut(link, path.name, [clip], plan, Encode(preset="veryfast", crf=8))
        if done.verdict or not done.media:
            raise UserError(f"{path} cannot be decoded", "give another video")
        content = done.media[0][1]
        stretches = [(0, head), (longest.frames - tail, tail)]
        frames = [
            frame for first, count in stretches if count for frame in sandbox.frames(content, path.name, first, count)
        ]
    if len(frames) != head + tail:
        raise UserError(f"{path} cannot be decoded", "give another video")
    return [frame[..., ::-1] for frame in frames]


def _span_fields() -> list[str]:
    from dataclasses import fields

    from curation.contract import Span

    return [field.name for field in fields(Span)]


def read_mp4(content: bytes) -> np.ndarray:
    """The frames (T, H, W, 3) of an MP4 file of our own making."""
    import av

    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def mp4(frames: np.ndarray, fps: float) -> bytes:
    """A file of frames (T, H, W, 3) as H.264, 4:2:0.

    The same frames give the same file to the byte: conversion and encoder have one thread each, and x264 leaves AVX-512
    alone (`steady`).
    """
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:  # `faststart` reads again what it has written
        path = Path(folder, "video.mp4")
        _encode(path, frames, fps)
        return path.read_bytes()


def png(frame: np.ndarray) -> bytes:
    """A file of one frame (H, W, 3), RGB."""
    import cv2

    done, content = cv2.imencode(".png", np.ascontiguousarray(frame[..., ::-1]))
    assert done, "OpenCV writes PNG"
    return content.tobytes()


def _encode(path: Path, frames: np.ndarray, fps: float) -> None:
    import av

    _, height, width, _ = frames.shape
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream(
            "libx264", rate=rate, options={"crf": _CRF, "preset": "medium", **steady(_processor())}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", threads=1)))
        container.mux(stream.encode(None))


def steady(processor: str) -> dict[str, str]:
    """Options with which x264 writes the same bytes each time on a machine whose /proc/cpuinfo this is.

    Its AVX-512 code does not on busy virtual machines: of 1,940 encodings of one 8-frame video 48 came out otherwise,
    some pixels 2 off; with AVX2 none of 947 did, and its bytes are those that AVX-512 gives as a rule. A processor
    without AVX-512 is left to choose: x264 would run whatever it is told to, present or not.
    """
    flags = {flag for line in processor.splitlines() if line.startswith("flags") for flag in line.split()}
    return {"x264-params": "asm=AVX2"} if {"avx512f", "avx2", "bmi2", "fma"} <= flags else {}


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:  # another system than Linux
        return ""


def spread(frames: np.ndarray) -> np.ndarray:
    """The frames of a video that a contact sheet shows, from the first to the last."""
    return frames[np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round().astype(int)]


def contact_sheet(videos: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """A PNG with a row for each (caption, frames (T, H, W, 3)): frames from the first to the last."""
    ink, paper = colour("222222"), colour("ffffff")
    heights = [round(_CELL * frames.shape[1] / frames.shape[2]) for _, frames in videos]
    columns = max(min(_FRAMES, len(frames)) for _, frames in videos)
    width = _MARGIN + columns * (_CELL + _MARGIN)
    canvas = Canvas(width, _MARGIN + sum(height + _LINE + _MARGIN for height in heights), paper)
    top = _MARGIN
    for (caption, frames), height in zip(videos, heights, strict=True):
        canvas.text(_MARGIN, top + 14, shortened(printable(caption), width - 2 * _MARGIN, 14), 14, ink)
        shown = np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)
        for column, index in enumerate(shown):
            left = _MARGIN + column * (_CELL + _MARGIN)
            canvas.picture(left, top + _LINE, _CELL, height, np.ascontiguousarray(frames[index][..., ::-1]))
        top += height + _LINE + _MARGIN
    return canvas.png()
