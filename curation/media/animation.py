"""Animated WebP and AVIF, which FFmpeg does not read: their frames as a film in memory, lossless, for the usual passes.

Before both passes: each makes the same film of the same bytes (FFV1 in Matroska, times from how long each frame is
shown), and takes it for its source. GIF and APNG need none of this.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from curation.contract import Facts, Reason
from curation.media.pictures.colour import HDR
from curation.media.plan import MediaPlan
from curation.media.probe import Unfit
from curation.media.sandbox.handle import held, reading, size_of
from curation.media.still.look import Format, Look, look
from curation.media.still.picture import check_size, content_of, of_the_data, opened, orientation, upright

_MOST_BYTES = 1 << 30
"""Of a film: more ends as `memory_limit`, wherever the limit of the process lies."""

_BASE = Fraction(1, 1000)
_TOO_SHORT_MS = 10
_INSTEAD_MS = 100
"""What browsers make of a frame that is to be shown for 10 ms or less."""


@dataclass(frozen=True, slots=True)
class Film:
    """What the passes take for their source. `format`, `bytes`: of the animation; None and 0 where it is none that had
    to become a film, and `path` is the source itself. `moves`: it is an animation of any kind.
    """

    path: Path
    format: Format | None = None
    bytes: int = 0
    moves: bool = False

    def plan(self, plan: MediaPlan) -> MediaPlan:
        """What the passes are told of it: no GPU decodes an animation, and the size of a film says nothing."""
        rules = plan.rules if self.format is None else replace(plan.rules, min_bpp=0.0)
        return replace(plan, hwaccel="none", rules=rules) if self.moves else plan

    def facts(self, facts: Facts) -> Facts:
        """The facts of the animation, from those of its film."""
        if self.format is None or not facts.duration_s:
            return facts
        rate = self.bytes * 8 / facts.duration_s
        return replace(facts, container=self.format, codec=self.format, bit_rate=rate)


@contextmanager
def as_film(path: Path, max_pixels: int, progress: Callable[[int], None]) -> Iterator[Film]:
    """The film that an animation becomes; the source itself where it is no animation, or FFmpeg reads it."""
    found = look(path)
    if found is None or not found.moves or found.format == "png":
        yield Film(path, moves=_is_gif(path) if found is None else found.moves)
        return
    with held(_film(path, found, max_pixels, progress)) as made:
        yield Film(made, found.format, size_of(path), moves=True)


def _is_gif(path: Path) -> bool:
    with reading(path) as file:
        return file.read(4) == b"GIF8"


def _film(path: Path, found: Look, max_pixels: int, progress: Callable[[int], None]) -> bytes:
    if found.transfer in HDR:
        raise Unfit(Reason.HDR, detail=f"an animation in {HDR[found.transfer]}")
    out = io.BytesIO()
    with opened(content_of(path), found, max_pixels) as image:
        many, mode = getattr(image, "n_frames", 1), "RGBA" if "A" in image.mode else "RGB"
        size = upright(Image.new("1", image.size), orientation(image)).size
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", options={"level": "3"})
        stream.width, stream.height, stream.pix_fmt = *size, "bgra" if mode == "RGBA" else "bgr0"
        stream.time_base = stream.codec_context.time_base = _BASE
        stream.codec_context.thread_count = 1
        at = 0
        for number, (pixels, shown_ms) in enumerate(_frames(path, found, max_pixels, mode)):
            progress(number)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=stream.pix_fmt, threads=1)
            frame.pts, frame.time_base, frame.duration = at, _BASE, shown_ms
            container.mux(stream.encode(frame))
            at += shown_ms
            if out.tell() > _MOST_BYTES:
                made = f"{number + 1} of {many} frames make a lossless film of more than {_MOST_BYTES >> 20} MiB"
                raise Unfit(Reason.MEMORY_LIMIT, float(out.tell() >> 20), made)
        container.mux(stream.encode(None))
    return out.getvalue()


def _frames(path: Path, found: Look, max_pixels: int, mode: str) -> Iterator[tuple[np.ndarray, int]]:
    """Each frame as RGBA (height, width, 4), upright, and the milliseconds until the next one starts: how long each is
    shown is rounded, and would drift.
    """
    before: tuple[np.ndarray, int] | None = None
    with opened(content_of(path), found, max_pixels) as image:
        turn = orientation(image)
        for number in range(getattr(image, "n_frames", 1)):
            with of_the_data():
                image.seek(number)
                image.load()
            check_size(*image.size, max_pixels)
            start, shown = int(image.info["timestamp"]), int(image.info["duration"])
            if before is not None:
                yield before[0], _shown(start - before[1])
            before = _rgba(upright(image, turn), mode), start
        if before is not None:
            yield before[0], _shown(shown)


def _shown(ms: int) -> int:
    return ms if ms > _TOO_SHORT_MS else _INSTEAD_MS


def _rgba(image: Image.Image, mode: str) -> np.ndarray:
    whole = image.convert("RGBA")
    if mode == "RGB":
        whole.putalpha(255)
    return np.asarray(whole)
