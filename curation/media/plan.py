"""What the media passes are told to do: rules, shots, clip format, limits. Made from the recipe, sent to the sandbox.

The part that decides which clips a video has (`MediaPlan`) has a fingerprint: with the same one, the same bytes give
the same clips. How clips are encoded (`Encode`) and how long a decoder may take (`Limits`) do not change that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from curation.identity import fingerprint

PLAN_VERSION = 2


@dataclass(frozen=True, slots=True)
class Rules:
    """Input rules of the report, section 2.1.1, and two of our own for files that decode only in part."""

    min_duration_s: float = 2.0
    min_bpp: float = 0.02
    min_fps: float = 16.0
    min_aspect: float = 1 / 3
    max_aspect: float = 3.0
    banned_profiles: tuple[str, ...] = ("Constrained Baseline",)
    min_decoded: float = 0.9
    max_untimed: float = 0.1


@dataclass(frozen=True, slots=True)
class ShotPlan:
    """Which shot detector (a name in `shots.DETECTORS`), its options, and frames left out at each shot's ends."""

    detector: str = "scene"
    options: Mapping[str, float] = field(default_factory=dict)
    trim_frames: int = 0


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """The format of a clip (report, section 2.1.1). `max_side` in pixels; `border_limit` is a luma level, 0 to 255.

    `frames`: every clip has so many, in place of `min_s` and `max_s`. `fps`: the rate to come near to by a regular
    stride, in place of the highest one that `max_fps` allows. `hdr`, `interlaced`: what becomes of such material.
    """

    min_s: float = 2.0
    max_s: float = 8.0
    frames: int | None = None
    max_side: int = 1080
    max_fps: float = 30000 / 1001
    fps: float | None = None
    hdr: Literal["tonemap", "reject"] = "tonemap"
    interlaced: Literal["deinterlace", "reject"] = "deinterlace"
    remove_borders: bool = True
    border_limit: float = 24.0

    def lengths(self, fps: float) -> tuple[int, int]:
        """The least and the most frames of a clip at `fps`. Where no whole number lies between, the nearest one."""
        if self.frames is not None:
            return self.frames, self.frames
        least, most = math.ceil(self.min_s * fps - 1e-6), math.floor(self.max_s * fps + 1e-6)
        if least > most:
            least = most = round((self.min_s + self.max_s) / 2 * fps)
        return max(1, least), max(1, most)


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What becomes of images. `min_side`: a picture whose short side is less is refused; `max_side`: the long side of
    what is stored, to which a larger picture is reduced. Both in pixels; the rule on aspect is that of `Rules`.
    """

    min_side: int = 16
    max_side: int = 2048

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what is stored of a picture."""
        scale = min(1.0, self.max_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True, slots=True)
class Encode:
    """How clips are encoded. `libx264` takes preset and CRF; `h264_nvenc` takes `crf` as its constant quality.

    `sound`: "aac" keeps it, "drop" leaves it out. `image`: what an image is stored as; `image_quality`: of its JPEG.
    """

    codec: Literal["libx264", "h264_nvenc"] = "libx264"
    preset: str = "medium"
    crf: int = 18
    sound: Literal["drop", "aac"] = "drop"
    image: Literal["jpeg", "png"] = "jpeg"
    image_quality: int = 95

    @property
    def encoders(self) -> tuple[str, ...]:
        """libav's names of what it takes."""
        return (self.codec,) if self.sound == "drop" else (self.codec, self.sound)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one video may cost in the sandbox. `silence_s`: longest time without progress; memory in MiB. `max_pixels`:
    of a video's picture, `max_image_pixels`: of an image.

    `confine`: "required" refuses to decode where the kernel cannot confine the decoder (`sandbox.cell`), "best" takes
    what there is.
    """

    silence_s: float = 60.0
    wall_s: float = 7200.0
    cpu_s: float = 7200.0
    memory_mb: int = 4096
    max_pixels: int = 7680 * 4320
    max_image_pixels: int = 100_000_000
    recycle_after: int = 200
    confine: Literal["best", "required"] = "best"


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """Everything that decides which clips a video has and how they are measured.

    `score_side`: the short side, in pixels, of the pictures on which motion and sharpness are measured; 0 is the
    clip's own size. It decides values and no clip, so scores carry it in their own fingerprints.
    """

    rules: Rules = field(default_factory=Rules)
    shots: ShotPlan = field(default_factory=ShotPlan)
    clips: ClipPlan = field(default_factory=ClipPlan)
    hwaccel: Literal["none", "cuda"] = "none"
    score_side: int = 0
    images: ImagePlan = field(default_factory=ImagePlan)

    @property
    def fingerprint(self) -> str:
        parts = asdict(self)
        del parts["hwaccel"], parts["score_side"]
        if self.images == ImagePlan():  # as it was before there were images: what is measured stays measured
            del parts["images"]
        return fingerprint("plan", PLAN_VERSION, parts)
