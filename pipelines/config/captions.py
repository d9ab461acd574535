"""Which captions a recipe makes, and whether what they need is there: settled before a run starts.

`listed` reads the prompts and says who each block's captions will be by; `check` asks for the key and the endpoint,
where the stage will run. The captioner itself is made in the worker (`MakeEndpoint`), which reads the key there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from curation.caption import check as endpoint_check
from curation.caption.base import Captioner, maker
from curation.caption.budget import Limits, Purse
from curation.caption.endpoint import Endpoint, Settings
from curation.caption.prompts import Prompt
from curation.errors import UserError
from pipelines.config import promptfile
from pipelines.config.caption_section import CaptionsSection
from pipelines.config.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Captions:
    """A block of captions as a run sees it. `by`: the maker of its captions; `outranked_by`: makers whose captions stay
    in force over its own, those of the recipe's later blocks.
    """

    name: str
    tier: str
    by: str
    prompt: Prompt
    settings: Settings
    frames: int
    side: int
    cues: bool = False
    keep_given: bool = False
    key_env: str | None = None
    outranked_by: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        """What a run calls its stage."""
        return f"caption {self.name}"


@dataclass(frozen=True, slots=True)
class MakeEndpoint:
    """Makes the captioner of a block, in the worker. `purse`: see `budget.Purse`."""

    settings: Settings
    prompt: Prompt
    key_env: str | None
    purse: Purse

    def __call__(self) -> Captioner:
        return Endpoint(self.settings, self.prompt, self.purse, key_of(self.key_env))


def listed(recipe: Recipe, names: Sequence[str] = ()) -> list[Captions]:
    """The recipe's blocks in its order; of `names` alone where some are given. `UserError` where a prompt or a block is
    not there.
    """
    found = [_captions(section) for section in recipe.captions]
    makers = [block.by for block in found]
    ranked = [replace(block, outranked_by=tuple(makers[place + 1 :])) for place, block in enumerate(found)]
    if unknown := next((name for name in names if name not in [block.name for block in ranked]), None):
        there = ", ".join(block.name for block in ranked) or "none"
        raise UserError(f"the recipe has no [[captions]] called {unknown!r}", f"it has {there}")
    return [block for block in ranked if not names or block.name in names]


def check(section: CaptionsSection) -> str:
    """What holds of a block's key and endpoint, in a line. Raises `UserError` with what does not. It reads no prompt,
    which the driver has and a node of a cluster need not have.
    """
    return endpoint_check.check(section.endpoint, section.model, key_of(section.key_env))


def computable(recipe: Recipe) -> list[Captions]:
    """Those of `listed`; none where a prompt is not on this machine."""
    try:
        return listed(recipe)
    except UserError:
        return []


def key_of(variable: str | None) -> str | None:
    """The key in an environment variable; None where none is wanted. `UserError` where the variable is not set."""
    if variable is None:
        return None
    if not (key := os.environ.get(variable, "").strip()):
        raise UserError(
            f"the environment variable {variable}, which the recipe names for the key of an endpoint, is not set here",
            f"export {variable}, on each machine that runs stages",
        )
    return key


def _captions(section: CaptionsSection) -> Captions:
    prompt = promptfile.load(section.prompt)
    said = {key: getattr(section, key) for key in _SAID}
    return Captions(
        section.name,
        section.tier,
        maker(section.name, section.model, {**said, "prompt": prompt.settings()}),
        prompt,
        _settings(section),
        section.frames,
        section.side,
        section.cues,
        section.given == "keep",
        section.key_env,
    )


_SAID = (
    *("engine", "revision", "input", "frames", "side", "cues"),
    *("temperature", "max_tokens", "seed", "extra_body"),
)
"""The keys that change what a model says. Not the address, nor what bounds time and cost."""


def _settings(section: CaptionsSection) -> Settings:
    return Settings(
        section.endpoint,
        section.model,
        section.temperature,
        section.max_tokens,
        section.seed,
        section.extra_body,
        section.concurrency,
        section.timeout_s,
        Limits(section.budget_tokens, section.budget_usd, section.usd_per_million_in, section.usd_per_million_out),
    )
