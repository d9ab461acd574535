"""A word now and then while the driver waits in code that says nothing: from a thread, for as long as a block lasts.

`screen` and `encoding.display` have it said in a log; on a terminal a line stands there all the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def now_and_then(tell: Callable[[float], None], every_s: float, last: float | None = None) -> Iterator[None]:
    """Call `tell` with the seconds since the block began, `every_s` after the `last` word (`time.monotonic`, None for
    now) and after each of its own.
    """
    began, done = time.monotonic(), threading.Event()

    def wait() -> None:
        said = began if last is None else last
        while not done.wait(max(0.0, said + every_s - time.monotonic())):
            said = time.monotonic()
            tell(said - began)

    thread = threading.Thread(target=wait, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def still_at(what: str, spent_s: float) -> dict[str, Any]:
    """The event that says so with `--json`."""
    return {"event": "search", "what": what, "spent_s": round(spent_s)}
