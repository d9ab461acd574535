"""A checkpoint of an earlier version goes on as it would have then: format, batches, draws and arithmetic are kept.

`golden/` was written by `python -m tests.training.checkpoint.test_golden`; a new one belongs to a new format alone.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.support.toy_run import Kept, Toy
from training.models.mmdit import preset

GOLDEN = Path(__file__).parent / "golden"
SAVED, STEPS = 3, 6
SMALL = replace(preset("tiny_dcae"), hidden_size=16, num_heads=1, depth=1, depth_single_blocks=1, mlp_ratio=1.0)
LOSSES = [
    (2.1523213386535645, 0.6424956321716309),
    (2.1103769540786743, 0.5628936886787415),
    (1.8054704666137695, 0.9344986081123352),
]
"""Loss and norm of the steps that followed when it was written."""


def _toy(folder: Path) -> Toy:
    return Toy(folder, decay=None, config=SMALL)


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    kept = Kept()
    _toy(tmp_path).go(STEPS, kept, saves=False)
    assert kept.losses == [pytest.approx(pair, rel=1e-3) for pair in LOSSES]
    assert [report.step for report in kept.reports] == list(range(SAVED, STEPS))


if __name__ == "__main__":
    torch.set_num_threads(1)
    shutil.rmtree(GOLDEN, ignore_errors=True)
    kept = Kept()
    _toy(GOLDEN).go(SAVED)
    _toy(GOLDEN).go(STEPS, kept, saves=False)
    print(kept.losses)
