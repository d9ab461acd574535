"""The recipe: a TOML file that says what a curation job does. Read here, checked by pydantic, turned into plain plans.

`load` takes a path or the name of a recipe that ships (`recipes/`). A wrong recipe is a `UserError` that names the key,
the value and what is allowed. Everything after this module works with frozen dataclasses and never sees the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from curation.contract import AMONG_OTHERS, CROWDING, Kind
from curation.inputs.kinds import PICTURE_EXTENSIONS, VIDEO_EXTENSIONS
from curation.media.plan import ClipPlan, Encode, ImagePlan, Limits, MediaPlan, Rules, ShotPlan
from curation.pyramid.queries import kinds
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import COLUMNS, Bound, Range, Tier, Tiers, bound
from pipelines.config import tomlfile
from pipelines.config.caption_section import EndpointCaptions
from pipelines.config.clusters_section import ClustersSection
from pipelines.config.duplicates_section import DuplicatesSection
from pipelines.config.embedding_section import EmbeddingsSection
from pipelines.config.sections import (
    ClipsSection,
    CutSection,
    EncodeSection,
    FiltersSection,
    ImagesSection,
    RulesSection,
    RunSection,
    SandboxSection,
    ShotsSection,
)
from pipelines.config.tomlfile import Section
from pipelines.config.vllm_section import VllmCaptions

SHIPPED = Path(__file__).parent / "recipes"


def _engine(block: Any) -> Any:
    """Which engine's keys a block of captions has."""
    return block.get("engine", "openai") if isinstance(block, dict) else getattr(block, "engine", "openai")


AnyCaptions = Annotated[
    Annotated[EndpointCaptions, Tag("openai")] | Annotated[VllmCaptions, Tag("vllm")],
    Discriminator(_engine, tomlfile.CHOICE, "engine: 'openai' and 'vllm' are allowed"),
]
"""A block of captions, by its `engine`."""


class Recipe(Section):
    """A whole recipe. The properties below turn it into what the stages take."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """What the pyramid calls it: letters, digits, `.`, `_`, `-`; up to 64."""
    rules: RulesSection = RulesSection()
    shots: ShotsSection = ShotsSection()
    clips: ClipsSection = ClipsSection()
    images: ImagesSection = ImagesSection()
    encode: EncodeSection = EncodeSection()
    filters: FiltersSection = FiltersSection()
    sandbox: SandboxSection = SandboxSection()
    cut: CutSection = CutSection()
    duplicates: DuplicatesSection = DuplicatesSection()
    clusters: ClustersSection = ClustersSection()
    run: RunSection = RunSection()
    tiers: tuple[dict[str, Any], ...] = ()
    captions: tuple[AnyCaptions, ...] = ()
    embeddings: tuple[EmbeddingsSection, ...] = ()

    @field_validator("captions", "embeddings")
    @classmethod
    def _apart(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [one.name for one in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the name {twice!r} is given twice")
        return value

    @field_validator("tiers")
    @classmethod
    def _tiers(cls, value: tuple[dict[str, Any], ...], info: ValidationInfo) -> tuple[dict[str, Any], ...]:
        if (filters := info.data.get("filters")) is not None:  # else one of them is wrong, and is told
            _tiers_of(value, (*_own_scores(filters), *AMONG_OTHERS))
        return value

    @model_validator(mode="after")
    def _names_exist(self) -> Recipe:
        names = self.pyramid_tiers.names
        for key, tier in (
            ("cut.tier", self.cut.tier),
            *((f"filters.{one.name}.from_tier", section.from_tier) for one, section in self.filters.ours),
            *((f"filters.custom ({one.name}) from_tier", one.from_tier) for one in self.filters.custom),
            *((f"captions ({one.name}) tier", one.tier) for one in self.captions),
            *((f"embeddings ({one.name}) tier", one.tier) for one in self.embeddings),
            ("duplicates.tier", self.duplicates.tier),
            ("clusters.tier", self.clusters.tier),
        ):
            if tier is not None and tier not in names:
                raise ValueError(f"{key} = {tier!r}: {_listed(names)} is allowed")
        return self

    @model_validator(mode="after")
    def _rates_agree(self) -> Recipe:
        wanted, least = self.clips.fps, self.rules.min_fps
        if wanted is not None and wanted < least:
            raise ValueError(f"clips.fps {wanted:g} is below rules.min_fps {least:g}, which no clip falls below")
        return self

    @model_validator(mode="after")
    def _no_circle(self) -> Recipe:
        """Clips are captioned where they are in a tier: which clusters of captions cannot say before."""
        if self.clusters.space not in [one.name for one in self.embeddings if one.kind == "text"] + ["text"]:
            return self
        for block in self.captions:
            if CROWDING in self.pyramid_tiers.effective(block.tier):
                told = f"captions ({block.name}) tier = {block.tier!r} bounds crowding, and clusters are of captions"
                raise ValueError(f"{told}: another clusters.space, or a tier below, is allowed")
        return self

    @property
    def pyramid_tiers(self) -> Tiers:
        return _tiers_of(self.tiers, self.own_scores)

    @property
    def own_scores(self) -> tuple[str, ...]:
        """The scores beside `contract.SCORES`: of the recipe's own filters, likeness and crowding where a tier bounds
        them.
        """
        return (
            *_own_scores(self.filters),
            *(score for score in AMONG_OTHERS if any(score in table for table in self.tiers)),
        )

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
            ImagePlan(**self.images.model_dump(exclude={"from_folders"})),
        )

    @property
    def extensions(self) -> frozenset[str]:
        """What is taken from folders and globs."""
        return VIDEO_EXTENSIONS | PICTURE_EXTENSIONS if self.images.from_folders else VIDEO_EXTENSIONS

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


def limits_of(pyramid: Pyramid) -> Limits:
    """What the pyramid's recipe allows a decoder; the usual ones where it keeps none."""
    text = pyramid.recipe_text()
    return Limits() if text is None else parsed(text, f"the recipe of {pyramid.uri}").limits


