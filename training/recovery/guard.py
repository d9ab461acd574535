"""What becomes of a step: asked by the loop before the optimizer changes anything, on every rank, with the same answer.

    told (all ranks' sums) -> sound?  -> update
                           -> in place again -> sound?  -> update: the fault has passed
                           -> by the next rank -> compare -> data: left out, named, kept as left out
                                                          -> hardware: `Faulty`, all ranks stop
                                                          -> open: left out this once; several in a row: `Faulty`

All ranks decide on sums that all of them have, so nothing more has to be agreed on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Protocol

import torch

from curation.errors import UserError
from training.data.batches import Batches
from training.parallel.base import Engine
from training.recovery import verdict
from training.recovery.skips import Skips
from training.recovery.spikes import Rolling
from training.recovery.verdict import Finding, Verdict

Told = Mapping[str, list[float]]
"""Sums over all ranks: `losses` by micro-batch, `norm`, and what callbacks add."""

PASSING = 3
"""A rank whose faults have passed so often is taken for faulty; and some rank, where what is to blame was open for so
many steps in a row."""


class Faulty(UserError):
    """The hardware of `ranks` is not to be trusted (of some rank, where there are none). `spike`: it showed in numbers
    that were finite, so that it may have done harm before."""

    def __init__(self, step: int, ranks: tuple[int, ...], spike: bool, why: str) -> None:
        which = f"rank {', '.join(map(str, ranks))}" if ranks else "some rank"
        super().__init__(
            f"step {step + 1}: the hardware of {which} computes what no other does ({why})",
            "take its machine out, and give the same command again; started with --workers on a cluster, the run "
            "checks its nodes and goes on without it",
        )
        self.step, self.ranks, self.spike, self.why = step, ranks, spike, why

    def __reduce__(self) -> tuple[type[Faulty], tuple[int, tuple[int, ...], bool, str]]:  # type: ignore[override]
        return type(self), (self.step, self.ranks, self.spike, self.why)


@dataclass(frozen=True, slots=True)
class Ruling:
    """`told`: of the step as it counts. `update`: whether the optimizer takes it. `blamed`: samples that are bad.
    `why`: what a person should know, empty where there is nothing. `known`: it is left out as it was before."""

    told: Told
    update: bool
    blamed: tuple[int, ...] = ()
    why: str = ""
    known: bool = False


Again = Callable[[int], Told]
"""Forget the gradients and compute the step again, each rank the share of the one so many after it."""


class Guard(Protocol):
    """See the module."""

    def begin(self, step: int) -> None:
        """Before the first step of this process, on every rank."""

    def ruling(self, step: int, told: Told, again: Again) -> Ruling:
        """Of the step of that number. The engine holds the gradients that `told` tells of, or those that `again` gave
        last. `Faulty`, UserError: the run cannot go on here."""
        ...


@dataclass(frozen=True, slots=True)
class Finite:
    """The least: a step that is not finite is left out."""

    batches: Batches

    def begin(self, step: int) -> None: ...

    def ruling(self, step: int, told: Told, again: Again) -> Ruling:
        if finite(told):
            return Ruling(told, update=True)
        bad = [number for number, loss in enumerate(told["losses"]) if not isfinite(loss)]
        return Ruling(told, False, samples_of(self.batches, step, bad), "loss or gradient is not finite")


class Judge:
    """Spikes beside what is not finite, and the question what is to blame. `folder`: of the run, with its log and its
    list of steps that are left out. `window`, `deviations`: see `spikes.Rolling`. `context`: ranks that compute a
    micro-batch together."""

    def __init__(
        self, engine: Engine, batches: Batches, folder: Path, window: int, deviations: float, context: int = 1
    ) -> None:
        self._context, self._shares = context, engine.ranks // context
        self._engine, self._batches, self._folder = engine, batches, folder
        self._loss, self._norm = Rolling(window, deviations), Rolling(window, deviations)
        self._window = window
        self._skips = Skips(folder, {})
        self._passed: Counter[int] = Counter()
        self._open = 0

    def begin(self, step: int) -> None:
        """Take up what rank 0 reads of the run so far: another rank may see other files."""
        first = self._engine.rank == 0
        losses, norms = _history(self._folder, step, self._window) if first else ([], [])
        known = [[number, *samples] for number, samples in Skips.read(self._folder).items()] if first else []
        self._loss.add(shared(self._engine, losses))
        self._norm.add(shared(self._engine, norms))
        flat = [float(value) for row in known for value in (len(row), *row)]
        self._skips = Skips(self._folder, _rows(shared(self._engine, flat)))

    def ruling(self, step: int, told: Told, again: Again) -> Ruling:
        ruling = self._ruled(step, told, again)
        loss = ruling.told["losses"]
        self._loss.add([sum(loss) / len(loss)])
        self._norm.add(ruling.told["norm"])
        return ruling

    def _ruled(self, step: int, told: Told, again: Again) -> Ruling:
        samples = samples_of(self._batches, step, ())
        if self._skips.has(step, samples):
            return Ruling(told, False, tuple(sorted(self._skips.known[step])), "left out before", known=True)
        wrong = self._wrong(told)
        if not wrong:
            self._open = 0
            return Ruling(told, update=True)
        second = again(0)
        if not self._wrong(second):
            self._open = 0
            return self._passing(step, told, second, wrong)
        found = self._compared(second, again)
        if found.verdict is Verdict.HARDWARE:
            raise Faulty(step, self._of(found.ranks), finite(told), wrong)
        blamed = samples_of(self._batches, step, found.batches)
        if found.verdict is Verdict.OPEN:
            return self._left_open(step, second, blamed, wrong)
        self._open = 0
        self._skips.add(step, blamed, wrong, write=self._engine.rank == 0)
        return Ruling(second, False, blamed, f"{wrong}, wherever it is computed")

    def _compared(self, second: Told, again: Again) -> Finding:
        """What the step's second result says beside that of the next ranks."""
        losses, usual, norm_alone = second["losses"], self._loss.usual, not self._wrong_loss(second)
        if self._shares == 1:  # nobody else to ask
            return verdict.compare(losses, losses, 1, usual, False, norm_alone)
        third = again(1)
        return verdict.compare(losses, third["losses"], self._shares, usual, not self._wrong(third), norm_alone)

    def _left_open(self, step: int, told: Told, blamed: tuple[int, ...], wrong: str) -> Ruling:
        """Data or hardware: left out this once, not for good."""
        self._open += 1
        if self._open >= PASSING and self._shares > 1:
            raise Faulty(step, (), finite(told), f"{wrong}, {PASSING} steps in a row, with losses as usual")
        return Ruling(told, False, blamed, f"{wrong}, wherever it is computed, with losses as usual; data or hardware")

    def _passing(self, step: int, first: Told, second: Told, wrong: str) -> Ruling:
        ranks = self._of(verdict.differing(first["losses"], second["losses"], self._shares))
        self._passed.update(ranks)
        often = tuple(rank for rank, count in self._passed.items() if count >= PASSING)
        if often and self._shares > 1:
            raise Faulty(step, often, finite(first), f"{wrong}, {PASSING} times, each time passing")
        where = f" on rank {', '.join(map(str, ranks))}" if ranks else ""
        return Ruling(second, True, (), f"{wrong}{where}, and is right when it is computed again")

    def _of(self, shares: Sequence[int]) -> tuple[int, ...]:
        """The ranks that compute these shares."""
        return tuple(share * self._context + rank for share in shares for rank in range(self._context))

    def _wrong(self, told: Told) -> str:
        """What is wrong with a step, empty where nothing is."""
        if not finite(told):
            return "loss or gradient is not finite"
        if wrong := self._wrong_loss(told):
            return wrong
        norm = told["norm"][0]
        if self._norm.leaps(norm):
            return f"the norm leaps to {norm:.4g} from {self._norm.usual:.4g}"
        return ""

    def _wrong_loss(self, told: Told) -> str:
        """The same of the losses alone."""
        losses = told["losses"]
        mean = sum(losses) / len(losses)
        if not isfinite(mean):
            return "the loss is not finite"
        return f"the loss leaps to {mean:.4g} from {self._loss.usual:.4g}" if self._loss.leaps(mean) else ""


