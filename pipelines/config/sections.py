"""The tables of a recipe: each key with its type, its bounds, its default and what it means.

`recipe` puts them together and turns them into the plans that the stages take; `reference` writes docs/recipe.md.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, create_model, field_validator, model_validator

from curation.contract import AMONG_OTHERS
from curation.filters.custom import custom_fingerprint
from curation.filters.section import FilterSection, FilterSpec, section_of
from curation.filters.table import FILTERS, Filter
from curation.media.shots import options
from curation.media.shots.table import DETECTORS
from curation.pyramid.history.failures import kind
from curation.pyramid.tiering.tiers import may_be_score
from pipelines.config.tomlfile import Section, as_json

H264_PROFILES = (
    "Constrained Baseline",
    "Baseline",
    "Extended",
    "Main",
    "High",
    "High 10",
    "High 10 Intra",
    "High 4:2:2",
    "High 4:2:2 Intra",
    "High 4:4:4",
    "High 4:4:4 Predictive",
    "High 4:4:4 Intra",
    "CAVLC 4:4:4",
    "Multiview High",
    "Stereo High",
)
"""As FFmpeg calls them."""
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


class RulesSection(Section):
    """Input rules; a source that breaks one is rejected with its reason."""

    min_duration_s: float = Field(default=2.0, ge=0, le=86_400)
    """Seconds; a shorter source is `too_short`."""
    min_bpp: float = Field(default=0.02, ge=0, le=48)
    """Bits a coded pixel and frame of the video stream; below it a source is `low_bits_per_pixel`."""
    min_fps: float = Field(default=16.0, ge=0, le=1000)
    """Pictures a second; a slower source, or a slower part of one, is `low_fps`."""
    aspect: tuple[float, float] = (1 / 3, 3.0)
    """Width to height as a player shows it, lowest and highest."""
    banned_profiles: tuple[str, ...] = ("Constrained Baseline",)
    """H.264 profiles that are refused."""
    min_decoded: float = Field(default=0.9, gt=0, le=1)
    """A source of which a smaller share of frames decodes is `broken`."""

    @field_validator("aspect")
    @classmethod
    def _from_to(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0 <= low <= high or high == 0:
            raise ValueError("[lowest, highest] is allowed, neither below 0, inf for an open end")
        return value

    @field_validator("banned_profiles")
    @classmethod
    def _profiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in H264_PROFILES]:
            raise ValueError(f"there is no profile {unknown[0]!r}; allowed are {', '.join(H264_PROFILES)}")
        return value


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

    min_s: float = Field(default=2.0, gt=0, le=86_400)
    """Seconds of the shortest clip."""
    max_s: float = Field(default=8.0, gt=0, le=86_400)
    """Seconds of the longest clip; a longer shot is divided."""
    frames: int | None = Field(default=None, ge=1, le=100_000)
    """Every clip has so many frames, in place of `min_s` and `max_s`."""
    max_side: int = Field(default=1080, ge=16, le=8192)
    """Pixels of the longer side; a larger picture is reduced."""
    max_fps: float = Field(default=30000 / 1001, ge=1, le=240)
    """Frames a second; a faster source is thinned by a regular stride."""
    fps: float | None = Field(default=None, ge=1, le=240)
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


class ImagesSection(Section):
    """Images among the sources (docs/images.md); `rules.aspect` holds for them, too."""

    from_folders: bool = False
    """Whether folders and globs are searched for images, and for `.gif` and `.apng`. A file that is named is taken."""
    min_side: int = Field(default=16, ge=1)
    """Pixels of the shorter side; a smaller image is `too_small`."""
    max_side: int = Field(default=2048, ge=16, le=16384)
    """Pixels of the longer side of what is stored; a larger picture is reduced."""

    @model_validator(mode="after")
    def _ordered(self) -> ImagesSection:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side {self.min_side} must not be above max_side {self.max_side}")
        return self


class EncodeSection(Section):
    """How kept clips are encoded."""

    codec: Literal["libx264", "h264_nvenc"] = "libx264"
    """`h264_nvenc` encodes on a GPU."""
    preset: str = "medium"
    """Speed against size: ultrafast to veryslow for libx264, p1 to p7 for NVENC."""
    crf: int = Field(default=18, ge=0, le=51)
    """Constant quality, lower is better."""
    sound: Literal["drop", "aac"] = "drop"
    """`aac` keeps the source's sound, in sync with the first frame; `drop` leaves it out (docs/clips.md)."""
    image: Literal["jpeg", "png"] = "jpeg"
    """What images are stored as."""
    image_quality: int = Field(default=95, ge=1, le=100)
    """Of a JPEG, higher is better; its colours are 4:4:4."""

    @model_validator(mode="after")
    def _preset(self) -> EncodeSection:
        allowed = PRESETS if self.codec == "libx264" else tuple(f"p{n}" for n in range(1, 8))
        if self.preset not in allowed:
            raise ValueError(f"preset {self.preset!r}: for {self.codec}, one of {', '.join(allowed)} is allowed")
        return self


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
            if column in AMONG_OTHERS or not may_be_score(column):
                raise ValueError(
                    f"scores = {column!r}: small letters, digits and `_` are allowed, and no other column's name"
                )
        return self

    @field_validator("options")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        return as_json(value)

    @property
    def columns(self) -> tuple[str, ...]:
        """The score columns that it fills."""
        return self.scores or (self.name,)

    def spec(self) -> FilterSpec:
        """As `FilterSection.spec`: how the filter runs."""
        settings = {
            "name": self.name,
            "filter_": self.filter,
            "scores": list(self.columns),
            "version": self.version,
            "options": self.options,
        }
        by = custom_fingerprint(self.name, self.version, self.filter, self.options)
        return FilterSpec(by, settings, self.gpus, self.python)


STAGES = ("measure", "fetch", "pictures", *(one.name for one in FILTERS), "cut")
"""What a run does whatever the recipe says."""


class _Measured(Section):
    score_side: int = Field(default=0, ge=0, le=4320)
    """Short side, in pixels, of the pictures on which motion and sharpness are measured; 0 is the clip's own size."""


def _field(one: Filter) -> tuple[type[FilterSection], FilterSection]:
    section = section_of(one)
    return section, section()


_FIELDS: dict[str, Any] = {one.name: _field(one) for one in FILTERS}
_Ours = create_model("_Ours", __base__=_Measured, __module__=__name__, **_FIELDS)


class FiltersSection(_Ours):
    """What is measured of a clip."""

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

    @property
    def ours(self) -> tuple[tuple[Filter, FilterSection], ...]:
        """What the recipe says of each filter of the table, in its order."""
        return tuple((one, getattr(self, one.name)) for one in FILTERS)


class SandboxSection(Section):
    """What one video may cost while it is decoded."""

    silence_s: float = Field(default=60.0, ge=1, le=86_400)
    """Seconds without a decoded frame after which a decoder is ended."""
    wall_s: float = Field(default=7200.0, gt=0, le=31_536_000)
    """Seconds that one video may take."""
    cpu_s: float = Field(default=7200.0, ge=1, le=31_536_000)
    """Processor seconds that one video may take."""
    memory_mb: int = Field(default=4096, ge=512)
    """Memory of a decoder, MiB."""
    max_pixels: int = Field(default=7680 * 4320, ge=1)
    """Pixels of the largest picture of a video that is decoded."""
    max_image_pixels: int = Field(default=100_000_000, ge=1)
    """Pixels of the largest image that is decoded."""
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
