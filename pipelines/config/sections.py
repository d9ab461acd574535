"""The tables of a recipe: each key with its type, its bounds, its default and what it means.

`recipe` puts them together and turns them into the plans that the stages take; `reference` writes docs/recipe.md.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from curation.filters.ocr.base import OcrParameters
from curation.media.shots import options
from curation.media.shots.table import DETECTORS
from curation.pyramid.failures import kind
from curation.pyramid.tiers import may_be_score
from pipelines.config.tomlfile import Section

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


class RulesSection(Section):
    """Input rules; a source that breaks one is rejected with its reason."""

    min_duration_s: float = Field(default=2.0, ge=0)
    """Seconds; a shorter source is `too_short`."""
    min_bpp: float = Field(default=0.02, ge=0)
    """Bits a pixel and frame of the video stream; below it a source is `low_bpp`."""
    min_fps: float = Field(default=16.0, ge=0)
    """Pictures a second; a slower source, or a slower part of one, is `low_fps`."""
    aspect: tuple[float, float] = (1 / 3, 3.0)
    """Width to height as a player shows it, lowest and highest."""
    banned_profiles: tuple[str, ...] = ("Constrained Baseline",)
    """H.264 profiles that are refused."""
    min_decoded: float = Field(default=0.9, gt=0, le=1)
    """A source of which a smaller share of frames decodes is `broken`."""


class ShotsSection(Section):
    """How a source is divided into shots."""

    detector: str = "scene"
    """What finds the shots: scene, adaptive, content, transnet or none (docs/shots.md)."""
    trim_frames: int = Field(default=0, ge=0, le=30)
    """Frames left out on each side of a cut."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the detector; see the tables below."""

    @field_validator("detector")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in DETECTORS:
            raise ValueError(f"one of {', '.join(DETECTORS)} is allowed")
        return value

    @field_validator("options")
    @classmethod
    def _of_the_detector(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "detector" in info.data:  # else its name is wrong, and is told
            options.read(info.data["detector"], value)
        return value


class ClipsSection(Section):
    """The format of a clip."""

    min_s: float = Field(default=2.0, gt=0)
    """Seconds of the shortest clip."""
    max_s: float = Field(default=8.0, gt=0)
    """Seconds of the longest clip; a longer shot is divided."""
    frames: int | None = Field(default=None, ge=1, le=100_000)
    """Every clip has so many frames, in place of `min_s` and `max_s`."""
    max_side: int = Field(default=1080, ge=16, le=8192)
    """Pixels of the longer side; a larger picture is reduced."""
    max_fps: float = Field(default=30000 / 1001, gt=0, le=240)
    """Frames a second; a faster source is thinned by a regular stride."""
    fps: float | None = Field(default=None, gt=0, le=240)
    """The rate to come near to by a regular stride, never above the source's."""
    hdr: Literal["tonemap", "reject"] = "tonemap"
    """HDR10 and HLG: mapped to BT.709, or refused (docs/colour.md)."""
    interlaced: Literal["deinterlace", "reject"] = "deinterlace"
    """Interlaced material: made progressive, or refused."""
    remove_borders: bool = True
    """Whether black borders are cut off."""
    border_limit: float = Field(default=24.0, ge=0, le=255)
    """The mean luma, 0 to 255, up to which a line is black."""

    @model_validator(mode="after")
    def _ordered(self) -> ClipsSection:
        if self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s} must not be above max_s {self.max_s}")
        if self.frames is not None and {"min_s", "max_s"} & self.model_fields_set:
            raise ValueError("frames takes the place of min_s and max_s: give one or the other")
        if self.fps is not None and self.fps > self.max_fps:
            raise ValueError(f"fps {self.fps:g} must not be above max_fps {self.max_fps:g}")
        return self


class EncodeSection(Section):
    """How kept clips are encoded."""

    codec: Literal["libx264", "h264_nvenc"] = "libx264"
    """`h264_nvenc` encodes on a GPU."""
    preset: str = "medium"
    """Speed against size: ultrafast to veryslow for libx264, p1 to p7 for NVENC."""
    crf: int = Field(default=18, ge=0, le=51)
    """Constant quality, lower is better."""

    @model_validator(mode="after")
    def _preset(self) -> EncodeSection:
        allowed = PRESETS if self.codec == "libx264" else tuple(f"p{n}" for n in range(1, 8))
        if self.preset not in allowed:
            raise ValueError(f"preset {self.preset!r}: for {self.codec}, one of {', '.join(allowed)} is allowed")
        return self


