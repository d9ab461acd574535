"""How a model is driven in our own process: its settings, and what the captioner needs of an engine.

`engine.VllmEngine` is the one for use; tests have one of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from curation.caption.prompts import Request

ENVIRONMENT = "make env-vllm"
"""The command that makes vLLM's environment."""

OURS = {
    "model": "the block's `model`",
    "revision": "the block's `revision`",
    "limit_mm_per_prompt": "the block's `frames`",
    "mm_processor_cache_gb": "always 0: each clip is seen once",
    "mm_processor_cache_type": "that cache is off",
    "served_model_name": "there is no server",
    "disable_log_stats": "always true",
    "runner": "always generate",
    "skip_tokenizer_init": "always false",
    "allowed_local_media_path": "models are given pictures and no names",
    "allowed_media_domains": "models are given pictures and no names",
}
"""Arguments of vLLM's that a recipe does not give, and who says them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is loaded and asked. `model`: a folder, or a name that this machine's cache of the hub has;
    `revision`: of the hub, "" for none. `arguments`: further ones of vLLM's `EngineArgs`. `pictures`: the most that a
    request has. `gpus`: that the worker holds, 0 for a processor.
    """

    model: str
    revision: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    pictures: int = 3
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    concurrency: int = 32
    gpus: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """For the trial's process."""
        return {**asdict(self), "arguments": dict(self.arguments)}

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """All that vLLM is started with."""
        several = any(self.arguments.get(f"{kind}_parallel_size", 1) > 1 for kind in ("tensor", "pipeline"))
        return {
            "model": self.model,
            "revision": self.revision or None,
            "limit_mm_per_prompt": {"image": self.pictures, "video": 0, "audio": 0},
            "mm_processor_cache_gb": 0,
            # Inside a worker of Ray's it would ask Ray for further workers, which nobody has set aside.
            **({"distributed_executor_backend": "mp"} if several else {}),
            **self.arguments,
        }

    @property
    def variables(self) -> dict[str, str]:
        """Of the environment, to be set before vLLM is imported. Nothing is fetched, and nothing told to anybody.

        Without a GPU the engine runs in this very process: another one takes half a minute more to start.
        """
        alone = {} if self.gpus else {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        return {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **alone}


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a request, by the name that it was begun under. `finish_reason`: in vLLM's words."""

    name: str
    text: str
    finish_reason: str | None
    tokens_in: int
    tokens_out: int


class Engine(Protocol):
    """Answers many requests side by side. Used from one thread. What it raises, but for `transport.Refused` by `begin`,
    means that it is of no use any more.
    """

    def begin(self, name: str, request: Request) -> None:
        """Take one more request. Raises `Refused` where it never can."""
        ...

    def step(self) -> Sequence[Done]:
        """Work for a moment; the requests that have ended with it. Called while some are in flight."""
        ...

    def close(self) -> None: ...
