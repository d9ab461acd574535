"""A run that was stopped and begun again is the run that was not: to the bit, on a CPU, as often as it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.support.toy_run import Kept, Toy, bits


def test_a_run_resumed_twice_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    whole, parts = Kept(), [Kept(), Kept(), Kept()]
    run, averages, _ = Toy(tmp_path / "whole").go(9, whole, saves=False)
    want = bits(run, averages)
    for kept, seed, stop_after in zip(parts, (0, 7, 8), (4, 2, None), strict=True):
        run, averages, progress = Toy(tmp_path / "parts", network_seed=seed).go(9, kept, stop_after=stop_after)
    assert progress.step == 9
    assert [len(kept.reports) for kept in parts] == [4, 2, 3]
    assert [loss for kept in parts for loss in kept.losses] == whole.losses
    assert bits(run, averages) == want