class OcrSection(Section):
    """Text detection (docs/filters.md)."""

    enabled: bool = True
    """Whether the score is made."""
    from_tier: str | None = None
    """Only clips that can still be in this tier are scored; without it all are."""
    engine: Literal["rapidocr", "paddleocr"] = "rapidocr"
    """`paddleocr` runs PaddleOCR in an environment of its own (`make env-paddle`)."""
    python: str | None = None
    """The interpreter of that environment."""
    confidence: float = Field(default=0.7, ge=0, lt=1)
    """The detector's score that a box must exceed."""
    reading: float | None = Field(default=0.7, ge=0, lt=1)
    """The recogniser's confidence above which a box of any shape counts; "none" trusts the detector alone."""
    characters: int = Field(default=3, ge=1, le=100)
    """The fewest that count as read."""
    line: float | None = Field(default=3.0, ge=1, le=1000)
    """How many times as long as high a box counts unread, or "none"."""
    low: float = Field(default=0.15, ge=0, le=1)
    """The largest short side, as a share of the frame's, at which one and a half times is enough; 0 for none."""
    gate: float = Field(default=0.5, ge=0, lt=1)
    """The detector's score that a box of a coarse look must exceed; `false` or 0 looks at every frame exactly."""
    gate_side: int = Field(default=384, ge=64, le=640)
    """Longer side of the coarse look, pixels."""

    @field_validator("reading", "line", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "none":
            raise ValueError('a number or "none" is allowed')
        return None if value == "none" else value

    @field_validator("gate", mode="before")
    @classmethod
    def _no_gate(cls, value: Any) -> Any:
        if value is True or isinstance(value, str):
            raise ValueError("a number from 0 to below 1, or false, is allowed")
        return 0.0 if value is False else value

    @property
    def options(self) -> dict[str, Any]:
        """What differs from run to run of `OcrParameters`, as JSON can hold it."""
        return self.model_dump(include={"confidence", "reading", "characters", "line", "low", "gate", "gate_side"})

    @property
    def parameters(self) -> OcrParameters:
        return OcrParameters(**self.options)


class AestheticSection(Section):
    """CLIP with the LAION head (docs/filters.md)."""

    enabled: bool = True
    """Whether the score is made."""
    from_tier: str | None = None
    """Only clips that can still be in this tier are scored; without it all are."""
    missing: Literal["fail", "skip"] = "fail"
    """Where the weights are absent: the run stops, or the score stays null and says so."""
    clip_weights: str | None = None
    """Path of CLIP's weights."""
    head_weights: str | None = None
    """Path of the aesthetic head's weights."""
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """`cpu`, `cuda` or `cuda:N`."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """What CLIP computes in."""


class CustomSection(Section):
    """A filter of your own (docs/filters.md)."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    """What the filter is called: small letters, digits, `_`; up to 48."""
    filter: str = Field(min_length=1)
    """`package.module:Class`, or the name of an entry point in the group `ziggurat.filters`."""
    scores: tuple[str, ...] = ()
    """The columns that it fills; one called as the filter is where none is named."""
    version: int = Field(default=1, ge=0)
    """Raise it where the filter has changed: its scores are then made again."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What the class is called with."""
    from_tier: str | None = None
    """Only clips that can still be in this tier are scored; without it all are."""
    python: str | None = None
    """The interpreter of an environment of its own."""
    gpus: float = Field(default=0.0, ge=0, le=64)
    """GPUs, or a share of one, that a worker of it holds."""

    @model_validator(mode="after")
    def _named(self) -> CustomSection:
        if self.name in STAGES or kind(self.name) is not None:
            raise ValueError(f"name = {self.name!r} is a stage or a reason of Ziggurat's own: choose another")
        for column in self.columns:
            if not may_be_score(column):
                raise ValueError(
                    f"scores = {column!r}: small letters, digits and `_` are allowed, and no other column's name"
                )
        return self

    @field_validator("options")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value)
        except TypeError:
            raise ValueError("numbers, texts, truth values, lists and tables are allowed, no dates") from None
        return value

    @property
    def columns(self) -> tuple[str, ...]:
        """The score columns that it fills."""
        return self.scores or (self.name,)


STAGES = ("measure", "fetch", "ocr", "aesthetic", "cut")
"""What a run does whatever the recipe says."""


class FiltersSection(Section):
    """What is measured of a clip."""

    score_side: int = Field(default=0, ge=0, le=4320)
    """Short side, in pixels, of the pictures on which motion and sharpness are measured; 0 is the clip's own size."""
    ocr: OcrSection = OcrSection()
    aesthetic: AestheticSection = AestheticSection()
    custom: tuple[CustomSection, ...] = ()

    @field_validator("custom")
    @classmethod
    def _apart(cls, value: tuple[CustomSection, ...]) -> tuple[CustomSection, ...]:
        for what, names in (
            ("name", [one.name for one in value]),
            ("score", [column for one in value for column in one.columns]),
        ):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"the {what} {twice!r} is given twice")
        return value


class SandboxSection(Section):
    """What one video may cost while it is decoded."""

    silence_s: float = Field(default=60.0, gt=0)
    """Seconds without a decoded frame after which a decoder is ended."""
    wall_s: float = Field(default=7200.0, gt=0)
    """Seconds that one video may take."""
    cpu_s: float = Field(default=7200.0, gt=0)
    """Processor seconds that one video may take."""
    memory_mb: int = Field(default=4096, ge=512)
    """Memory of a decoder, MiB."""
    max_pixels: int = Field(default=7680 * 4320, ge=1)
    """Pixels of the largest picture that is decoded."""
    confine: Literal["best", "required"] = "best"
    """Whether a decoder must be confined by the kernel (docs/sandbox.md)."""


class CutSection(Section):
    """Which clips are encoded."""

    tier: str | None = None
    """Clips of this tier are encoded; without it nothing is cut until `ziggurat cut`."""


class RunSection(Section):
    """How a run is laid out."""

    hwaccel: Literal["none", "cuda"] = "none"
    """`cuda` decodes on a GPU."""
    window: int = Field(default=2000, ge=1)
    """Sources taken through all stages at a time."""
    attempts: int = Field(default=3, ge=1)
    """How often an item may fail, or cost a worker, before it ends with that as its reason."""
    stop_after: int = Field(default=10, ge=0)
    """How many videos in a row may fail for one cause before the run stops with it; 0 for any number."""
    stall_s: float = Field(default=120.0, gt=0)
    """Seconds without progress after which a worker is named."""
