"""What becomes of a step: a passing fault leaves no trace, bad data stay left out, bad hardware ends the run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support import encoded
from tests.support.toy_run import Kept, Toy, bits
from training.callbacks.averages import Averages
from training.callbacks.log import Log
from training.callbacks.pace import Pace
from training.checkpoint.folder import Identity
from training.data.encoded import Encoded
from training.methods.base import Losses
from training.recovery import guard, machine
from training.recovery.guard import PASSING, Faulty, Judge, Told
from training.recovery.skips import Skips
from training.tally import Tally
from training.trainer import Progress, Run

MANY = {encoded.CLIP: 40}
"""Ten steps an epoch: a sample comes once in them."""


@dataclass
class Judged(Toy):
    """With the judge in the place of the least guard. `window`, `deviations`: its own."""

    window: int = 8
    deviations: float = 6.0

    def parts(self) -> tuple[Run, Averages | None, Identity]:
        run, averages, identity = super().parts()
        judge = Judge(run.engine, run.batches, self.folder, self.window, self.deviations)
        return replace(run, guard=judge), averages, identity


class Faults(encoded.Memory):
    """A sample's latent is multiplied by `factor` in the readings of these numbers, all where there are none."""

    def __init__(self, bad: int, factor: float, readings: Sequence[int] = ()) -> None:
        super().__init__(encoded.table(MANY))
        self._bad, self._factor, self._readings, self.seen = bad, factor, readings, 0

    def read(self, samples: Sequence[int]) -> list[Encoded]:
        found = super().read(samples)
        if self._bad in samples:
            self.seen += 1
            if not self._readings or self.seen in self._readings:
                return [
                    replace(one, latent_CTHW=one.latent_CTHW * self._factor) if one.sample == self._bad else one
                    for one in found
                ]
        return found


def test_a_fault_that_passes_leaves_no_trace(tmp_path: Path) -> None:
    """To the bit: the step is computed again, and that counts."""
    run, averages, _ = Judged(tmp_path / "sound", MANY).go(10, saves=False)
    want, kept = bits(run, averages), Kept()
    source = Faults(3, nan, readings=(1,))
    run, averages, progress = Judged(tmp_path / "fault", MANY, source=source).go(10, kept, saves=False)
    assert source.seen == 2 and progress.skipped == 0
    (note,) = [note for report in kept.reports for note in report.notes]
    assert "was computed again: loss or gradient is not finite on rank 0, and is right when it is" in note
    assert bits(run, averages) == want


def test_bad_data_are_named_left_out_and_stay_so_after_a_resume(tmp_path: Path) -> None:
    kept, source = Kept(), Faults(3, nan)
    toy = Judged(tmp_path, MANY, source=source, every=2)
    toy.go(10, kept)
    (bad,) = [report for report in kept.reports if not report.finite]
    assert 3 in bad.blamed and "wherever it is computed" in bad.notes[0]
    assert list(Skips.read(tmp_path)) == [bad.step] and set(Skips.read(tmp_path)[bad.step]) == set(bad.blamed)
    line = json.loads((tmp_path / "skipped.jsonl").read_text())
    assert line["why"] == "loss or gradient is not finite"

    for folder in toy.checkpoints.whole():  # from before that step
        if int(folder.name.removeprefix("step-")) > bad.step:
            toy.checkpoints.remove(folder)
    healed, again = Faults(3, 1.0), Kept()
    replace(toy, source=healed).go(10, again)
    assert again.reports[0].step <= bad.step
    (left,) = [report for report in again.reports if not report.finite]
    assert left.step == bad.step and left.blamed == bad.blamed and "left out before" in left.notes[0]
    assert healed.seen == 1, "a step that is left out is not computed again"


def test_steps_that_are_known_do_not_end_the_run_again(tmp_path: Path) -> None:
    """The remedy works: the same command goes on past them."""
    few = {encoded.CLIP: 4}
    toy = Judged(tmp_path, few, source=Faults(3, nan), every=1, changes={"patience": 3})
    with pytest.raises(UserError, match=r"3 steps in a row were skipped.*skipped\.jsonl"):
        toy.go(9)
    assert list(Skips.read(tmp_path)) == [0, 1, 2]
    for folder in toy.checkpoints.whole():
        toy.checkpoints.remove(folder)
    kept = Kept()
    _, _, progress = replace(toy, source=Faults(3, 1.0)).go(6, kept)
    assert [report.finite for report in kept.reports] == [False] * 3 + [True] * 3
    assert (progress.step, progress.skipped) == (6, 3)


