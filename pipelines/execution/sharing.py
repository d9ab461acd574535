"""Who has what in hand, where several runs of one cluster work on one pyramid: nothing is done by two of them.

    worker: take(keys) -> what is ours goes into the stage, the rest comes back as `Elsewhere`
    driver: commit -> settled(keys); a stage's end -> freed; what was elsewhere is looked up again when nobody has it

A key names a unit of a stage: a source by its name, a clip by its id. One small actor for each pyramid, whose name
every run can work out, holds the keys that are in hand, and those that were settled since another run last asked the
ledger what lacks. It holds no results: losing it costs work done twice, and no row. A run with a Ray of its own has
nobody to share with.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from pipelines.execution.cluster import NAMESPACE

_ASK_EVERY_S = 1.0
_AGAIN_S = 0.2
_ATTEMPTS = 50
_ANSWER_S = 5.0
"""Within which the coordinator of a run that is alive says so; one that says nothing yet counts as alive."""

Key = tuple[str, str]
"""A stage and a unit of it."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Comes back in place of a result: another run has this item in hand, or has settled it since it was listed."""

    item: Any


class Shares:
    """What the actor does; a plain class. `alive` says whether the run of a coordinator still works."""

    def __init__(self) -> None:
        self._coordinators: dict[str, Any] = {}
        self._holders: dict[Key, str] = {}
        self._settled: dict[Key, int] = {}  # in the order in which they were settled
        self._listed: dict[str, int] = {}
        self._awaited: dict[str, set[Key]] = {}
        self._clock = 0

    def listing(self, run: str, coordinator: Any) -> None:
        """`run` is about to ask the ledger what lacks, and does not know of what is settled from here on."""
        self._bury(run)
        self._coordinators[run] = coordinator
        self._listed[run] = self._clock
        self._awaited[run] = set()
        known_to_all = min(self._listed.values())
        for key in [key for key, when in self._settled.items() if when <= known_to_all]:
            del self._settled[key]

    def take(self, run: str, coordinator: Any, stage: str, units: Sequence[str]) -> list[bool]:
        """For each unit whether `run` has it in hand now."""
        self._coordinators.setdefault(run, coordinator)
        listed = self._listed.setdefault(run, self._clock)
        answers = []
        for key in ((stage, unit) for unit in units):
            is_ours = self._holders.get(key, run) == run and self._settled.get(key, 0) <= listed
            if is_ours:
                self._holders[key] = run
            else:
                self._awaited.setdefault(run, set()).add(key)
            answers.append(is_ours)
        return answers

    def settled(self, run: str, stage: str, units: Sequence[str]) -> None:
        """The ledger knows what became of these."""
        for key in ((stage, unit) for unit in units):
            if self._holders.get(key) != run:
                continue
            del self._holders[key]
            if len(self._coordinators) > 1:
                self._clock += 1
                self._settled[key] = self._clock

    def free(self, run: str, stage: str) -> None:
        """Whatever `run` still has in hand of a stage that has ended is for anybody."""
        self._free([key for key, holder in self._holders.items() if holder == run and key[0] == stage])

    def leave(self, run: str) -> int:
        """Forget a run that has ended; how many are left."""
        self._free([key for key, holder in self._holders.items() if holder == run])
        for known in (self._coordinators, self._listed, self._awaited):
            known.pop(run, None)
        if len(self._coordinators) < 2:
            self._settled.clear()
        return len(self._coordinators)

    def awaited(self, run: str) -> dict[str, int]:
        """How many of the units that `run` was refused other runs still have in hand, by run."""
        self._bury(run)
        return dict(Counter(self._holders[key] for key in self._awaited.get(run, ()) if key in self._holders))

    def _bury(self, asking: str) -> None:
        for run, coordinator in list(self._coordinators.items()):
            if run != asking and not _is_alive(coordinator):
                self.leave(run)

    def _free(self, keys: Sequence[Key]) -> None:
        for key in keys:
            del self._holders[key]


def _is_alive(coordinator: Any) -> bool:
    """Whether a run's coordinator is there: it ends with its run, however that ends."""
    import ray
    from ray.exceptions import RayActorError

    try:
        ray.get(coordinator.alive.remote(), timeout=_ANSWER_S)
    except RayActorError:
        return False
    except TimeoutError:  # Ray's own is one, too
        return True
    return True


class Tells(Protocol):
    """See `Watch.searching`."""

    def searching(self, what: str) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Share:
    """A run's part in the work on a pyramid; goes to its workers as it is. `actor`: the name of the pyramid's."""

    actor: str
    run: str
    coordinator: Any

    def listing(self) -> None:
        self._ask("listing", self.coordinator)

    def ours(self, stage: str, item: Any, units: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """An item in parts, each with its place in it: what this run has in hand now, and `Elsewhere` for the rest."""
        answers = self._ask("take", self.coordinator, stage, list(units))
        start = 0
        while start < len(answers):
            stop = start + 1
            while stop < len(answers) and answers[stop] == answers[start]:
                stop += 1
            part = item if stop - start == len(answers) else item.part(start, stop)
            yield start, part if answers[start] else Elsewhere(part)
            start = stop

    def settled(self, stage: str, units: Sequence[str]) -> None:
        self._ask("settled", stage, list(units))

    def free(self, stage: str) -> None:
        self._ask("free", stage)

    def wait(self, watch: Tells) -> None:
        """Return when no other run has in hand what this one was refused."""
        while held := self._ask("awaited"):
            runs = ", ".join(sorted(held))
            with watch.searching(f"waiting for {sum(held.values())} that another run has in hand: {runs}"):
                time.sleep(_ASK_EVERY_S)

    def leave(self) -> None:
        """The last one takes the actor along."""
        import ray

        with suppress(Exception):  # of a Ray that is gone: whoever asks next finds this run dead
            if not self._ask("leave"):
                ray.kill(_actor(self.actor))

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Asks again where the actor was lost, or went with a run that thought itself the last one."""
        import ray
        from ray.exceptions import RayActorError

        for left in reversed(range(_ATTEMPTS)):
            try:
                return ray.get(getattr(_actor(self.actor), method).remote(self.run, *arguments))
            except RayActorError:
                if not left:
                    raise
                _actor.cache_clear()
                time.sleep(_AGAIN_S)
        raise AssertionError("there is at least one try")


class Alone:
    """The part of a run that shares with nobody."""

    def listing(self) -> None: ...

    def settled(self, stage: str, units: Sequence[str]) -> None: ...

    def free(self, stage: str) -> None: ...

    def wait(self, watch: Tells) -> None: ...

    def leave(self) -> None: ...


ALONE = Alone()


def of_pyramid(uri: str, run: str, coordinator: Any) -> Share:
    """The part of `run` in the work on the pyramid at `uri`."""
    return Share(f"work-on-{hashlib.sha256(uri.encode()).hexdigest()[:16]}", run, coordinator)


@cache
def _actor(name: str) -> Any:
    """Made by whoever asks first. Detached, so that it does not go with the run that made it."""
    import ray

    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True, "num_cpus": 0}
    return ray.remote(Shares).options(**options).remote()
