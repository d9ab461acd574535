"""An engine in this process that answers by rule, out of order, and fails where a test says so. Imports no vLLM.

It calls a clip by its pictures, as `chat` does, so that a caption says whose it is.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from curation.caption.offline.base import Done
from curation.caption.prompts import Request
from curation.caption.transport import Refused
from tests.support.chat import name_of

Fault = Callable[[], None]


class Dead(RuntimeError):
    """The engine's end."""


@dataclass
class Engine:
    """Answers up to `at_a_step` of its requests with each step. `texts`: what it says the first times in the place of
    an answer, by the pictures' name; `refuses`: names of pictures that it does not take; `kills`: those that it dies
    of; `dies_at`: the step that raises; `lies_at`: the step at which it answers for a clip that nobody has asked about;
    `hangs`: until it is set.
    """

    seed: int = 0
    at_a_step: int = 3
    texts: dict[str, list[Done]] = field(default_factory=dict)
    refuses: frozenset[str] = frozenset()
    dies_at: int | None = None
    kills: frozenset[str] = frozenset()
    lies_at: int | None = None
    hangs: threading.Event | None = None
    begun: list[tuple[str, Request]] = field(default_factory=list)
    most: int = 0
    steps: int = 0
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._now: list[tuple[str, Request]] = []

    def begin(self, name: str, request: Request) -> None:
        if request.pictures and name_of(request.pictures) in self.refuses:
            raise Refused("the prompt is too long")
        assert name not in dict(self.begun), "a name comes once"
        self.begun.append((name, request))
        self._now.append((name, request))
        self.most = max(self.most, len(self._now))

    def step(self) -> Sequence[Done]:
        self.steps += 1
        if self.hangs is not None:
            self.hangs.wait(30)
        if self.steps == self.dies_at or any(name_of(one.pictures) in self.kills for _, one in self._now):
            raise Dead("CUDA error")
        if self.steps == self.lies_at:
            return [Done("another.0", "Another clip's caption.", "stop", 1, 1)]
        self._draw.shuffle(self._now)
        ended, self._now = self._now[: self.at_a_step], self._now[self.at_a_step :]
        return [self._done(name, request) for name, request in ended]

    def close(self) -> None:
        self.is_closed = True

    def _done(self, name: str, request: Request) -> Done:
        called = name_of(request.pictures)
        if request.pictures and self.texts.get(called):
            said = self.texts[called].pop(0)
            return Done(name, said.text, said.finish_reason, said.tokens_in, said.tokens_out)
        return Done(name, _text(called, request), "stop", 100, 20)


def _text(called: str, request: Request) -> str:
    if request.schema is None:
        return f"A clip called {called} lies in the sun."
    if request.pictures:
        return json.dumps({name: f"{name} of {called}." for name in request.schema["required"]})
    called = request.text.partition("subjects of ")[2].partition(".")[0]
    return json.dumps({"dense": f"A clip called {called} lies in the sun.", "short": f"{called} in short."})
