"""`[[captions]]` of a recipe: each key with its type, its bounds, its default and what it means.

The keys of every engine are in `CaptionsSection`, those of an endpoint in `EndpointCaptions`, those of vLLM in
`vllm_section`. `recipe` holds the blocks, `captions` turns them into what a run works with. A key of an endpoint stands
in no recipe: `key_env` names the variable that has it, and a message about it never shows what stands there.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from curation.contract import GIVEN
from curation.pyramid.queries.makers import UNKNOWN
from pipelines.config.tomlfile import Section, as_json

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
_SECRET = re.compile(r"key|token|secret|passw|auth|header", re.IGNORECASE)
_OURS = ("model", "messages", "temperature", "max_tokens", "seed", "response_format", "stream", "n")
"""Keys of a request that are set here: `extra_body` must not say them otherwise."""


class CaptionsSection(Section):
    """Captions by a model; a table for each (docs/captions.md). Where clips are in the tiers of several, the last one's
    caption is in force. Keys of every engine:
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,47}$")
    """What the block is called, in `caption_by` and on the command line."""
    tier: str
    """Clips of this tier are captioned."""
    engine: Literal["openai", "vllm"] = "openai"
    """`openai`: any endpoint that speaks its chat completions; `vllm`: vLLM in the workers of the run."""
    model: str = Field(min_length=1, max_length=200)
    """The model, as the endpoint calls it; of vLLM a folder, or a name of the hub that this machine has."""
    revision: str = ""
    """What the model's name does not say: a commit, a quantisation. Another one makes captions anew."""
    prompt: str = "six-aspects"
    """A prompt file, or the name of one that ships."""
    input: Literal["samples"] = "samples"
    """What the model sees: the clip's stored sample frames."""
    frames: int = Field(default=3, ge=1, le=3)
    """How many of them: first, middle and last; first and last; the middle one."""
    side: int = Field(default=640, ge=32, le=640)
    """Pixels of the longer side of what is sent; a larger picture is reduced."""
    cues: bool = False
    """Whether the prompt is told the clip's measured length and motion score."""
    given: Literal["replace", "keep"] = "replace"
    """`keep` leaves clips alone whose caption came with a list of sources."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """How freely the model draws."""
    max_tokens: int = Field(default=1024, ge=1, le=65_536)
    """Tokens of the longest answer; one that is cut is asked for once more, and is then no caption."""
    seed: int | None = None
    """Of the model's draws; without it none is given."""
    concurrency: int = Field(default=8, ge=1, le=512)
    """Requests at a time, of one worker."""

    others: ClassVar[frozenset[str]] = frozenset()
    """The keys that another engine has and this one has not."""

    @field_validator("name")
    @classmethod
    def _of_nobody_else(cls, value: str) -> str:
        if value in (GIVEN, UNKNOWN):
            raise ValueError(f"{value!r} is what captions of other makers are called: choose another name")
        return value

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, value: Any) -> Any:
        strange = [str(name) for name in value if name not in cls.model_fields] if isinstance(value, dict) else []
        if name := next((name for name in strange if name in cls.others), None):
            engine = cls.model_fields["engine"].default
            raise ValueError(f"{name} is no key of a block with engine = {engine!r}")
        if name := next((name for name in strange if _SECRET.search(name)), None):
            raise ValueError(f"{name}: a secret stands in no recipe; key_env is the NAME of the variable that has it")
        return value


class EndpointCaptions(CaptionsSection):
    """Further keys where an endpoint is asked:"""

    engine: Literal["openai"] = "openai"
    endpoint: str = Field(min_length=1)
    """The base address of the API, often ending with /v1. Captions stay where it moves."""
    key_env: str | None = None
    """The NAME of the environment variable that has the key; without it none is sent. The key itself stands nowhere."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further keys of each request; no secrets."""
    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    """Seconds that a request may take."""
    budget_tokens: int | None = Field(default=None, gt=0)
    """Tokens, in and out, that a run may use."""
    budget_usd: float | None = Field(default=None, gt=0)
    """US dollars that a run may use; needs both prices."""
    usd_per_million_in: float | None = Field(default=None, ge=0)
    """The price of a million tokens of prompts."""
    usd_per_million_out: float | None = Field(default=None, ge=0)
    """The price of a million tokens of answers."""

    others: ClassVar[frozenset[str]] = frozenset({"python", "engine_args", "gpus", "cpus"})

    @field_validator("extra_body")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        as_json(value)
        if ours := next((key for key in _OURS if key in value), None):
            raise ValueError(f"{ours} is not said here: there is a key for it, or it is always the same")
        return value

    # Where the value may be a secret, what is wrong is told by a check of the whole table, whose message has no value.
    @model_validator(mode="after")
    def _no_secrets(self) -> EndpointCaptions:
        if self.key_env is not None and not _VARIABLE.fullmatch(self.key_env):
            raise ValueError("key_env is the NAME of an environment variable (A to Z, 0 to 9, `_`), never a key")
        try:
            parts = urlsplit(self.endpoint)
            there = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            raise ValueError("endpoint is an address as http://HOST:PORT/v1") from None
        if not there:
            raise ValueError("endpoint is an address as http://HOST:PORT/v1")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("endpoint has no user, password or `?`: the key is what key_env names")
        return self

    @model_validator(mode="after")
    def _payable(self) -> EndpointCaptions:
        prices = (self.usd_per_million_in, self.usd_per_million_out)
        if (prices[0] is None) != (prices[1] is None):
            raise ValueError("usd_per_million_in and usd_per_million_out go together")
        if self.budget_usd is not None and prices[0] is None:
            raise ValueError("budget_usd needs usd_per_million_in and usd_per_million_out")
        if self.budget_usd is not None and not any(prices):
            raise ValueError("budget_usd bounds nothing where both prices are 0")
        if self.budget_tokens is not None and self.budget_tokens < self.max_tokens:
            raise ValueError(
                f"budget_tokens {self.budget_tokens} allows not one answer of max_tokens {self.max_tokens}"
            )
        if self.budget_usd is not None and self.budget_usd < self.max_tokens * (prices[1] or 0) / 1e6:
            raise ValueError(f"budget_usd {self.budget_usd:g} allows not one answer of max_tokens {self.max_tokens}")
        return self