def finite(told: Told) -> bool:
    return all(isfinite(value) for value in (*told["losses"], *told["norm"]))


def samples_of(batches: Batches, step: int, numbers: Sequence[int]) -> tuple[int, ...]:
    """The samples of a step's micro-batches of these numbers; of all where there are none."""
    found = batches.step(step)
    chosen = [batch for batch in found if batch.number in numbers] or found
    return tuple(sample for batch in chosen for sample in batch.samples)


def shared(engine: Engine, numbers: Sequence[float]) -> list[float]:
    """What rank 0 has, on every rank."""
    first = engine.rank == 0
    count = engine.agree(torch.tensor([len(numbers) if first else 0], dtype=torch.float64, device=engine.device))
    size = int(count.item())
    if not size:
        return []
    values = torch.tensor(numbers, dtype=torch.float64) if first else torch.zeros(size, dtype=torch.float64)
    return engine.agree(values.to(engine.device)).tolist()


def _rows(flat: Sequence[float]) -> dict[int, list[int]]:
    """Rows of a step and its samples, each after its length."""
    found: dict[int, list[int]] = {}
    place = 0
    while place < len(flat):
        size = int(flat[place])
        step, *samples = map(int, flat[place + 1 : place + 1 + size])
        found[step] = samples
        place += 1 + size
    return found


def _history(folder: Path, step: int, window: int) -> tuple[list[float], list[float]]:
    """Losses and norms of the steps up to `step`, of each the last `window` that are finite, as the log has them:
    exact. A step may have one and not the other."""
    from training.callbacks.log import FILE

    found: dict[int, tuple[float | None, float | None]] = {}
    try:
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return [], []
    for line in lines:
        try:
            read = json.loads(line)
        except ValueError:  # a kill has torn it
            continue
        if read.get("kind") == "step" and read["step"] <= step:
            found[read["step"]] = (read["loss"], read["norm"])
    rows = [found[number] for number in sorted(found)]
    losses, norms = ([value for row in rows if (value := row[column]) is not None] for column in (0, 1))
    return losses[-window:], norms[-window:]
