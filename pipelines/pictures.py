"""Pictures in and out of sampling: references read, videos written as MP4, contact sheets drawn.

A reference is a stranger's file: image or video, it becomes pixels in the sandbox.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import UserError
from pipelines.canvas import Canvas, colour, printable, shortened

if TYPE_CHECKING:
    from torch import Tensor

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_CRF = "14"
_FRAMES, _CELL, _MARGIN, _LINE = 6, 200, 16, 22


def read_reference(path: Path) -> Tensor:
    """An image or a video as (3, T, H, W) in [-1, 1]; an image has T = 1. UserError where it cannot be read."""
    import torch

    if not path.is_file():
        raise UserError(f"{path} does not exist", "give an image or a video")
    frames = _image(path) if path.suffix.lower() in IMAGES else _video(path)
    return torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1


def _image(path: Path) -> np.ndarray:
    from curation.media.plan import Limits
    from curation.media.sandbox import Sandbox

    with Sandbox(Limits()) as sandbox:
        (found,) = sandbox.pictures([path.read_bytes()], path.name)
    if found is None:
        raise UserError(f"{path} is no image that can be read", "give a PNG, JPEG or WebP file")
    return found[None, ..., ::-1].copy()


def _video(path: Path) -> np.ndarray:
    """All frames (T, H, W, 3) of a video's longest shot, up to a minute of it, cut in the sandbox."""
    from curation.contract import Clip
    from curation.media.plan import ClipPlan, Encode, Limits, MediaPlan, Rules
    from curation.media.sandbox import Sandbox

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
        span = {name: getattr(longest, name) for name in _span_fields()}
        clip = Clip(clip_id="0" * 32, video_id="0" * 32, **span)
        done = sandbox.cut(link, path.name, [clip], plan, Encode(preset="veryfast", crf=8))
        if done.verdict or not done.media:
            raise UserError(f"{path} cannot be decoded", "give another video")
        frames = sandbox.frames(done.media[0][1], path.name, 0, longest.frames)
        if len(frames) != longest.frames:
            raise UserError(f"{path} cannot be decoded", "give another video")
        return np.stack(frames)[..., ::-1].copy()


def _span_fields() -> list[str]:
    from dataclasses import fields

    from curation.contract import Span

    return [field.name for field in fields(Span)]


def read_mp4(content: bytes) -> np.ndarray:
    """The frames (T, H, W, 3) of an MP4 file of our own making."""
    import av

    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    """Frames (T, H, W, 3) as H.264, 4:2:0; written whole or not at all."""
    import av

    _, height, width, _ = frames.shape
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))
    part.replace(path)


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
