"""Reading ahead: in order whoever reads, several at once where asked, never more than may wait, and errors come out."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

pytest.importorskip("torch")

from curation.shards.manifest import Bucket
from training.data.ahead import Ahead
from training.data.batches import MicroBatch

BUCKET = Bucket("256px", 1, 32, 32, 1)


def share(step: int) -> list[MicroBatch]:
    return [MicroBatch(number, BUCKET, (2 * step + number,)) for number in range(2)]


@pytest.mark.parametrize("readers", [1, 3])
def test_inputs_come_in_order_and_no_more_wait_than_may(readers: int) -> None:
    made, at_once, most, lock = 0, 0, 0, threading.Lock()

    def prepare(step: int, batch: MicroBatch) -> int:
        nonlocal made, at_once, most
        with lock:
            at_once, made = at_once + 1, made + 1
            most = max(most, at_once)
        time.sleep(0.02 if batch.samples[0] % 2 else 0.06)
        with lock:
            at_once -= 1
        return batch.samples[0]

    taken = 0
    with Ahead(prepare, share, 0, 6, depth=2, readers=readers) as ahead:
        for step in range(6):
            for batch, inputs in ahead.step(step):
                assert inputs == batch.samples[0] == taken
                taken += 1
                with lock:
                    assert made <= taken + 2 + 1, "two wait and one is in hand"
    assert taken == 12 and most == readers


def test_an_error_comes_out_at_its_micro_batch() -> None:
    def prepare(step: int, batch: MicroBatch) -> Any:
        if batch.samples == (3,):
            raise ValueError("sample 3")
        return batch.samples

    got: list[Any] = []
    with Ahead(prepare, share, 0, 100, readers=3) as ahead:
        for _, inputs in ahead.step(0):
            got.append(inputs)
        coming = ahead.step(1)
        got.append(next(coming)[1])
        with pytest.raises(ValueError, match="sample 3"):
            next(coming)
    assert got == [(0,), (1,), (2,)]


def test_it_ends_while_others_are_read() -> None:
    """The rest is neither read nor waited for."""
    seen: list[int] = []

    def prepare(step: int, batch: MicroBatch) -> int:
        seen.append(batch.samples[0])
        return batch.samples[0]

    with Ahead(prepare, share, 0, 10_000, readers=4) as ahead:
        next(ahead.step(0))
    assert len(seen) < 20
