"""Reading ahead: threads make the inputs of the next micro-batches while the network computes.

It stands between `batches` and the loop. At most `depth` micro-batches wait, made or in the making, so memory is
bounded however slow the network is; how long the loop waits for one is counted, for that is what says whether the data
keep up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from types import TracebackType
from typing import Any, Self

from training.data.batches import MicroBatch

_LOOK_S = 0.1


class Ahead:
    """Inputs of a rank's micro-batches, step after step from `first` up to `end`. A context manager.

    `prepare`: makes inputs; an exception that it raises comes out of `step`. `share`: a step's micro-batches.
    `pin`: inputs are brought to pinned memory. `readers`: threads that call `prepare`, for several micro-batches at
    once. `waited_s`: seconds that the loop has waited in all.
    """

    def __init__(
        self,
        prepare: Callable[[int, MicroBatch], Any],
        share: Callable[[int], Sequence[MicroBatch]],
        first: int,
        end: int,
        depth: int = 2,
        pin: bool = False,
        readers: int = 1,
    ) -> None:
        self._prepare, self._share, self._pin = prepare, share, pin
        self._steps, self._readers = range(first, end), readers
        # One more is in the hand of the thread that waits for a place.
        self._made: Queue[tuple[MicroBatch, Future[Any]] | BaseException] = Queue(max(1, depth, readers - 1))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="reading ahead", daemon=True)
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def step(self, step: int) -> Iterator[tuple[MicroBatch, Any]]:
        """The next step's micro-batches in their order; steps are asked for one after another."""
        for _ in self._share(step):
            start = time.perf_counter()
            coming = self._made.get()
            if isinstance(coming, BaseException):
                raise coming
            batch, future = coming
            inputs = future.result()
            self.waited_s += time.perf_counter() - start
            yield batch, inputs

    def _work(self) -> None:
        pool = ThreadPoolExecutor(self._readers, "reading")
        try:
            for step in self._steps:
                for batch in self._share(step):
                    if not self._put((batch, pool.submit(self._inputs, step, batch))):
                        return
        except BaseException as error:
            self._put(error)
        finally:
            pool.shutdown(cancel_futures=self._ended.is_set())

    def _inputs(self, step: int, batch: MicroBatch) -> Any:
        inputs = self._prepare(step, batch)
        return inputs.pinned() if self._pin else inputs

    def _put(self, made: tuple[MicroBatch, Future[Any]] | BaseException) -> bool:
        """False: the loop has ended."""
        while not self._ended.is_set():
            try:
                self._made.put(made, timeout=_LOOK_S)
                return True
            except Full:
                continue
        return False
