"""Which sample filters a recipe runs, and whether what they need is there: settled before a run starts.

A filter whose weights are missing stops the run with the command that gets them, or is left out when the recipe says
so; then its score stays null and says why. Nothing is fetched. Each filter that is to run is made once and measures a
frame, in a process of its interpreter (`curation.filters.trial`), on this machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.filters.aesthetic import INSTALL, aesthetic_fingerprint, clip_from_hub, missing_weights
from curation.filters.base import WEIGHTS_MISSING, SampleFilter
from curation.filters.custom import custom_fingerprint
from curation.filters.ocr.base import shipped_models, text_area_fingerprint
from curation.filters.trial import MakeFilter, try_out
from pipelines.config.recipe import Recipe
from pipelines.config.sections import AestheticSection, CustomSection, OcrSection
from pipelines.doctor.hardware import gpus

OFF = "filter off"


@dataclass(frozen=True, slots=True)
class Ready:
    """A sample filter as a run sees it. `make` is None where it does not run; `why` says what its nulls say."""

    name: str
    scores: tuple[str, ...]
    why: str
    fingerprint: str = ""
    from_tier: str | None = None
    make: Callable[[], SampleFilter] | None = None
    gpus: float = 0.0
    python: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One filter of a recipe, to be tried out. `settings`: see `trial.make`; `python`: None is our interpreter."""

    name: str
    settings: dict[str, Any]
    python: str | None = None
    on_gpu: bool = False

    def run(self) -> str:
        """What holds, in a line. Raises `UserError` with what does not. What wants a GPU is tried where one is."""
        if self.on_gpu and not gpus():
            return "not tried: no GPU on this machine"
        return try_out(json.dumps(self.settings), self.python)


def ready(recipe: Recipe) -> list[Ready]:
    """The recipe's sample filters in order of cost, each tried out. Raises `UserError` where one cannot run and must.

    A trial takes the seconds that the filter takes to start; one that went well is not repeated in this process.
    """
    found = listed(recipe)
    for trial in trials(recipe):
        trial.run()
    return found


def trials(recipe: Recipe) -> tuple[Trial, ...]:
    """The trials of the filters that the recipe runs, in order. Raises `UserError` where files are missing."""
    return tuple(_trial(filter_, filter_.make) for filter_ in listed(recipe) if isinstance(filter_.make, MakeFilter))


def listed(recipe: Recipe) -> list[Ready]:
    """The recipe's sample filters in order of cost, as far as files and packages by name can tell."""
    filters = recipe.filters
    return [_ocr(filters.ocr), _aesthetic(filters.aesthetic), *map(_custom, filters.custom)]


def computable(recipe: Recipe) -> list[Ready]:
    """Those of `listed` that this machine could run; a filter that lacks a file or a package here is left out."""
    found: list[Ready] = []
    filters = recipe.filters
    for filter_ in (lambda: _ocr(filters.ocr), lambda: _aesthetic(filters.aesthetic)):
        with contextlib.suppress(UserError):
            found.append(filter_())
    found += map(_custom, filters.custom)
    return [one for one in found if one.make is not None]


def _ocr(section: OcrSection) -> Ready:
    off = Ready("ocr", ("text_area",), OFF)
    if not section.enabled:
        return off
    if section.engine == "paddleocr" and section.python is None:
        raise UserError(
            "filters.ocr.engine = 'paddleocr' needs an environment of its own",
            "run `make env-paddle` and name its python in filters.ocr.python",
        )
    models, parameters = shipped_models(), section.parameters
    settings = {"filter": "ocr", "engine": section.engine, "models": str(models), "parameters": section.options}
    return replace(
        off,
        why=_not_reached(section.from_tier),
        fingerprint=text_area_fingerprint(section.engine, models, parameters),
        from_tier=section.from_tier,
        make=MakeFilter(json.dumps(settings)),
        python=_interpreter(section.python),
    )


def _aesthetic(section: AestheticSection) -> Ready:
    off = Ready("aesthetic", ("aesthetic",), OFF)
    if not section.enabled:
        return off
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
        return replace(off, why=WEIGHTS_MISSING)
    assert clip is not None and head is not None
    _check_packages()
    files = {"clip": str(clip.absolute()), "head": str(head.absolute())}
    settings = {"filter": "aesthetic", **files, "dtype": section.dtype, "device": section.device}
    return replace(
        off,
        why=_not_reached(section.from_tier),
        fingerprint=aesthetic_fingerprint(clip, head, section.dtype),
        from_tier=section.from_tier,
        make=MakeFilter(json.dumps(settings)),
        gpus=1.0 if section.device.startswith("cuda") else 0.0,
    )


def _custom(section: CustomSection) -> Ready:
    settings = {
        "filter": "custom",
        "name": section.name,
        "filter_": section.filter,
        "scores": list(section.columns),
        "version": section.version,
        "options": section.options,
    }
    return Ready(
        section.name,
        section.columns,
        _not_reached(section.from_tier),
        custom_fingerprint(section.name, section.version, section.filter, section.options),
        section.from_tier,
        MakeFilter(json.dumps(settings)),
        section.gpus,
        _interpreter(section.python),
    )


def _interpreter(python: str | None) -> str | None:
    """A worker starts in a folder of its own, where a relative path means nothing."""
    return str(Path(python).expanduser().absolute()) if python else None


def _trial(filter_: Ready, make: MakeFilter) -> Trial:
    """On this machine, which need not have the GPU that the workers have. Where ours would compute we know, where a
    user's would we do not.
    """
    settings = json.loads(make.settings)
    if "device" in settings:
        return Trial(filter_.name, settings | {"device": "cpu"}, filter_.python)
    return Trial(filter_.name, settings, filter_.python, on_gpu=filter_.gpus > 0)


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
