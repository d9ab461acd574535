"""What stands beside the loop: averages that give the weights back to the bit, losses by time, speeds, the log."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support import encoded
from tests.support.toy_run import Kept, Toy
from training.callbacks.averages import Averages
from training.callbacks.log import Log, TensorBoard, Wandb
from training.callbacks.speed import Speed
from training.callbacks.time_bins import TimeBins
from training.callbacks.validation import TIMES, Validation
from training.cost.formulas import Gpu
from training.parallel.base import AdamW, Precision
from training.parallel.single import Single
from training.trainer import Progress

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_averages_are_swapped_in_and_out_again_to_the_bit(precision: Precision) -> None:
    one = Single(CPU, precision)
    one.wrap(torch.nn.Linear(3, 2), AdamW())
    averages = Averages(one, 0.5)
    for value in averages.values.values():
        value.fill_(0.1)
    before = {name: weight.clone() for name, weight in one.masters().items()}
    with averages.swapped():
        assert torch.equal(one.model.weight.float(), torch.full((2, 3), 0.1).to(one.dtype).float())
    assert all(torch.equal(weight, before[name]) for name, weight in one.masters().items())
    assert torch.equal(one.model.weight, before["weight"].to(one.dtype))
    assert all(bool((value == 0.1).all()) for value in averages.values.values())


def test_an_average_follows_the_weights(tmp_path: Path) -> None:
    """a <- d a + (1 - d) w, d small in the first steps."""
    run, _, _ = Toy(tmp_path, decay=None).parts()
    averages = Averages(run.engine, 0.999)
    (name, first), *_ = averages.values.items()
    want = first.clone()
    kept = Kept()
    toy = Toy(tmp_path, decay=0.999)
    states: list[Any] = []

    class Look(Kept):
        def after_step(self, progress: Progress, report: Any) -> None:
            states.append(self.engine.masters()[name].clone())  # type: ignore[attr-defined]

    look = Look()
    parts = toy.parts

    def kept_parts() -> Any:
        run, averages, identity = parts()
        look.engine = run.engine  # type: ignore[attr-defined]
        return run, averages, identity

    toy.parts = kept_parts  # type: ignore[method-assign]
    _, found, _ = toy.go(3, kept, look, saves=False)
    for updates, weight in enumerate(states, start=1):
        decay = min(0.999, (1 + updates) / (10 + updates))
        want = decay * want + (1 - decay) * weight
    assert found is not None and torch.allclose(found.values[name], want, atol=1e-6)


def test_validation_never_changes_what_it_asks(tmp_path: Path) -> None:
    """The same weights give the same losses whenever it runs, and it leaves the run as it was."""
    run, averages, _ = Toy(tmp_path).parts()
    validation = Validation(run.engine, run.method, range(3), every=1, averages=averages)  # type: ignore[arg-type]
    first = validation.losses()
    torch.rand(3)
    assert validation.losses() == first
    assert list(first) == ["validation/loss", *(f"validation/t={t}" for t in TIMES)] and len(TIMES) == 9
    assert first["validation/loss"] == pytest.approx(sum(first[f"validation/t={t}"] for t in TIMES) / 9)
    beside, alone = Kept(), Kept()
    Toy(tmp_path).go(3, beside, saves=False)
    again = Toy(tmp_path)
    run, averages, _ = again.parts()
    again.parts = lambda: (run, averages, _)  # type: ignore[method-assign]
    again.go(3, Validation(run.engine, run.method, range(3), 1, averages), alone, saves=False)  # type: ignore[arg-type]
    assert alone.losses == beside.losses and "validation/loss" in alone.reports[0].values


def test_losses_by_time_are_the_means_of_their_samples(tmp_path: Path) -> None:
    kept, losses = Kept(), []

    class Look(Kept):
        def after_loss(self, found: Any, tally: Any) -> None:
            losses.append((found.times_B, found.per_sample_B))

    Toy(tmp_path, per_step=4).go(1, Look(), TimeBins(), kept, saves=False)
    times, each = (torch.cat(column) for column in zip(*losses, strict=True))
    (values,) = (report.values for report in kept.reports)
    for index in range(10):
        own = each[(times * 10).long() == index]
        name = f"loss/t={index / 10:.1f}..{(index + 1) / 10:.1f}"
        assert (name in values) == bool(len(own))
        if len(own):
            assert values[name] == pytest.approx(own.mean().item(), rel=1e-6)


def test_a_gpu_tells_its_memory_and_its_clock_where_it_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(device: Any) -> int:
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 << 30)
    for asked, wanted in ((lambda device: 1980, {"clock_mhz": 1980.0}), (unknown, {})):
        monkeypatch.setattr(torch.cuda, "clock_rate", asked)
        kept, speed = Kept(), Speed(CPU, 1)
        speed._device = torch.device("cuda")
        Toy(tmp_path / str(len(wanted))).go(1, speed, kept, saves=False)
        values = kept.reports[0].values
        assert values["memory_gib"] == 3.0
        assert {name: value for name, value in values.items() if name == "clock_mhz"} == wanted


def test_speeds(tmp_path: Path) -> None:
    kept = Kept()
    Toy(tmp_path).go(2, Speed(CPU, 1, Gpu("toy", 1e9, "")), kept, saves=False)
    report = kept.reports[1]
    values = report.values
    assert values["tokens_per_s"] == report.tokens / report.seconds
    assert values["mfu_dit"] == pytest.approx(report.flops / report.computed / 1e9)
    assert values["mfu_step"] < values["mfu_dit"]
    assert 0 <= values["waiting"] < 1 and report.computed + report.waited <= report.seconds


def test_a_cpu_has_no_mfu(tmp_path: Path) -> None:
    kept = Kept()
    Toy(tmp_path).go(1, Speed(CPU, 1), kept, saves=False)
    assert "mfu_dit" not in kept.reports[0].values


class _Slow(encoded.Memory):
    def read(self, samples: Any) -> Any:
        import time

        time.sleep(0.05)
        return super().read(samples)


def test_waiting_for_data_is_seen(tmp_path: Path) -> None:
    kept = Kept()
    toy = Toy(tmp_path, {encoded.CLIP: 8}, source=_Slow(encoded.table({encoded.CLIP: 8})))
    toy.go(3, Speed(CPU, 1), kept, saves=False)
    assert all(0 < report.values["waiting"] <= 1 for report in kept.reports)


def test_no_more_is_read_ahead_than_was_asked_for(tmp_path: Path) -> None:
    """Two wait ready, and one is in the reader's hand."""
    import time

    source, seen = encoded.Memory(encoded.table({encoded.CLIP: 40})), []

    class Look(Kept):
        def after_step(self, progress: Progress, report: Any) -> None:
            time.sleep(0.05)
            seen.append(source.reads - 2 * progress.step)

    toy = Toy(tmp_path, {encoded.CLIP: 40}, source=source, changes={"ahead": 2})
    toy.go(5, Look(), saves=False)
    assert max(seen) <= 3 and max(seen) > 0


