"""The loop: method x engine x callbacks. It trains whatever a method gives a loss of, on however many ranks.

    Batches -> Ahead -> [ Method.loss -> Engine.backward ] x micro-batches -> norm -> agree -> update -> callbacks

Ranks and host meet once a step (`Tally.agreed`): there all learn the loss, the norm and whether to stop. Before the
optimizer moves, the guard says what becomes of the step (`recovery.guard`): one that is left out changes nothing and is
named with its samples.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from curation.errors import UserError
from training.callbacks.base import Callback, Report
from training.data.ahead import Ahead
from training.data.batches import Batches, MicroBatch, check_ranks
from training.methods.base import Method
from training.methods.draws import Draw, number
from training.parallel.base import Engine
from training.recovery.guard import Finite, Guard, Ruling, Told
from training.schedule import Schedule
from training.tally import Tally

MicroBatches = Iterable[tuple[MicroBatch, Any]]
"""With the inputs that were made of them."""


@dataclass(frozen=True, slots=True)
class Run:
    """What trains what, on what. `steps`: until there are so many in all; `clip`: the norm above which gradients are
    cut; `ahead`: micro-batches that may wait ready, `readers`: that are read at once; `collect`: steps between two
    rounds of the garbage collector, which otherwise strikes each rank at another time; `patience`: steps in a row that
    may be skipped; `guard`: says what is skipped, None: what is not finite."""

    engine: Engine
    method: Method
    batches: Batches
    schedule: Schedule
    steps: int
    clip: float = 1.0
    ahead: int = 2
    readers: int = 1
    collect: int = 50
    patience: int = 10
    guard: Guard | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Which micro-batches are this rank's: number and count as `Batches.share` takes them."""
        return self.method.context.data(self.engine)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `step`: steps taken, `skipped` of them without an update, the last `in_a_row` of them too and
    not known from before."""

    step: int = 0
    skipped: int = 0
    in_a_row: int = 0
    samples: int = 0

    @property
    def updates(self) -> int:
        return self.step - self.skipped

    def after(self, report: Report) -> Progress:
        bad = not report.finite
        # What is known from before says nothing of how the run goes now: else one that has ended for it, and goes on
        # with a lower rate, would end at the same place.
        in_a_row = self.in_a_row + 1 if bad and not report.known else 0
        return Progress(self.step + 1, self.skipped + bad, in_a_row, self.samples + report.samples)


def train(
    run: Run, progress: Progress, callbacks: Sequence[Callback] = (), stop: Callable[[], bool] = lambda: False
) -> Progress:
    """Train from `progress` on; how far it came. `stop` is asked once a step, and ends the run where it is true on any
    rank. UserError: ranks that do not divide a step, data that are not there, too many steps that are not finite."""
    engine, guard = run.engine, run.guard or Finite(run.batches)
    check_ranks(run.batches.per_step, run.place[1], run.method.context.ranks)
    with _open(run, progress, callbacks) as ahead:
        guard.begin(progress.step)
        for callback in callbacks:
            callback.begin(progress)
        while progress.step < run.steps:
            start, waited_before = time.perf_counter(), ahead.waited_s
            told = _computed(
                *(run, progress.step, ahead.step(progress.step), callbacks, stop),
                waited=lambda before=waited_before: ahead.waited_s - before,
            )
            again = partial(_again, run, progress.step, callbacks, stop)
            ruling = guard.ruling(progress.step, told, again)
            computed = time.perf_counter() - start
            rate = run.schedule.rate(progress.step)
            for callback in callbacks:
                callback.before_update()
            if ruling.update:
                engine.update(rate)
            engine.clear()
            computed -= ahead.waited_s - waited_before
            seconds = time.perf_counter() - start
            report = _report(progress.step, ruling, rate, seconds, computed, max(told["waited"]))
            progress = progress.after(report)
            for callback in callbacks:
                callback.after_step(progress, report)
            _check(run, progress, report)
            if ruling.told["stop"][0]:
                break
            if progress.step % run.collect == 0:
                gc.collect()
        for callback in callbacks:
            callback.before_update()
        for callback in callbacks:
            callback.end(progress, stopped=progress.step < run.steps)
    return progress


def _computed(
    run: Run,
    step: int,
    micro_batches: MicroBatches,
    callbacks: Sequence[Callback],
    stop: Callable[[], bool],
    waited: Callable[[], float] = lambda: 0.0,
) -> Told:
    """Forward and backward of a step on this rank, and what all ranks have to tell of it. `waited`: for how many
    seconds this one has waited for inputs, once it has them.
    """
    engine, tally = run.engine, Tally(run.engine.device)
    _gradients(run, step, micro_batches, callbacks, tally)
    tally.add("norm", engine.clip(run.clip) / engine.ranks)
    tally.add("stop", float(stop()))
    tally.place("waited", torch.tensor(waited()), engine.rank, engine.ranks)
    return tally.agreed(engine)


def _again(run: Run, step: int, callbacks: Sequence[Callback], stop: Callable[[], bool], shift: int) -> Told:
    """The same once more, each rank with the share of the one `shift` after it, all read anew."""
    run.engine.clear()
    own, shares = run.place
    share = run.batches.share(step, (own + shift) % shares, shares)
    return _computed(run, step, ((batch, run.method.prepare(step, batch)) for batch in share), callbacks, stop)


def _gradients(run: Run, step: int, micro_batches: MicroBatches, callbacks: Sequence[Callback], tally: Tally) -> None:
    """Forward and backward of this rank's micro-batches. Where ranks share them, each counts once and not for every
    rank: losses are the mean over these, all else is the first one's to tell."""
    engine, context, total = run.engine, run.method.context, run.batches.per_step
    own, coming = total // run.place[1], iter(micro_batches)
    for done in range(1, own + 1):
        for callback in callbacks:
            callback.before_inputs()
        batch, inputs = next(coming)
        # Whatever a network draws (dropout of an adapter) depends on nothing but the seed and the micro-batch, and
        # where ranks share it on whose tokens it is for.
        torch.manual_seed(number(run.batches.seed, step, batch.number + total * context.draws, Draw.MODEL))
        for callback in callbacks:
            callback.before_forward(inputs.flops)
        with engine.micro_batch(last=done == own):
            losses = run.method.loss(engine.model, inputs.to(engine.device), engine.dtype)
            for callback in callbacks:
                callback.before_backward()
            engine.backward(losses.total / own)
        tally.place("losses", losses.total / context.ranks, batch.number, total)
        for name, part in losses.parts.items():
            tally.add(f"part/{name}", part.detach() / (total * context.ranks))
        for name, value in (("samples", len(batch.samples)), ("tokens", inputs.tokens), ("flops", inputs.flops)):
            tally.add(name, value if context.rank == 0 else 0)
        for callback in callbacks:
            callback.after_loss(losses, tally)