def test_a_line_that_is_taken_out_or_of_other_samples_lets_the_step_in(tmp_path: Path) -> None:
    skips = Skips(tmp_path, {4: [1, 2]})
    assert skips.has(4, (0, 1, 2, 3)) and not skips.has(4, (1, 3)) and not skips.has(5, (1, 2))
    skips.add(6, (9,), "why", write=True)
    with (tmp_path / "skipped.jsonl").open("a") as file:
        file.write('{"step": 7, "samp')
    assert Skips.read(tmp_path) == {6: [9]}
    for step in (8, 9):
        skips.add(step, (3,), "why", write=True)
    assert Skips.read(tmp_path) == {6: [9], 8: [3], 9: [3]}, "a line after the torn one is lost"


def test_a_log_that_a_kill_has_torn_loses_no_later_line(tmp_path: Path) -> None:
    place = tmp_path / "log.jsonl"
    place.write_text('{"kind": "step", "st')
    for name in ("first", "second"):
        log = Log(tmp_path)
        log.note(name)
        log.close()
    torn, *lines = place.read_text().splitlines()
    assert torn == '{"kind": "step", "st' and [json.loads(line)["kind"] for line in lines] == ["first", "second"]


def test_what_is_usual_is_read_as_it_was_remembered(tmp_path: Path) -> None:
    """Of a step whose norm alone is not finite the loss counts; of one that was taken again, its later line."""
    run, _, _ = Toy(tmp_path, per_step=2).parts()
    rows = [(1, 1.0, 2.0), (2, 1.5, None), (3, None, None), (4, 9.0, 9.0), (4, 1.2, 2.5)]
    lines = [json.dumps({"kind": "step", "step": step, "loss": loss, "norm": norm}) for step, loss, norm in rows]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    first, after = (Judge(Two(), run.batches, tmp_path, 2, 6.0) for _ in range(2))  # type: ignore[arg-type]
    first.begin(4)
    for _, loss, norm in (*rows[:3], rows[4]):
        after._loss.add([nan if loss is None else loss])
        after._norm.add([nan if norm is None else norm])
    assert (first._loss, first._norm) == (after._loss, after._norm)
    assert (first._loss.usual, first._norm.usual) == (1.35, 2.25)


def test_a_spike_is_left_out_also_where_the_run_was_ended_before_it(tmp_path: Path) -> None:
    """What is usual comes of the log: a run that goes on judges as one that was not ended."""
    source = Faults(0, 30.0)
    found: list[list[Any]] = []
    for name, ends in (("whole", (18,)), ("parts", (9, 18))):
        kept = Kept()
        for end in ends:
            toy = Judged(tmp_path / name, MANY, source=source, every=3, window=8)
            toy.go(end, Log(tmp_path / name), kept)
        found.append([(report.step, report.loss, report.finite) for report in kept.reports])
    assert found[0] == found[1]
    assert [one for one in found[0] if not one[2]], "no spike was seen"


@dataclass
class Two:
    """Rank `rank` of two, alone: what it agrees on is what it has."""

    rank: int = 0
    ranks: int = 2
    device: Any = field(default_factory=lambda: torch.device("cpu"))

    def agree(self, values: Any) -> Any:
        return values


def judge(folder: Path) -> Judge:
    run, _, _ = Toy(folder, per_step=2).parts()
    return Judge(Two(), run.batches, folder, 8, 6.0)  # type: ignore[arg-type]


def of(*losses: float, norm: float = 1.0) -> Told:
    return {"losses": list(losses), "norm": [norm]}


def test_a_rank_that_computes_what_no_other_does_ends_the_run_everywhere(tmp_path: Path) -> None:
    asked: list[int] = []

    def again(shift: int) -> Told:
        asked.append(shift)
        return of(nan, 1.0) if shift else of(1.0, nan)

    with pytest.raises(Faulty, match="step 4: the hardware of rank 1 computes what no other does") as found:
        judge(tmp_path).ruling(3, of(1.0, nan), again)
    assert asked == [0, 1] and found.value.ranks == (1,) and not found.value.spike
    assert isinstance(found.value, UserError) and not (tmp_path / "skipped.jsonl").exists()
    sent = pickle.loads(pickle.dumps(found.value))
    assert (sent.step, sent.ranks, sent.spike, str(sent)) == (3, (1,), False, str(found.value))


