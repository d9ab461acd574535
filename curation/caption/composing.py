"""From a model's answers to a caption: which requests a prompt takes, and which answers will do.

An answer that is cut short, loops, is empty or does not fit its schema is asked for once more, and then gives no
caption. Knows no server: an engine hands in how a request is sent.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from curation.caption import prompts
from curation.caption.base import Asked
from curation.caption.cleaning import MOST, cleaned, declines, is_ended, loop_in, unpacked
from curation.caption.prompts import DENSE, SHORT, Prompt, Request
from curation.pyramid.history.failures import NoCaption, failure

TIMES = 2
"""How often a request is sent whose answers will not do."""

_LENGTH, _FILTERED = "length", "content_filter"
"""How a server says that an answer was cut, or held back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered. `finish_reason`: in the server's words; `declined`: the server says that the model will
    not answer.
    """

    text: str
    finish_reason: str | None = None
    declined: bool = False


Send = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Composed:
    """A caption, and what it was made of."""

    caption: str
    short: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


class WillNotDoError(Exception):
    """An answer that is no caption; `why` as `caption_why` says it."""

    def __init__(self, reason: NoCaption, detail: str = "") -> None:
        self.why = failure(reason, detail[:200])
        super().__init__(self.why)


_T = TypeVar("_T")


async def composed(prompt: Prompt, asked: Asked, send: Send) -> Composed:
    """The caption of a clip. Raises `WillNotDoError`, and what `send` raises."""
    request = prompts.first(prompt, asked)
    if not prompt.aspects:
        return Composed(await _good(request, send, _caption))
    names = tuple(aspect.name for aspect in prompt.aspects)
    fields = await _good(request, send, lambda answer: _aspects(answer, names))
    return await _good(prompts.second(prompt, fields), send, lambda answer: _fused(answer, fields))


async def _good(request: Request, send: Send, read: Callable[[Answer], _T]) -> _T:
    """What is read of an answer that will do."""
    for again in range(TIMES):
        answer = await send(replace(request, again=again))
        try:
            if len(answer.text) > MOST:
                raise WillNotDoError(NoCaption.INVALID, f"longer than {MOST} characters")
            if answer.finish_reason == _LENGTH:
                raise WillNotDoError(NoCaption.CUT, "the answer is longer than max_tokens")
            if answer.declined or answer.finish_reason == _FILTERED:
                raise WillNotDoError(NoCaption.DECLINED, unpacked(answer.text))
            return read(answer)
        except WillNotDoError:
            if again == TIMES - 1:
                raise
    raise AssertionError("an answer is read or raises")


def _caption(answer: Answer) -> str:
    return _checked(answer.text)


def _aspects(answer: Answer, names: tuple[str, ...]) -> dict[str, str]:
    """The aspects in an answer, cleaned; empty where nothing is left of it."""
    found = {name: cleaned(text) for name, text in _object(answer, names).items()}
    for text in found.values():
        _check_loop(text)
    if not any(found.values()):
        raise WillNotDoError(NoCaption.EMPTY, "no aspect says anything")
    return found


def _fused(answer: Answer, fields: Mapping[str, str]) -> Composed:
    found = _object(answer, (DENSE, SHORT))
    dense, short = _checked(found[DENSE]), cleaned(found[SHORT])
    _check_loop(short)
    return Composed(dense, short or None, fields)


def _object(answer: Answer, names: tuple[str, ...]) -> dict[str, str]:
    """The texts of these names in a JSON object."""
    try:
        read = json.loads(unpacked(answer.text))
    except (ValueError, RecursionError):
        if declines(unpacked(answer.text)):
            raise WillNotDoError(NoCaption.DECLINED, unpacked(answer.text)) from None
        raise WillNotDoError(NoCaption.INVALID, f"no JSON: {unpacked(answer.text)[:80]!r}") from None
    if not isinstance(read, dict) or any(not isinstance(read.get(name), str) for name in names):
        raise WillNotDoError(NoCaption.INVALID, f"no object of the texts {', '.join(names)}")
    return {name: read[name] for name in names}


def _checked(text: str) -> str:
    """The caption in a text; raises where it will not do."""
    caption = cleaned(text)
    if declines(unpacked(text)):
        raise WillNotDoError(NoCaption.DECLINED, unpacked(text))
    if not caption:
        raise WillNotDoError(NoCaption.EMPTY)
    _check_loop(caption)
    if not is_ended(caption):
        raise WillNotDoError(NoCaption.CUT, f"no end of a sentence: {caption[-60:]!r}")
    return caption


def _check_loop(text: str) -> None:
    if (what := loop_in(text)) is not None:
        raise WillNotDoError(NoCaption.LOOPS, f"{what[:120]!r}")
