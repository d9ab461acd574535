"""How a worker goes about one item of a stage: in parts, again where it failed, and at last without it.

    item -> begun before by a worker that was lost? -> parts that take seconds -> [stage] -> results
                                                  |-> else, or where a part raises: one by one, each a few times

A stage that streams is asked for all of an item at once, and one by one where it has cost its workers again and again.
So one clip that a filter cannot take, or dies of, ends as a result that says so, and its neighbours are scored. Nothing
here knows Ray: `ray_data` calls it in a worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from curation.contract import Reason, Verdict
from curation.errors import UserError
from pipelines.stages.base import Divisible, GiveUp, Report, Stage, Streaming
from pipelines.stages.results import our_fault, why_of

HOLD_S = 10.0
"""How long a worker may hold results back: a kill loses at most about this much of its work."""


class Tries(Protocol):
    """Who counts how often an item was begun; outlives the worker. See `Coordinator`."""

    def begin(self, key: str) -> int:
        """Count one more try of `key` and say how many there are: 1 for the first."""
        ...

    def end(self, keys: Sequence[str]) -> None:
        """Forget items that have their result."""
        ...


class Pace:
    """How many things of an item are worked on before their results are kept: what `HOLD_S` allows.

    It begins with one, and doubles at most, so that a slow filter is found out by one thing and not by thirty.
    """

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self.size = 1

    def took(self, things: int, seconds: float) -> None:
        """Learn from the last part."""
        allowed = int(self._hold_s * things / max(seconds, 1e-6))
        self.size = max(1, min(allowed, 2 * self.size))


class _Turns:
    """Items of one worker that go side by side, and things that go alone; who waits to be alone comes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together, self._waiting, self._alone = 0, 0, False

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not (self._alone or self._waiting))
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not (self._alone or self._together))
            self._waiting, self._alone = self._waiting - 1, True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


class Attempts:
    """A stage that gives up single things instead of failing. `attempts`: how often each may fail.

    `give_up` None: whatever the stage raises stops the run. `pace` None: an item is worked on in one go. Items may be
    worked on side by side, in threads; what costs its worker is tried alone, so that nothing beside it is blamed.
    """

    def __init__(self, stage: Stage, tries: Tries, attempts: int, give_up: GiveUp | None, pace: Pace | None) -> None:
        self._stage, self._tries, self._attempts = stage, tries, attempts
        self._give_up, self._pace = give_up, pace
        self._turns = _Turns()

    def __call__(self, key: str, item: Any, report: Report) -> Iterator[Any]:
        """The results of `item`, each as soon as it is there; `key` names the item for all workers that try it."""
        tried = self._tries.begin(key)
        if isinstance(self._stage, Streaming) and tried <= self._attempts:
            with self._turns.together():
                yield from self._stage.stream(item, report)  # after a lost worker, all of it again
        elif not isinstance(item, Divisible) or (len(item) < 2 and not isinstance(self._stage, Streaming)):
            yield self._unless_lost(item, tried, report)
        elif tried == 1:
            yield from self._in_parts(item, report)
        else:
            yield from self._apart(key, item, report)
        self._tries.end([key])

    def _in_parts(self, item: Divisible, report: Report) -> Iterator[Any]:
        start = 0
        while start < len(item):
            stop = min(len(item), start + (self._pace.size if self._pace else len(item)))
            began = time.monotonic()
            results = self._part(item.part(start, stop), _from(start, report))
            if self._pace:
                self._pace.took(stop - start, time.monotonic() - began)
            yield from results
            start = stop

    def _part(self, part: Any, report: Report) -> list[Any]:
        if len(part) > 1:
            try:
                return [self._stage(part, report)]
            except UserError:
                raise
            except Exception as error:
                self._check(error)
        return [self._tried(part.part(n, n + 1), report) for n in range(len(part))]

    def _apart(self, key: str, item: Divisible, report: Report) -> Iterator[Any]:
        """One by one, each counted: the one that a worker dies of is found, and in the end left out.

        What is left out keeps its count until the item has ended, for another of its things may cost a worker too.
        """
        singles = [f"{key}.{number}" for number in range(len(item))]
        for number, single in enumerate(singles):
            with self._turns.alone():
                tried = self._tries.begin(single)
                result = self._unless_lost(item.part(number, number + 1), tried, _from(number, report))
            yield result
            if tried <= self._attempts:
                self._tries.end([single])
        self._tries.end(singles)

    def _unless_lost(self, item: Any, tried: int, report: Report) -> Any:
        if tried <= self._attempts:
            return self._tried(item, report)
        lost = Verdict(Reason.WORKER_LOST, float(tried - 1))
        if self._give_up is None:
            raise UserError(f"its worker was lost {tried - 1} times", "look for lack of memory on that machine")
        return self._give_up(item, lost)

    def _tried(self, item: Any, report: Report) -> Any:
        """The stage's result, or after so many failures what is made of an item that has none."""
        for left in reversed(range(self._attempts)):
            try:
                return self._stage(item, report)
            except UserError:
                raise
            except Exception as error:
                verdict = self._check(error)
                if not left:
                    assert self._give_up is not None
                    return self._give_up(item, verdict)
        raise AssertionError("attempts is at least 1")

    def _check(self, error: Exception) -> Verdict:
        """The error as a verdict. `UserError` where it is nobody's item: the disk, the store, a stage that cannot give
        up an item.
        """
        verdict = our_fault(error)
        if self._give_up is None:
            raise UserError(why_of(verdict), "this is a fault of Ziggurat or of its set-up")
        return verdict


def _from(start: int, report: Report) -> Report:
    """Reports of a part, counted from the beginning of its item."""
    return lambda item, frames: report(item, frames + start)