def differences(before: Recipe, after: Recipe) -> list[str]:
    """What `after` says otherwise, a line a key: `clips.max_s 8.0 -> 5.0`. The name alone is no difference."""
    return [f"{key} {old} -> {new}" for key, (old, new) in changes(before, after).items()]


def changes(before: Recipe, after: Recipe) -> dict[str, tuple[str, str]]:
    """The keys of which `after` says otherwise, with both values as text. The name alone is no difference."""
    old, new = _flat(before), _flat(after)
    return {
        key: (_shown(old.get(key)), _shown(new.get(key)))
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    }


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Every key with its value, tiers by their names."""
    data = recipe.model_dump(exclude={"name", "tiers", "captions", "embeddings"})
    found = dict(_leaves("", data))
    for key, blocks in (("captions", recipe.captions), ("embeddings", recipe.embeddings)):
        for block in blocks:
            found |= _leaves(f"{key}.{block.name}.", block.model_dump(exclude={"name"}))
    tiers = recipe.pyramid_tiers
    found["tiers"] = tiers.names
    for step in tiers.steps:
        for column, bounds in step.ranges.items():
            found[f"tiers.{step.name}.{column}"] = (
                str(bounds) if isinstance(bounds, Kind) else (bounds.low, bounds.high)
            )
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


def _own_scores(filters: FiltersSection) -> tuple[str, ...]:
    return tuple(column for one in filters.custom for column in one.columns)


def _tiers_of(tables: tuple[dict[str, Any], ...], own: tuple[str, ...]) -> Tiers:
    return Tiers(tuple(_tier_of(table, (*COLUMNS, *own)) for table in tables))


def _tier_of(table: dict[str, Any], columns: tuple[str, ...]) -> Tier:
    ranges = {key: _bound_of(key, value, columns) for key, value in table.items() if key != "name"}
    if "name" not in table:
        raise ValueError('a tier without a name: name = "..." is needed')
    return Tier(table["name"], ranges)


def _bound_of(key: str, value: Any, columns: tuple[str, ...]) -> Bound:
    if key not in columns:
        raise ValueError(f"{key}: no such column; allowed are {', '.join(columns)}")
    if key == kinds.COLUMN:
        try:
            return bound(key, value)
        except ValueError as error:
            raise ValueError(f"{key} = {error}") from None
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
