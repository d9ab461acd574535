"""`[[captions]]` of a recipe with `engine = "vllm"`: the keys that only this engine has.

`engine_args` is vLLM's own table: the arguments that most models need are typed here, any other one is passed on, and
vLLM is asked before a run whether it knows it (`caption.offline.trial`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from curation.caption.offline.base import ENVIRONMENT, OURS
from pipelines.config.caption_section import CaptionsSection, EndpointCaptions
from pipelines.config.tomlfile import Section, as_json

_SECRET = re.compile(r"(^|_)(token|api_?key|key|auth|authorization|credentials?|headers?)$|secret|passw", re.IGNORECASE)
"""Names of secrets; `max_num_batched_tokens` is none."""


def _names(value: Any) -> Iterator[str]:
    """The keys of a table, and of all tables in it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)


class EngineArguments(Section):
    """Arguments of vLLM's engine; those that are left out are as vLLM has them. Any other one of its `EngineArgs` may
    be given too, but for those that the block itself says, and secrets.
    """

    model_config = ConfigDict(extra="allow")

    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = None
    """The type of the weights and of the computing."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Tokens of the longest prompt and answer together; the less, the more requests have room."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Requests that are answered in one step."""
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one step."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    """The share of a GPU's memory that the engine takes."""
    kv_cache_memory_bytes: int | None = Field(default=None, ge=1)
    """Bytes of the cache of keys and values, in place of a share."""
    kv_cache_dtype: str | None = None
    """The type of that cache."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    """GPUs that one engine is spread over; `gpus` names as many."""
    pipeline_parallel_size: int = Field(default=1, ge=1, le=64)
    """The same, layer by layer."""
    quantization: str | None = None
    """How the weights are quantised, where their folder does not say it."""
    enforce_eager: bool | None = None
    """Whether nothing is compiled: a start is quicker, an answer slower."""
    trust_remote_code: bool | None = None
    """Whether code out of the model's folder is run: whoever made the folder can then do what you can."""
    mm_processor_kwargs: dict[str, Any] | None = None
    """Of the model's own processor of pictures, such as its `max_pixels`."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        as_json(value)
        if name := next((name for name in _names(value) if _SECRET.search(name)), None):
            raise ValueError(f"{name}: a secret stands in no recipe, and the engine needs none: nothing is fetched")
        if name := next((name for name in value if name in OURS), None):
            raise ValueError(f"{name} is not said here: {OURS[name]}")
        return value

    @property
    def given(self) -> dict[str, Any]:
        """What the recipe says, and nothing else."""
        return self.model_dump(exclude_unset=True)


class VllmCaptions(CaptionsSection):
    """Further keys where vLLM runs in the workers of the run, in an environment of its own:"""

    engine: Literal["vllm"] = "vllm"
    python: str | None = None
    """The interpreter of vLLM's environment (`make env-vllm`)."""
    engine_args: EngineArguments = EngineArguments()
    """Arguments of vLLM's engine."""
    gpus: float = Field(default=1.0, ge=0, le=64)
    """GPUs, or a share of one, that a worker holds; 0 for a processor. There are as many workers as have room."""
    cpus: float = Field(default=1.0, gt=0, le=1024)
    """Processors that a worker holds."""
    concurrency: int = Field(default=32, ge=1, le=2048)
    """Requests at a time, of one worker."""

    others: ClassVar[frozenset[str]] = frozenset(EndpointCaptions.model_fields) - frozenset(
        CaptionsSection.model_fields
    )

    @model_validator(mode="after")
    def _roomy(self) -> VllmCaptions:
        if self.python is None:
            raise ValueError(f"engine = 'vllm' needs an environment of its own: {ENVIRONMENT}, and name its `python`")
        spread = self.engine_args.tensor_parallel_size * self.engine_args.pipeline_parallel_size
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError(f"gpus = {self.gpus:g}: a share of one, or a whole number of them")
        if spread > 1 and self.gpus != spread:
            raise ValueError(f"engine_args spread an engine over {spread} GPUs, and gpus is {self.gpus:g}")
        return self
