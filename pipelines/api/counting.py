"""A value that is dear to find, kept for a while and found again beside the requests that ask for it.

Nobody asks: nothing is done. Many ask at once: it is found once. It takes long: they get what was found before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

EVERY_S = 30.0
"""How old a value may be before it is found again; also how long is waited after one that could not be found."""
WAIT_S = 2.0
"""How long one who asks waits for a new value. A small pyramid is counted by then; of a large one the last do."""

Value = TypeVar("Value")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found(Generic[Value]):
    """A value, when it was found (Unix time in seconds), and how many seconds that took."""

    value: Value
    at: float
    took_s: float


class Fresh(Generic[Value]):
    """See the module. `find` is called in a thread, by one at a time."""

    def __init__(
        self,
        find: Callable[[], Value],
        every_s: float = EVERY_S,
        wait_s: float = WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._every_s, self._wait_s, self._clock = find, every_s, wait_s, clock
        self._lock = threading.Lock()
        self._begun: float | None = None
        self._ended = threading.Event()
        self._ended.set()
        self._found: Found[Value] | None = None
        self.failures = 0

    def get(self) -> Found[Value] | None:
        """The value, or the one before while a new one is being found; None where none has been found yet."""
        with self._lock:
            is_due = self._begun is None or self._clock() - self._begun >= self._every_s
            if is_due and self._ended.is_set():
                self._begun = self._clock()
                self._ended.clear()
                threading.Thread(target=self._look, name="counting", daemon=True).start()
        self._ended.wait(self._wait_s)
        return self._found

    def _look(self) -> None:
        began = time.perf_counter()
        try:
            value = self._find()
            self._found = Found(value, time.time(), time.perf_counter() - began)
        except Exception as error:  # a store that is away: what was known of it is still told, with its age
            self.failures += 1
            _log.warning("the pyramid cannot be counted for the metrics: %s", error)
        finally:
            self._ended.set()
