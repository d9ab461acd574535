"""What a captioner is asked and what it says: the types between the stage, the prompts and an engine.

    Asked (a clip's pictures) -> Captioner -> Said (its caption, or why there is none) | Left (the budget is used up)

An engine works on many clips at a time and gives their answers in any order, so each answer bears the id of the clip
that was asked for. The engine of an endpoint is `endpoint`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from curation.identity import fingerprint

METHOD = 1
"""Version of all that this package does to a caption besides the prompt: pictures, cleaning, what is asked again.
Raise it where captions come out otherwise: they are then made again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A clip to be captioned. `pictures`: JPEG files in order of time; `cues`: what was measured of it, a sentence
    each.
    """

    clip_id: str
    pictures: tuple[bytes, ...]
    cues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a captioner says of a clip: a caption, or None and why (`history.failures.failure`).

    `short`: a caption in a sentence, of prompts that ask for one. `fields`: the aspects that it was made of.
    `finish_reason`: how the answer that decided ended, in the server's words. `requests`: how many were sent;
    `tokens_in`, `tokens_out`, `usd`: of all of them, None where the server or the recipe does not say. `seconds`: from
    the first request to the last answer.
    """

    clip_id: str
    caption: str | None = None
    why: str | None = None
    short: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str | None = None
    requests: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    usd: float | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        assert (self.caption is None) == bool(self.why), "a clip has a caption or a reason, and not both"

    def detail(self) -> dict[str, Any]:
        """What stands beside the caption in the dataset `captions`."""
        said = {"finish_reason": self.finish_reason, "requests": self.requests, "seconds": round(self.seconds, 3)}
        counts = {"tokens_in": self.tokens_in, "tokens_out": self.tokens_out, "usd": self.usd}
        return {**said, **counts, "short": self.short, "fields": dict(self.fields)}


@dataclass(frozen=True, slots=True)
class Left:
    """A clip that was not captioned, for the budget is used up: the next run does it."""

    clip_id: str


class Captioner(Protocol):
    """Captions clips, several at a time. Make it once, where it works."""

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up: every further clip would be `Left`."""
        ...

    def caption(self, clips: Iterable[Asked]) -> Iterator[Said | Left | None]:
        """For each clip, once, what came of it, in the order in which that is known; None where nothing has come for
        some seconds. Takes a clip from `clips` when there is room for it. Raises `UserError` where the engine cannot
        go on with any clip.
        """
        ...

    def close(self) -> None: ...


def maker(name: str, model: str, settings: Mapping[str, Any]) -> str:
    """Who makes captions by these settings, as `caption_by` has it: the block's name, the model, and 12 digits that
    differ whenever something differs that changes what is said.
    """
    digest = fingerprint("caption", METHOD, {"model": model, **settings}, digits=12)
    return f"{name}/{model}/{digest.rpartition('-')[2]}"