def _report(step: int, ruling: Ruling, rate: float, seconds: float, computed: float, waited: float) -> Report:
    told = ruling.told
    losses = told["losses"]
    return Report(
        step=step,
        loss=sum(losses) / len(losses),
        norm=told["norm"][0],
        rate=rate,
        finite=ruling.update,
        known=ruling.known,
        blamed=ruling.blamed,
        samples=int(told["samples"][0]),
        tokens=int(told["tokens"][0]),
        flops=told["flops"][0],
        seconds=seconds,
        computed=computed,
        waited=waited,
        told=told,
        values={name: values[0] for name, values in told.items() if name.startswith("part/")},
        notes=[f"step {step + 1} {_became(ruling)}: {ruling.why}"] if ruling.why else [],
    )


def _became(ruling: Ruling) -> str:
    return "was computed again" if ruling.update else f"is skipped with samples {_listed(ruling.blamed)}"


def _check(run: Run, progress: Progress, report: Report) -> None:
    if progress.in_a_row >= run.patience:
        raise UserError(
            f"{progress.in_a_row} steps in a row were skipped, the last: {report.notes[0]}",
            "lower the learning rate, or go on from an earlier checkpoint; what the run's skipped.jsonl names stays "
            "out until its line is removed",
        )


def _listed(samples: Sequence[int], most: int = 8) -> str:
    return ", ".join(map(str, samples[:most])) + (f" and {len(samples) - most} more" if len(samples) > most else "")


@contextmanager
def _open(run: Run, progress: Progress, callbacks: Sequence[Callback]) -> Iterator[Ahead]:
    """The reader, the garbage collector held off, and the callbacks closed at the end, whatever comes."""
    engine, place, before = run.engine, run.place, gc.isenabled()
    reader = Ahead(
        run.method.prepare,
        lambda step: run.batches.share(step, *place),
        progress.step,
        run.steps,
        run.ahead,
        pin=engine.device.type == "cuda",
        readers=run.readers,
    )
    gc.disable()
    try:
        with reader:
            yield reader
    finally:
        if before:
            gc.enable()
        for callback in callbacks:
            callback.close()