def test_ranks_that_share_a_micro_batch_are_blamed_together(tmp_path: Path) -> None:
    """Of four ranks two share each: the second share is that of ranks 2 and 3."""
    run, _, _ = Toy(tmp_path, per_step=2).parts()
    one = Judge(Two(ranks=4), run.batches, tmp_path, 8, 6.0, context=2)  # type: ignore[arg-type]
    with pytest.raises(Faulty, match="the hardware of rank 2, 3 computes"):
        one.ruling(3, of(1.0, nan), lambda shift: of(nan, 1.0) if shift else of(1.0, nan))


def test_a_rank_whose_faults_pass_too_often_is_faulty(tmp_path: Path) -> None:
    one = judge(tmp_path)
    for step in range(PASSING - 1):
        assert one.ruling(step, of(1.0, nan), lambda shift: of(1.0, 1.0)).update
    with pytest.raises(Faulty, match="the hardware of rank 1"):
        one.ruling(PASSING, of(1.0, nan), lambda shift: of(1.0, 1.0))


@pytest.mark.parametrize("norm", [inf, 50.0])
def test_a_norm_that_is_wrong_on_every_pass_blames_the_data_of_no_step_for_good(tmp_path: Path, norm: float) -> None:
    """As a rank gives whose backward is wrong: it takes part in each pass."""
    one = judge(tmp_path)
    for step in range(8):
        assert one.ruling(step, of(1.0, 1.0), lambda shift: of(1.0, 1.0)).update

    def bad(step: int) -> guard.Ruling:
        return one.ruling(step, of(1.0, 1.1, norm=norm), lambda shift: of(1.0, 1.1, norm=norm))

    ruling = bad(8)
    assert not ruling.update and "data or hardware" in ruling.why
    assert one.ruling(9, of(1.0, 1.0), lambda shift: of(1.0, 1.0)).update, "one that is right begins the row anew"
    if norm == inf:  # a level that has risen for good is soon the usual one
        for step in range(10, 9 + PASSING):
            assert not bad(step).update
        with pytest.raises(Faulty, match=r"the hardware of some rank computes .* 3 steps in a row") as found:
            bad(9 + PASSING)
        assert found.value.ranks == () and not found.value.spike
    assert not (tmp_path / "skipped.jsonl").exists()


def test_one_process_alone_leaves_such_a_step_out_and_goes_on(tmp_path: Path) -> None:
    run, _, _ = Toy(tmp_path, per_step=2).parts()
    one = Judge(Two(ranks=1), run.batches, tmp_path, 8, 6.0)  # type: ignore[arg-type]
    for step in range(2 * PASSING):
        assert not one.ruling(step, of(1.0, 1.0, norm=inf), lambda shift: of(1.0, 1.0, norm=inf)).update
    assert not (tmp_path / "skipped.jsonl").exists()


def test_every_rank_takes_what_the_first_one_has() -> None:
    assert guard.shared(Two(rank=0), [1.0, 2.0]) == [1.0, 2.0]  # type: ignore[arg-type]
    assert guard.shared(Two(rank=1), [1.0, 2.0]) == []  # type: ignore[arg-type]


def test_a_pass_that_computes_a_step_again_tells_of_paces_too() -> None:
    """All that callbacks read of a step is in the pass that counts."""
    engine, at_rest = Two(), Losses(torch.zeros(()), torch.zeros(1))
    pace = Pace(engine)  # type: ignore[arg-type]
    pace.begin(Progress())
    for _ in range(2):
        tally = Tally(engine.device)
        for _ in range(3):
            pace.before_forward(2.0)
            pace.before_backward()
            pace.after_loss(at_rest, tally)
        assert tally.agreed(engine) == {"pace": [0.0, 0.0], "work": [0.0, 0.0]}  # type: ignore[arg-type]


def test_this_machine_is_sound_and_one_whose_matmul_lies_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert machine.faults(cpu, 1 << 20) == []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: product(a, b).index_fill(0, torch.tensor([7]), 0.0))
    assert machine.faults(cpu, 1 << 20) == ["a product of matrices is wrong (cpu)"]


def test_memory_that_does_not_hold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = torch.Tensor.fill_

    def stuck(cells: Any, value: int) -> Any:
        fill(cells, value)
        cells[5] |= 1
        return cells

    monkeypatch.setattr(torch.Tensor, "fill_", stuck)
    assert machine.faults(torch.device("cpu"), 1 << 10) == ["memory does not hold what is written (cpu)"]
