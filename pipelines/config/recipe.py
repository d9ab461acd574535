"""The recipe: a TOML file that says what a curation job does. Read here, checked by pydantic, turned into plain plans.

`load` takes a path or the name of a recipe that ships (`recipes/`). A wrong recipe is a `UserError` that names the key,
the value and what is allowed. Everything after this module works with frozen dataclasses and never sees the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from curation.filters.ocr.base import OcrParameters
from curation.media.plan import ClipPlan, Encode, Limits, MediaPlan, Rules, ShotPlan
from curation.media.shots import options
from curation.media.shots.table import DETECTORS
from curation.pyramid.tiers import COLUMNS, Range, Tier, Tiers
from pipelines.config import tomlfile
from pipelines.config.tomlfile import Section

SHIPPED = Path(__file__).parent / "recipes"
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


class RulesSection(Section):
    """Input rules; a source that breaks one is rejected with its reason."""

    min_duration_s: float = Field(default=2.0, ge=0)
    min_bpp: float = Field(default=0.02, ge=0)
    min_fps: float = Field(default=16.0, ge=0)
    aspect: tuple[float, float] = (1 / 3, 3.0)
    banned_profiles: tuple[str, ...] = ("Constrained Baseline",)
    min_decoded: float = Field(default=0.9, gt=0, le=1)


class ShotsSection(Section):
    """Which detector finds the shots, its options, and frames left out at each end of a shot."""

    detector: str = "scene"
    trim_frames: int = Field(default=0, ge=0, le=30)
    options: dict[str, Any] = Field(default_factory=dict)

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
    """The format of a clip. `frames` takes the place of both lengths; `fps` is a rate to come near to."""

    min_s: float = Field(default=2.0, gt=0)
    max_s: float = Field(default=8.0, gt=0)
    frames: int | None = Field(default=None, ge=1, le=100_000)
    max_side: int = Field(default=1080, ge=16, le=8192)
    max_fps: float = Field(default=30000 / 1001, gt=0, le=240)
    fps: float | None = Field(default=None, gt=0, le=240)
    hdr: Literal["tonemap", "reject"] = "tonemap"
    interlaced: Literal["deinterlace", "reject"] = "deinterlace"
    remove_borders: bool = True
    border_limit: float = Field(default=24.0, ge=0, le=255)

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
    preset: str = "medium"
    crf: int = Field(default=18, ge=0, le=51)

    @model_validator(mode="after")
    def _preset(self) -> EncodeSection:
        allowed = PRESETS if self.codec == "libx264" else tuple(f"p{n}" for n in range(1, 8))
        if self.preset not in allowed:
            raise ValueError(f"preset {self.preset!r}: for {self.codec}, one of {', '.join(allowed)} is allowed")
        return self


class OcrSection(Section):
    """Text detection. `python`: the interpreter of the environment that holds PaddleOCR.

    The others say what counts as text, see `curation.filters.ocr.base.OcrParameters`; "none" leaves that test out,
    and `gate = false` the coarse look.
    """

    enabled: bool = True
    from_tier: str | None = None
    engine: Literal["rapidocr", "paddleocr"] = "rapidocr"
    python: str | None = None
    confidence: float = Field(default=0.7, ge=0, lt=1)
    reading: float | None = Field(default=0.7, ge=0, lt=1)
    characters: int = Field(default=3, ge=1, le=100)
    line: float | None = Field(default=3.0, ge=1, le=1000)
    low: float = Field(default=0.15, ge=0, le=1)
    gate: float = Field(default=0.5, ge=0, lt=1)
    gate_side: int = Field(default=384, ge=64, le=640)

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
    """CLIP with the LAION head. `missing`: what to do where the weights are absent."""

    enabled: bool = True
    from_tier: str | None = None
    missing: Literal["fail", "skip"] = "fail"
    clip_weights: str | None = None
    head_weights: str | None = None
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    dtype: Literal["fp32", "bf16"] = "fp32"


class FiltersSection(Section):
    """`score_side`: the short side of the pictures on which motion and sharpness are measured; 0 is the clip's own."""

    score_side: int = Field(default=0, ge=0, le=4320)
    ocr: OcrSection = OcrSection()
    aesthetic: AestheticSection = AestheticSection()


class SandboxSection(Section):
    """What one video may cost while it is decoded. `confine`: whether a decoder must be confined by the kernel."""

    silence_s: float = Field(default=60.0, gt=0)
    wall_s: float = Field(default=7200.0, gt=0)
    cpu_s: float = Field(default=7200.0, gt=0)
    memory_mb: int = Field(default=4096, ge=512)
    max_pixels: int = Field(default=7680 * 4320, ge=1)
    confine: Literal["best", "required"] = "best"


class CutSection(Section):
    """Clips of this tier are encoded; without it nothing is cut (see `ziggurat cut`)."""

    tier: str | None = None


