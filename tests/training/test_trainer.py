"""The loop: it learns, it skips and names what is not finite, it stops where it is asked to."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support import encoded
from tests.support.toy_run import Kept, Toy, bits
from training import trainer
from training.callbacks.validation import Validation
from training.condition import Kind
from training.data.encoded import Encoded
from training.schedule import Schedule


class Spoilt(encoded.Memory):
    """One sample's latent is not a number."""

    bad = 3

    def read(self, samples: Sequence[int]) -> list[Encoded]:
        return [
            replace(one, latent_CTHW=one.latent_CTHW * float("nan")) if one.sample == self.bad else one
            for one in super().read(samples)
        ]


def test_it_learns_a_handful_of_clips(tmp_path: Path) -> None:
    """The validation loss, on those clips, falls far below what drawn weights give."""
    toy = Toy(tmp_path, {encoded.CLIP: 4}, per_step=2, rate=3e-3, decay=None, weights={Kind.T2V: 1})
    run, _, _ = toy.parts()
    before = Validation(run.engine, run.method, range(4), every=1).losses()  # type: ignore[arg-type]
    run, _, _ = toy.go(120, saves=False)
    after = Validation(run.engine, run.method, range(4), every=1).losses()  # type: ignore[arg-type]
    assert after["validation/loss"] < 0.8 * before["validation/loss"]
    assert len(after) == 10


def test_a_step_that_is_not_finite_is_skipped_and_named(tmp_path: Path) -> None:
    kept = Kept()
    toy = Toy(tmp_path, {encoded.CLIP: 8}, source=Spoilt(encoded.table({encoded.CLIP: 8})))
    run, averages, progress = toy.go(6, kept, saves=False)
    bad = [report for report in kept.reports if not report.finite]
    assert progress.skipped == len(bad) == 3  # once an epoch of two steps
    assert all(Spoilt.bad in report.blamed and len(report.blamed) == 2 for report in bad)
    assert all(torch.isfinite(weight).all() for weight in run.engine.masters().values())
    assert averages is not None and all(torch.isfinite(value).all() for value in averages.values.values())
    assert all("loss or gradient is not finite" in report.notes[0] for report in bad)


def test_too_many_in_a_row_end_the_run(tmp_path: Path) -> None:
    toy = Toy(tmp_path, {encoded.CLIP: 4}, source=Spoilt(encoded.table({encoded.CLIP: 4})), changes={"patience": 3})
    with pytest.raises(UserError, match=r"3 steps in a row were skipped, the last: step 3 is skipped with samples \d"):
        toy.go(9, saves=False)


def test_the_norm_is_that_before_clipping(tmp_path: Path) -> None:
    norms = []
    for clip in (1e-3, 1e3):
        kept = Kept()
        Toy(tmp_path, changes={"clip": clip}).go(1, kept, saves=False)
        norms.append(kept.reports[0].norm)
    assert norms[0] == norms[1] > 0.1


def test_a_missing_latent_ends_the_run_in_one_line(tmp_path: Path) -> None:
    source = encoded.Memory(encoded.table({encoded.CLIP: 4}), lost=[2])
    with pytest.raises(UserError, match="sample 2 has no latent"):
        Toy(tmp_path, {encoded.CLIP: 4}, source=source).go(4, saves=False)


def test_ranks_that_do_not_divide_a_step_are_refused_before_it(tmp_path: Path) -> None:
    toy = Toy(tmp_path, per_step=3)
    run, _, _ = toy.parts()
    run.engine.ranks = 2
    from training.trainer import Progress, train

    with pytest.raises(UserError, match="3 micro-batches a step cannot be shared among 2 ranks"):
        train(run, Progress())


def test_the_collector_is_held_off_and_let_go(tmp_path: Path) -> None:
    class Look(Kept):
        def after_step(self, *what: object) -> None:
            assert not gc.isenabled()

    assert gc.isenabled()
    Toy(tmp_path).go(2, Look(), saves=False)
    assert gc.isenabled()


def test_two_runs_are_the_same_to_the_bit(tmp_path: Path) -> None:
    found = []
    for seed in (0, 0):
        torch.rand(1)  # the process's own generator has no say
        run, averages, _ = Toy(tmp_path, network_seed=seed).go(4, saves=False)
        found.append(bits(run, averages))
    assert found[0] == found[1]


def test_a_schedule() -> None:
    schedule = Schedule(((0, 5e-5), (10, 3e-5)), warmup=4)
    assert [schedule.rate(step) for step in (0, 3, 9, 10)] == [1.25e-5, 5e-5, 5e-5, 3e-5]
    for rates in ((), ((1, 1e-5),), ((0, 1e-5), (0, 1e-6)), ((0, 0.0),)):
        with pytest.raises(UserError, match="is no schedule"):
            Schedule(rates)


def test_what_is_told_of_waiting_is_the_longest_of_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trainer._computed

    def of_two(*given: Any, **named: Any) -> Any:
        told = real(*given, **named)
        assert len(told["waited"]) == 1 and told["waited"][0] >= 0
        return {**told, "waited": [*told["waited"], 1000.0]}

    monkeypatch.setattr(trainer, "_computed", of_two)
    kept = Kept()
    Toy(tmp_path).go(2, kept)
    assert [report.waited for report in kept.reports] == [1000.0] * 2
    assert all(0 < report.computed <= report.seconds for report in kept.reports)
