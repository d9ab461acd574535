"""Looking at a stage while it runs: what its workers last said, every two seconds, from a thread of its own.

Both displays show a stage this way (`display` for curation, `encoding.display`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipelines.execution.coordinator import Heartbeat
from pipelines.progress.estimate import Estimate
from pipelines.progress.stalls import Stalls

EVERY_S = 2.0

Show = Callable[[Sequence[Heartbeat], str | None], None]
"""Shows who works on what, and what stands still, if anything does."""


@contextmanager
def looking(stage: str, coordinator: Any, estimate: Estimate, stall_s: float, show: Show) -> Iterator[None]:
    """Have `show` called until the block ends."""
    done = threading.Event()
    arguments = (stage, coordinator, estimate, stall_s, show, done)
    thread = threading.Thread(target=_look, args=arguments, name="display", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _look(stage: str, coordinator: Any, estimate: Estimate, stall_s: float, show: Show, done: threading.Event) -> None:
    import ray

    stalls = Stalls(stage, stall_s)
    while not done.wait(EVERY_S):
        try:
            found: list[tuple[Heartbeat, float]] = ray.get(coordinator.heartbeats.remote(), timeout=EVERY_S)
        except Exception:
            continue  # the display is no reason to end a run: the next look may succeed
        heartbeats = [heartbeat for heartbeat, _ in found]
        if heartbeats:
            estimate.working()
        show(heartbeats, stalls.look(heartbeats, estimate.done))
