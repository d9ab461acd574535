"""Which captions a recipe makes, and whether what they need is there: settled before a run starts.

`listed` reads the prompts and says who each block's captions will be by; `check` asks for the key and the endpoint, or
tries vLLM's environment out, where the stage will run. The captioner itself is made in the worker (`MakeEndpoint`,
which reads the key there, and `offline.captioner.MakeOffline`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.caption import check as endpoint_check
from curation.caption.base import Captioner, maker
from curation.caption.budget import Limits, Purse
from curation.caption.endpoint import Endpoint, Settings
from curation.caption.offline import base as offline
from curation.caption.offline import trial
from curation.caption.offline.captioner import MakeOffline
from curation.caption.prompts import Prompt
from curation.errors import UserError
from pipelines.config import promptfile
from pipelines.config.caption_section import EndpointCaptions
from pipelines.config.recipe import AnyCaptions, Recipe
from pipelines.config.vllm_section import VllmCaptions
from pipelines.doctor.hardware import gpus

_PATHS = ("/", ".", "~")
"""How a model begins that is a folder and no name."""


@dataclass(frozen=True, slots=True)
class Captions:
    """A block of captions as a run sees it. `by`: the maker of its captions; `outranked_by`: makers whose captions stay
    in force over its own, those of the recipe's later blocks. `python`: the interpreter of the engine's environment,
    None for ours; `cpus`, `gpus`: that a worker holds, `cpus` None for what a stage usually does; `workers`: at most,
    None for as many as have room.
    """

    name: str
    tier: str
    by: str
    prompt: Prompt
    settings: Settings | offline.Settings
    frames: int
    side: int
    cues: bool = False
    keep_given: bool = False
    key_env: str | None = None
    outranked_by: tuple[str, ...] = ()
    python: str | None = None
    cpus: float | None = None
    gpus: float = 0.0
    workers: int | None = 1  # one, so that a budget is one

    @property
    def stage(self) -> str:
        """What a run calls its stage."""
        return f"caption {self.name}"

    def make(self, purse: Purse) -> Callable[[], Captioner]:
        """Makes its captioner, in the worker. `purse`: see `budget.Purse`."""
        if isinstance(self.settings, offline.Settings):
            return MakeOffline(self.settings, self.prompt)
        return MakeEndpoint(self.settings, self.prompt, self.key_env, purse)


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


def check(section: AnyCaptions) -> str:
    """What holds of a block's key and endpoint, or of its environment and model, in a line. Raises `UserError` with
    what does not. It reads no prompt, which the driver has and a node of a cluster need not have. What wants a GPU is
    tried where one is: a machine without one need not have the environment.
    """
    if isinstance(section, VllmCaptions):
        if section.gpus and not gpus():
            return f"{section.name} not tried: no GPU on this machine"
        return trial.check(_offline(section), _interpreter(section))
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


def _captions(section: AnyCaptions) -> Captions:
    prompt = promptfile.load(section.prompt)
    settings = _offline(section) if isinstance(section, VllmCaptions) else _settings(section)
    found = Captions(
        section.name,
        section.tier,
        _maker(section, prompt),
        prompt,
        settings,
        section.frames,
        section.side,
        section.cues,
        section.given == "keep",
    )
    if isinstance(section, VllmCaptions):
        place = _interpreter(section)
        return replace(found, python=place, cpus=section.cpus, gpus=section.gpus, workers=None)
    return replace(found, key_env=section.key_env)


_SAID = (
    *("engine", "revision", "input", "frames", "side", "cues"),
    *("temperature", "max_tokens", "seed"),
)
"""The keys that change what a model says. Not the address, nor what bounds time and cost."""


_COST_ONLY = frozenset(
    {
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "max_num_seqs", "max_num_batched_tokens"),
        *("enforce_eager", "tensor_parallel_size", "pipeline_parallel_size"),
    }
)
"""Arguments of vLLM's that bound its memory and time: the next machine has others, and the captions stay."""


def _maker(section: AnyCaptions, prompt: Prompt) -> str:
    """Whose captions these are: by all that changes what is said. A folder is called by its last part, and counts as
    the recipe names it.
    """
    said = {key: getattr(section, key) for key in _SAID} | {"prompt": prompt.settings()}
    if isinstance(section, EndpointCaptions):
        return maker(section.name, section.model, said | {"extra_body": section.extra_body})
    label = Path(section.model).name if section.model.startswith(_PATHS) else section.model
    given = {key: value for key, value in section.engine_args.given.items() if key not in _COST_ONLY}
    said |= {"model": section.model, "engine_args": given}
    return maker(section.name, label, said)


def _settings(section: EndpointCaptions) -> Settings:
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


def _offline(section: VllmCaptions) -> offline.Settings:
    return offline.Settings(
        _absolute(section.model) if section.model.startswith(_PATHS) else section.model,
        section.revision,
        section.engine_args.given,
        section.frames,
        section.temperature,
        section.max_tokens,
        section.seed,
        section.concurrency,
        section.gpus,
    )


def _interpreter(section: VllmCaptions) -> str:
    assert section.python is not None, "a recipe names it"
    return _absolute(section.python)


def _absolute(path: str) -> str:
    """A worker starts in a folder of its own, where a relative path means nothing."""
    return str(Path(path).expanduser().absolute())