class _Sink:
    def __init__(self) -> None:
        self.found: list[tuple[int, Mapping[str, float]]] = []

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.found.append((step, values))

    def close(self) -> None:
        self.found.append((-1, {}))


def test_the_log_is_a_line_a_step(tmp_path: Path) -> None:
    sink = _Sink()
    Toy(tmp_path / "run").go(2, TimeBins(), Speed(CPU, 1), Log(tmp_path, [sink]), saves=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["begin", "step", "step", "end"]
    step = lines[2]
    assert step["step"] == 2 and {"loss", "norm", "rate", "samples", "tokens_per_s", "waiting", "skipped"} <= set(step)
    assert [at for at, _ in sink.found] == [0, 1, 2, -1]


def test_what_is_not_finite_is_null_in_the_log(tmp_path: Path) -> None:
    from tests.training.test_trainer import Spoilt

    toy = Toy(tmp_path / "run", {encoded.CLIP: 4}, source=Spoilt(encoded.table({encoded.CLIP: 4})))
    toy.go(1, Log(tmp_path), saves=False)
    step = json.loads(
        (tmp_path / "log.jsonl").read_text().splitlines()[1], parse_constant=lambda name: pytest.fail(name)
    )
    assert step["loss"] is None and step["skipped"] == 1 and Spoilt.bad in step["blamed"]


def test_where_numbers_go_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the two packages, which are extras."""
    calls: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            calls.append(("open", folder))

        def add_scalar(self, *what: Any) -> None:
            calls.append(what)

        def close(self) -> None:
            calls.append(("close",))

    board: Any = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    sink = TensorBoard(tmp_path)
    sink.write(3, {"loss": 1.0})
    sink.close()
    assert calls == [("open", str(tmp_path)), ("loss", 1.0, 3), ("close",)]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"TensorBoard is not installed; pip install 'ziggurat\[tensorboard\]'"):
        TensorBoard(tmp_path)
    with pytest.raises(UserError, match="wandb is not installed"):
        Wandb("toy", tmp_path)


def test_a_run_that_goes_on_goes_on_in_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    sent: list[tuple[dict[str, float], int]] = []
    run = types.SimpleNamespace(log=lambda values, step: sent.append((values, step)), finish=lambda: None)
    wandb: Any = types.ModuleType("wandb")
    wandb.init = lambda **given: asked.append(given) or run
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for folder in ("a", "a", "b"):
        (tmp_path / folder).mkdir(exist_ok=True)
        sink = Wandb("toy", tmp_path / folder)
        sink.write(7, {"loss": 0.5})
        sink.close()
    first, again, other = (one["id"] for one in asked)
    assert first == again != other and all(one["resume"] == "allow" and one["project"] == "toy" for one in asked)
    assert sent == [({"loss": 0.5}, 7)] * 3
