"""What captions may cost: tokens or money, kept in mind before a request is sent, so that a budget is not overrun.

A request in the air holds back what it may come to: the longest prompt so far and `max_tokens`. One that would go past
the budget with that waits for those in the air, and where none is left the budget is used up. Until an answer has told
how long a prompt is, one request goes at a time. The sum is the run's and
not a worker's (`Purse`), so that one that is lost and started again does not begin anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

Purse = Callable[[int, int], tuple[int, int]]
"""Adds tokens (in, out) to what the run has used, and says how much that is in all."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a run may use of each, None for no limit; the price of a million tokens in US dollars."""

    tokens: int | None = None
    usd: float | None = None
    usd_in: float | None = None
    usd_out: float | None = None

    @property
    def any(self) -> bool:
        return self.tokens is not None or self.usd is not None

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """In US dollars; None where the prices are not known."""
        if self.usd_in is None or self.usd_out is None:
            return None
        return (tokens_in * self.usd_in + tokens_out * self.usd_out) / 1e6

    def allow(self, tokens_in: int, tokens_out: int) -> bool:
        """Whether so many tokens in all are within the limits."""
        cost = self.cost(tokens_in, tokens_out)
        if self.usd is not None and cost is not None and cost > self.usd:
            return False
        return self.tokens is None or tokens_in + tokens_out <= self.tokens


class UsedUpError(Exception):
    """The budget allows no further request."""


class Budget:
    """The budget of one captioner, used from one event loop. `most_out`: tokens that an answer may have."""

    def __init__(self, limits: Limits, most_out: int, purse: Purse) -> None:
        self._limits, self._most_out, self._purse = limits, most_out, purse
        self._used = purse(0, 0)
        self._held = 0
        self._longest = 0
        self._changed = asyncio.Condition()
        self.is_spent = limits.any and not limits.allow(*self._with(1))

    async def begin(self) -> None:
        """Hold back what a request may cost. Raises `UsedUpError`."""
        if not self._limits.any:
            return
        async with self._changed:
            while self._must_wait():
                if not self._held:
                    self.is_spent = True
                if self.is_spent:
                    self._changed.notify_all()
                    raise UsedUpError
                await self._changed.wait()
            self._held += 1

    async def end(self, tokens_in: int, tokens_out: int) -> None:
        """A request has ended, and has used so many tokens."""
        self._longest = max(self._longest, tokens_in)
        self._used = self._purse(tokens_in, tokens_out)
        await self.release()

    async def lost(self) -> None:
        """A request has ended without an answer, but its server may have worked: what was held back counts."""
        await self.end(*((self._longest, self._most_out) if self._limits.any else (0, 0)))

    async def release(self) -> None:
        """A request has ended, and has used nothing."""
        if self._limits.any:
            async with self._changed:
                self._held -= 1
                self._changed.notify_all()

    def _must_wait(self) -> bool:
        if self._held and not self._longest:
            return True  # nobody knows yet how long a prompt is: the first one tells
        return not self._limits.allow(*self._with(self._held + 1))

    def _with(self, requests: int) -> tuple[int, int]:
        used_in, used_out = self._used
        return used_in + requests * self._longest, used_out + requests * self._most_out