class RunSection(Section):
    """How a run is laid out. `hwaccel`: decode on a GPU. `window`: sources taken through all stages at a time.

    `attempts`: how often an item may fail, or cost a worker, before it ends with that as its reason. `stop_after`: how
    many videos in a row may fail for one cause before it is the set-up that is at fault; 0 for any number.
    """

    hwaccel: Literal["none", "cuda"] = "none"
    window: int = Field(default=2000, ge=1)
    attempts: int = Field(default=3, ge=1)
    stop_after: int = Field(default=10, ge=0)
    stall_s: float = Field(default=120.0, gt=0)


class Recipe(Section):
    """A whole recipe. The properties below turn it into what the stages take."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    rules: RulesSection = RulesSection()
    shots: ShotsSection = ShotsSection()
    clips: ClipsSection = ClipsSection()
    encode: EncodeSection = EncodeSection()
    filters: FiltersSection = FiltersSection()
    sandbox: SandboxSection = SandboxSection()
    cut: CutSection = CutSection()
    run: RunSection = RunSection()
    tiers: tuple[dict[str, Any], ...] = ()

    @field_validator("tiers")
    @classmethod
    def _tiers(cls, value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        _tiers_of(value)
        return value

    @model_validator(mode="after")
    def _names_exist(self) -> Recipe:
        names = self.pyramid_tiers.names
        for key, tier in (
            ("cut.tier", self.cut.tier),
            ("filters.ocr.from_tier", self.filters.ocr.from_tier),
            ("filters.aesthetic.from_tier", self.filters.aesthetic.from_tier),
        ):
            if tier is not None and tier not in names:
                raise ValueError(f"{key} = {tier!r}: {_listed(names)} is allowed")
        return self

    @property
    def pyramid_tiers(self) -> Tiers:
        return _tiers_of(self.tiers)

    @property
    def plan(self) -> MediaPlan:
        rules = self.rules.model_dump(exclude={"aspect"})
        low, high = self.rules.aspect
        return MediaPlan(
            Rules(**rules, min_aspect=low, max_aspect=high),
            ShotPlan(self.shots.detector, self.shots.options, self.shots.trim_frames),
            ClipPlan(**self.clips.model_dump()),
            self.run.hwaccel,
            self.filters.score_side,
        )

    @property
    def encoding(self) -> Encode:
        return Encode(**self.encode.model_dump())

    @property
    def decodes_on_gpu(self) -> bool:
        return self.run.hwaccel != "none"

    @property
    def needs_gpu(self) -> bool:
        return self.decodes_on_gpu or self.encode.codec == "h264_nvenc"

    @property
    def limits(self) -> Limits:
        return Limits(**self.sandbox.model_dump())


def load(name_or_path: str) -> Recipe:
    """A recipe by path, or by the name of one that ships."""
    return parsed(text_of(name_or_path), name_or_path)


def text_of(name_or_path: str) -> str:
    """The text of a recipe, which a pyramid keeps."""
    return tomlfile.text_of(name_or_path, SHIPPED, "recipe")


def parsed(text: str, name: str) -> Recipe:
    """The recipe that a text says; `name` is what messages call it."""
    return tomlfile.parsed(text, name, Recipe, "recipe")


def differences(before: Recipe, after: Recipe) -> list[str]:
    """What `after` says otherwise, a line a key: `clips.max_s 8.0 -> 5.0`. The name alone is no difference."""
    old, new = _flat(before), _flat(after)
    return [
        f"{key} {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Every key with its value, tiers by their names."""
    data = recipe.model_dump(exclude={"name", "tiers"})
    found = dict(_leaves("", data))
    tiers = recipe.pyramid_tiers
    found["tiers"] = tiers.names
    for step in tiers.steps:
        for column, bounds in step.ranges.items():
            found[f"tiers.{step.name}.{column}"] = (bounds.low, bounds.high)
    return found


def _leaves(prefix: str, data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys of tables within tables, with dots between them."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return "none" if value is None else str(value)


def _tiers_of(tables: tuple[dict[str, Any], ...]) -> Tiers:
    return Tiers(tuple(_tier_of(table) for table in tables))


def _tier_of(table: dict[str, Any]) -> Tier:
    ranges = {key: _range_of(key, value) for key, value in table.items() if key != "name"}
    if "name" not in table:
        raise ValueError('a tier without a name: name = "..." is needed')
    return Tier(table["name"], ranges)


def _range_of(key: str, value: Any) -> Range:
    if key not in COLUMNS:
        raise ValueError(f"{key}: no such column; allowed are {', '.join(COLUMNS)}")
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{key} = {value!r}: a pair [lowest, highest] is allowed, -inf and inf for an open end")
    low, high = (
        None if isinstance(x, float) and math.isinf(x) and x == end else x
        for x, end in zip(value, (-math.inf, math.inf), strict=True)
    )
    try:
        return Range(low, high)
    except ValueError as error:
        raise ValueError(f"{key} = {value!r}: {error}") from None


def _listed(names: tuple[str, ...]) -> str:
    return f"one of {', '.join(names)}" if names else "no tier is defined, so nothing"
