"""What several processes ask for within a while, made once: ranks that share a sample's tokens all read that sample."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Kept(Generic[V]):
    made: Future[V]
    left: int


class Once(Generic[K, V]):
    """`askers`: how many ask for each; with the last of them it is let go. `most`: what is kept at once, for an asker
    that is started anew may never come. Threads may ask at once.
    """

    def __init__(self, askers: int, most: int = 64) -> None:
        self._askers, self._most = askers, most
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What `make` gives, of whoever asked first; an exception of its is everyone's who waits for it, and forgotten
        then: the next one tries anew.
        """
        if self._askers == 1:
            return make()
        with self._lock:
            kept = self._kept.get(key)
            first = kept is None
            if kept is None:
                kept = self._kept[key] = _Kept(Future(), self._askers)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            kept.left -= 1
            if not kept.left:
                self._forget(key, kept)
        if first:
            try:
                kept.made.set_result(make())
            except BaseException as error:
                with self._lock:
                    self._forget(key, kept)
                kept.made.set_exception(error)
        return kept.made.result()

    def _forget(self, key: K, kept: _Kept[V]) -> None:
        if self._kept.get(key) is kept:
            del self._kept[key]
