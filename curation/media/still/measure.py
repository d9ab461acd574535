"""Both passes over an image: measured as one clip of one picture, and cut to what is stored of it.

    look -> picture -> Facts -> rules -> the one clip with sharpness and its sample          (measuring)
    look -> picture -> its checksum is the one that was measured -> scaled -> JPEG or PNG      (cutting)

Runs inside the sandbox; `media.measure` and `media.cut` call it where the input is an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import xxhash

from curation.contract import LAPLACIANS, Clip, Crop, Ending, Facts, Kind, Reason, Verdict
from curation.media.clip_builder import SAMPLE_QUALITY, SAMPLE_SIDE
from curation.media.frames import checksum_of, planes
from curation.media.measures.blur import laplacian_variance, sharpness
from curation.media.measures.scored import ScoredSize
from curation.media.pictures.convert import Converter
from curation.media.pictures.geometry import even
from curation.media.plan import Encode, MediaPlan
from curation.media.probe import Unfit
from curation.media.results import ClipMeasure, Tally
from curation.media.still.encode import encoded, scaled
from curation.media.still.look import Look, look
from curation.media.still.picture import Still, decode


def measure_image(path: Path, found: Look, plan: MediaPlan, max_pixels: int) -> Iterator[Facts | ClipMeasure | Tally]:
    """Yield the facts, the one clip and the tally, as `media.measure.measure` does. Raises `Unfit` with the verdict."""
    still = decode(path, found, max_pixels)
    width, height = still.size
    facts = Facts(
        container=found.format,
        codec=found.format,
        profile="",
        pix_fmt=still.mode,
        coded_width=width,
        coded_height=height,
        width=width,
        height=height,
        rotation=0,
        mirrored=False,
        sar=1.0,
        fps=None,
        variable_rate=False,
        duration_s=None,
        frames=1,
        bit_rate=None,
    )
    yield facts
    if verdict := _judge(facts, plan):
        raise Unfit(verdict.reason, verdict.measured, verdict.detail)
    yield _measured(still, plan)
    yield Tally(decoded=1)


def cut_image(path: Path, clip: Clip, encode: Encode, max_pixels: int) -> bytes:
    """What is stored of an image. Raises `Unfit(OTHER_FRAMES)` where the picture is not the one that was measured."""
    found = look(path)
    if found is not None:
        still = decode(path, found, max_pixels)
        if checksum(still.bgr) == clip.first_check:
            return encoded(scaled(still.bgr, clip.width, clip.height), encode)
    raise Unfit(Reason.OTHER_FRAMES, None, "the picture comes out otherwise")


def checksum(bgr: np.ndarray) -> int:
    """63 bits that stand for a decoded picture: XXH3 of all its pixels and of its width."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(bgr).data, seed=bgr.shape[1]) >> 1


def _judge(facts: Facts, plan: MediaPlan) -> Verdict | None:
    """The first rule that an image breaks, or None. Those on length, rate and bits are of videos."""
    rules, least = plan.rules, plan.images.min_side
    if (short := min(facts.width, facts.height)) < least:
        return Verdict(Reason.TOO_SMALL, float(short), f"{facts.width}x{facts.height}; the rule asks for {least}")
    if not rules.min_aspect <= facts.aspect <= rules.max_aspect:
        asked = f"the rule asks for {rules.min_aspect:.4g} to {rules.max_aspect:.4g}"
        return Verdict(Reason.BAD_ASPECT, facts.aspect, f"{facts.width}x{facts.height} as displayed; {asked}")
    return None


def _measured(still: Still, plan: MediaPlan) -> ClipMeasure:
    whole, check = still.size, checksum(still.bgr)
    width, height = plan.images.size(*whole)
    variance = laplacian_variance(_scored(width, height, plan.score_side).for_sharpness(_luma(still.bgr)))
    return ClipMeasure(
        kind=Kind.IMAGE,
        shot=0,
        start_s=0.0,
        end_s=None,
        start_frame=0,
        end_frame=1,
        key_s=0.0,
        crop=Crop(0, 0, *whole),
        width=width,
        height=height,
        fps=None,
        frames=1,
        ended_by=Ending.END,
        first_check=check,
        last_check=check,
        all_check=checksum_of([check]),
        conversion=still.conversion,
        motion=None,
        jitter=None,
        laplacian=(variance,) * LAPLACIANS,
        sharpness=sharpness((variance,)),
        samples=(_sample(still.bgr),),
    )


def _scored(width: int, height: int, side: int) -> ScoredSize:
    """As `ScoredSize.of`; only a side in common makes sizes even, as it does for videos."""
    scale = side / min(width, height)
    return ScoredSize(even(width * scale), even(height * scale), True) if side else ScoredSize(width, height, False)


def _luma(bgr: np.ndarray) -> np.ndarray:
    """The luma that a video of this picture has, so that its sharpness is the same number."""
    return planes(Converter()(av.VideoFrame.from_ndarray(bgr, format="bgr24")))[0].copy()


def _sample(bgr: np.ndarray) -> bytes:
    height, width = bgr.shape[:2]
    scale = min(1.0, SAMPLE_SIDE / max(width, height))
    small = scaled(bgr, max(1, round(width * scale)), max(1, round(height * scale)))
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, SAMPLE_QUALITY])
    return jpeg.tobytes()
