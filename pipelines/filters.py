"""Which sample filters a recipe runs, and whether what they need is there: settled before a run starts.

A filter whose weights are missing stops the run with the command that gets them, or is left out when the recipe says
so; then its score stays null and says why. Nothing is fetched.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from curation.filters.aesthetic import INSTALL, Aesthetic, aesthetic_fingerprint, clip_from_hub, missing_weights
from curation.filters.base import WEIGHTS_MISSING, SampleFilter
from curation.filters.ocr import shipped_models, text_area, text_area_fingerprint
from pipelines.recipe import AestheticSection, OcrSection, Recipe
from pipelines.software import wrong_with_environment

OFF = "filter off"


@dataclass(frozen=True, slots=True)
class Ready:
    """A sample filter as a run sees it. `make` is None where it does not run; `why` says what its nulls say."""

    name: str
    score: str
    why: str
    fingerprint: str = ""
    from_tier: str | None = None
    make: Callable[[], SampleFilter] | None = None
    gpus: float = 0.0
    python: str | None = None


def ready(recipe: Recipe) -> list[Ready]:
    """The recipe's sample filters in order of cost. Raises `UserError` where one is missing and must not be."""
    return [_ocr(recipe.filters.ocr), _aesthetic(recipe.filters.aesthetic)]


def _ocr(section: OcrSection) -> Ready:
    if not section.enabled:
        return Ready("ocr", "text_area", OFF)
    if section.engine == "paddleocr":
        _check_python(section.python)
    models = shipped_models()
    fingerprint = text_area_fingerprint(section.engine, models)
    return Ready(
        "ocr",
        "text_area",
        _not_reached(section.from_tier),
        fingerprint,
        section.from_tier,
        _MakeOcr(section.engine, models),
        python=section.python,
    )


def _aesthetic(section: AestheticSection) -> Ready:
    if not section.enabled:
        return Ready("aesthetic", "aesthetic", OFF)
    clip, head = weights(section)
    missing = missing_weights(clip, head)
    if missing and section.missing == "fail":
        what, command = missing[0]
        raise UserError(
            f"the recipe's aesthetic filter needs {what}, which is missing",
            f"get it with `{command}` and name it in the recipe (filters.aesthetic.clip_weights, head_weights), "
            'or set filters.aesthetic.missing = "skip"',
        )
    if missing:
        return Ready("aesthetic", "aesthetic", WEIGHTS_MISSING)
    assert clip is not None and head is not None
    _check_packages()
    return Ready(
        "aesthetic",
        "aesthetic",
        _not_reached(section.from_tier),
        aesthetic_fingerprint(clip, head, section.dtype),
        section.from_tier,
        _MakeAesthetic(clip, head, section),
        gpus=1.0 if section.device.startswith("cuda") else 0.0,
    )


def weights(section: AestheticSection) -> tuple[Path | None, Path | None]:
    """Where CLIP's and the head's weights are: named in the recipe, or CLIP's in the hub's cache on this machine."""
    clip = Path(section.clip_weights).expanduser() if section.clip_weights else _cached()
    head = Path(section.head_weights).expanduser() if section.head_weights else None
    return clip, head


def _cached() -> Path | None:
    try:
        return clip_from_hub()
    except UserError:
        return None  # without huggingface_hub there is no cache either; `missing_weights` says what to do


def _check_packages() -> None:
    # A worker would find out too, after everything was measured.
    for package in ("torch", "open_clip"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"the aesthetic filter needs the package {package}", INSTALL)


def _not_reached(tier: str | None) -> str:
    return "not run yet" if tier is None else f"not reached (tier {tier})"


def _check_python(python: str | None) -> None:
    # An environment without our Ray hangs a worker without a word, so look before one is started.
    remedy = "run `make env-paddle` and name its python in filters.ocr.python"
    if python is None:
        raise UserError("filters.ocr.engine = 'paddleocr' needs an environment of its own", remedy)
    wrong = wrong_with_environment(Path(python).absolute(), ("paddleocr",), with_ray=True)
    if wrong:
        raise UserError(f"filters.ocr.python: {wrong}", remedy)


@dataclass(frozen=True, slots=True)
class _MakeOcr:
    engine: str
    models: Path

    def __call__(self) -> SampleFilter:
        return text_area("paddleocr" if self.engine == "paddleocr" else "rapidocr", self.models)


@dataclass(frozen=True, slots=True)
class _MakeAesthetic:
    clip: Path
    head: Path
    section: AestheticSection

    def __call__(self) -> SampleFilter:
        return Aesthetic(self.clip, self.head, dtype=self.section.dtype, device=self.section.device)
