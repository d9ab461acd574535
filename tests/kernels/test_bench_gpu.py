"""The GPU benchmark's order, budget, honesty and pages, with a fake clock and fake implementations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from torch import Tensor

from bench.gpu import __main__ as gpu
from bench.gpu import ops as gpu_ops
from bench.gpu.ops import Implementation, NotRun
from bench.gpu.report import Row, Run, to_json, to_markdown
from kernels import runtime, workloads
from kernels.attention.gluon import launch as gluon
from kernels.timing import Timing
from kernels.workloads import Workload

SHAPES = [("a", "first"), ("a", "second"), ("b", "first")]


class Clock:
    """Every measurement takes as long as it is told."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.now, self.seconds, self.measured = 100.0, seconds, 0

    def __call__(self) -> float:
        return self.now

    def measure(self, run: Callable[[], object]) -> Timing:
        run()
        self.now += self.seconds
        self.measured += 1
        return Timing(2.0, 1.0, 3.0, 10)


def work(op: str, name: str, backward: float = 6.0) -> Workload:
    return Workload(op, name, lambda device: (torch.ones(4, requires_grad=True),), (4.0, backward))


def double(x: Tensor) -> tuple[Tensor, ...]:
    return (2 * x,)


def fake(name: str, function: Callable[..., tuple[Tensor, ...]] = double) -> Implementation:
    return Implementation(name, lambda _: function)


def run(todo: list[Workload], clock: Clock, seconds: float = 1e9, *others: Implementation) -> list[Row]:
    made = others or (fake("kernel"), fake("torch eager"))
    return gpu.bench(todo, gpu.Budget(seconds, clock), "cpu", clock.measure, lambda op: made)


def test_every_implementation_of_every_shape_and_direction() -> None:
    rows = run([work(*shape) for shape in SHAPES], Clock())
    assert [(row.op, row.shape) for row in rows[::4]] == SHAPES
    assert [(row.direction, row.implementation, row.traffic) for row in rows[:4]] == [
        ("forward", "kernel", 4.0),
        ("forward", "torch eager", 4.0),
        ("backward", "kernel", 6.0),
        ("backward", "torch eager", 6.0),
    ]
    assert all(row.timing == Timing(2.0, 1.0, 3.0, 10) and not row.why for row in rows)


def test_an_op_without_gradient_has_one_direction() -> None:
    assert {row.direction for row in run([work("a", "x", backward=0.0)], Clock())} == {"forward"}


def test_keeps_to_the_budget_and_says_what_it_skipped() -> None:
    """Ten seconds of measurements that take two each: five fit, and the first shapes go first."""
    clock = Clock(2.0)
    rows = run([work(*shape) for shape in SHAPES], clock, 10.0)
    assert clock.measured == 5 and clock.now - 100.0 <= 10.0
    done = [(row.op, row.shape) for row in rows if row.timing]
    assert done == [("a", "first")] * 4 + [("b", "first")]
    assert {row.why for row in rows if not row.timing} == {"skipped: time budget"} and len(rows) == 12


def test_does_not_begin_what_may_not_fit() -> None:
    clock = Clock(6.0)
    run([work("a", "x")], clock, 10.0)
    assert clock.measured == 1


def fails(*_: object) -> tuple[Tensor, ...]:
    raise RuntimeError("an illegal memory access\nwas encountered")


def test_a_failure_is_a_row() -> None:
    rows = run([work("a", "x")], Clock(), 1e9, fake("kernel", fails), fake("torch eager"))
    assert [row.why for row in rows] == ["failed: RuntimeError: an illegal memory access", ""] * 2
    assert not Run("", {}, 0, None, rows).failed[0].timing


def test_a_missing_op_is_a_row() -> None:
    def missing(_: Workload) -> gpu_ops.Function:
        raise ImportError("No module named 'kernels.a'")

    rows = run([work("a", "x")], Clock(), 1e9, Implementation("kernel", missing), fake("torch eager"))
    assert rows[0].why == "failed: ImportError: No module named 'kernels.a'" and rows[1].timing


def test_inputs_that_do_not_fit_are_rows() -> None:
    def too_large(device: str) -> tuple[Tensor, ...]:
        raise MemoryError("out of memory")

    rows = run([Workload("a", "x", too_large, (1.0, 1.0)), work("b", "x")], Clock())
    assert {row.why for row in rows if row.op == "a"} == {"failed: MemoryError: out of memory"}
    assert all(row.timing for row in rows if row.op == "b")


def test_wrong_results_are_a_failure() -> None:
    wrong = fake("kernel", lambda x: (2.1 * x,))
    rows = run([work("a", "x")], Clock(), 1e9, wrong, fake("torch eager"))
    assert rows[0].why == "failed: wrong by 5.0e-02 against torch eager"
    assert rows[2].why.startswith("failed: wrong by 5.0e-02")  # its gradient
    broken = run([work("a", "x")], Clock(), 1e9, wrong, fake("flash", fails), fake("cudnn"))
    assert broken[0].why == "failed: wrong by 5.0e-02 against cudnn"
    alone = run([work("a", "x")], Clock(), 1e9, fake("kernel"), fake("flash", fails))
    assert alone[0].why == "failed: nothing to check it against runs"


def test_what_is_not_run_says_why() -> None:
    def refused(_: Workload) -> gpu_ops.Function:
        raise NotRun("its scores would take 99 GiB")

    rows = run([work("a", "x")], Clock(), 1e9, fake("kernel"), fake("torch"), Implementation("math", refused))
    assert rows[2].why == "not run: its scores would take 99 GiB"


def row(implementation: str, timing: Timing | None, why: str = "", flops: float = 0.0, **change: str) -> Row:
    made = Row("op", "shape", "forward", implementation, flops, 4e9, timing, why)
    return replace(made, **change)


def result(*rows: Row, copy: float | None = 4e12) -> Run:
    return Run("2026-01-02", {"GPU": "H200", "driver": "1.2"}, 61.4, copy, rows)


def test_page() -> None:
    ours, theirs = Timing(2.0, 1.9, 2.2, 50), Timing(3.0, 2.9, 3.5, 50)
    page = to_markdown(
        result(
            row("kernel", ours),
            row("torch eager", theirs),
            row("kernel", ours, flops=1e12, op="attention"),
            row("sdpa math", None, "failed: a | b", op="attention"),
        )
    )
    assert "# Kernels on a GPU, 2026-01-02" in page and "- driver: 1.2" in page
    assert "- copy: 4.00 TB/s, read and written" in page and "- the run took 61 s" in page
    assert "| shape | forward | kernel | 2.000 | 1.900 to 2.200 | 50% | 1.00 |" in page
    assert "| shape | forward | torch eager | 3.000 | 2.900 to 3.500 | 33% | 1.50 |" in page
    assert "| shape | forward | kernel | 2.000 | 1.900 to 2.200 | 500 | 1.00 |" in page
    assert "| shape | forward | sdpa math | failed: a / b | | | |" in page
    assert page.count("## ") == 2 and page.index("## op") < page.index("## attention")


def test_page_without_ours_or_copy() -> None:
    page = to_markdown(result(row("kernel", None, "failed: x"), row("torch", Timing(2.0, 1.0, 3.0, 9)), copy=None))
    assert "- copy: not measured" in page and "| torch | 2.000 | 1.000 to 3.000 |  |  |" in page


def test_json_holds_every_row() -> None:
    data = json.loads(to_json(result(row("kernel", Timing(2.0, 1.0, 3.0, 9), flops=1e12), row("x", None, "failed: y"))))
    assert data["machine"]["GPU"] == "H200" and data["copy_bytes_per_second"] == 4e12
    assert data["rows"][0]["tflops"] == 500 and data["rows"][0]["bandwidth"] == 2e12
    assert data["rows"][1]["timing"] is None and data["rows"][1]["why"] == "failed: y"


def test_every_kernel_has_others_beside_it() -> None:
    names = {work.op: [one.name for one in gpu_ops.implementations(work.op)] for work in workloads.all_workloads()}
    assert all(listed[0] == "kernel" and len(listed) > 1 for listed in names.values())
    backends = ["sdpa flash", "sdpa cudnn", "sdpa efficient", "sdpa math"]
    assert names["attention"][1:] == ["kernel in Gluon", "kernel in Triton", *backends]
    assert names["layernorm_modulate"][1:] == ["torch eager", "torch compiled"]


def test_math_is_refused_by_the_size_of_its_scores() -> None:
    math = gpu_ops.implementations("attention")[-1]
    large, small = workloads.attention("x", 2, 76544, 6), workloads.attention("x", 1, 768)
    with pytest.raises(NotRun, match="131 GiB"):
        math.make(large)
    q = torch.randn(1, 8, 2, 128)
    assert math.make(small)(q, q, q)[0].shape == q.shape


def tiny() -> list[Workload]:
    return [
        workloads.attention("tiny", 1, 17, 1),
        workloads.merge_partial("tiny", 1, 17, 1),
        workloads.relu_linear_attention("tiny", 1, 1, 33),
        workloads.adamw("tiny", 700),
    ]


@pytest.mark.parametrize("todo", tiny(), ids=lambda work: work.op)
def test_real_ops_run_and_agree(todo: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels in the interpreter beside torch on a CPU; compiling and GPU backends are left out."""
    monkeypatch.setattr(gpu, "TOLERANCE", 0.05)  # the interpreter rounds to bf16 by cutting off
    left_out = ("torch compiled", "kernel in Gluon", "kernel in Triton", "sdpa flash", "sdpa cudnn", "sdpa efficient")
    used = [one for one in gpu_ops.implementations(todo.op) if one.name not in left_out]
    rows = gpu.bench([todo], gpu.Budget(1e9), "cpu", Clock().measure, lambda op: used)
    assert [(row.implementation, row.why) for row in rows if row.why] == []
    assert len(rows) == len(used) * len(todo.directions)


def test_traffic_is_that_of_the_inputs_and_results() -> None:
    """AdamW reads all but the copy and writes all but the gradient; the others read their inputs and write results."""
    update = workloads.adamw("x", 1000)
    params, grad, m, v, copy = (x.nbytes for x in update.inputs("cpu"))
    assert update.traffic[0] == 2 * (params + m + v) + grad + copy
    norm = workloads.layernorm_modulate("x", 1, 64)
    x = norm.inputs("cpu")[0]
    assert norm.traffic == (2 * x.nbytes, 3 * x.nbytes)
    linear = workloads.relu_linear_attention("x", 1, 2, 64)
    q, k, v = (x.nbytes for x in linear.inputs("cpu"))
    out = v
    assert linear.traffic == (q + k + v + out, (q + k + v + out) + (q + k + v))


def test_copy_bandwidth_counts_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_ops, "copy_inputs", lambda device: (torch.zeros(4000), torch.ones(4000)))
    assert gpu.copy_bandwidth(Clock().measure, "cpu") == 2 * 16000 / 2e-3


def test_what_is_not_shipped_comes_last_and_all_before_is_saved() -> None:
    """A kernel that hangs takes nothing along; its rows stand beside the others of their shape all the same."""
    saved = list[list[tuple[str, str, str]]]()

    def save(rows: Sequence[Row]) -> None:
        saved.append([(row.op, row.shape, row.implementation) for row in rows if row.direction == "forward"])

    made = (fake("kernel"), replace(fake("kernel in Gluon"), late=True), fake("torch eager"))
    todo, clock = [work(*shape) for shape in SHAPES], Clock()
    rows = gpu.bench(todo, gpu.Budget(1e9, clock), "cpu", clock.measure, lambda op: made, save)
    assert [len(names) for names in saved] == [2, 4, 6, 7, 8, 9]
    assert not any("Gluon" in name for *_, name in saved[2])
    assert saved[-1] == [(*shape, one.name) for shape in SHAPES for one in (made[0], made[2], made[1])]
    assert len(rows) == 2 * len(saved[-1])


def test_a_kernel_of_ours_that_is_not_shipped_must_be_right_as_well() -> None:
    wrong = fake("kernel in Gluon", lambda x: (2.1 * x,))
    rows = run([work("a", "x")], Clock(), 1e9, fake("kernel"), wrong, fake("torch eager"))
    assert [row.why for row in rows[:3]] == ["", "failed: wrong by 5.0e-02 against torch eager", ""]


def test_each_language_of_attention_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    work, (ours, in_gluon, in_triton, *_) = tiny()[0], gpu_ops.implementations("attention")

    def ship(chosen: bool) -> None:
        for op in gluon.EVERY:
            entry = runtime.table(gluon.ARCH)[f"{op}_gluon"]
            monkeypatch.setitem(entry, "d128", replace(entry["d128"], chosen=chosen))

    ship(False)
    assert all(one.make(work) for one in (ours, in_gluon))
    with pytest.raises(NotRun, match='it is what "kernel" is'):
        in_triton.make(work)
    ship(True)
    in_triton.make(work)
    assert gluon._preferred == frozenset()
    with pytest.raises(NotRun, match='it is what "kernel" is'):
        in_gluon.make(work)
    ours.make(work)
    assert gluon._preferred is None


def test_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "bench.gpu needs a GPU, and PyTorch sees none\n"


@pytest.mark.parametrize("name", ["kernel", "kernel in Gluon"])
@pytest.mark.parametrize(("why", "code"), [("", 0), ("failed: x", 1), ("skipped: time budget", 0)])
def test_writes_its_results(name: str, why: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu, "copy_bandwidth", lambda: 4e12)
    monkeypatch.setattr(gpu, "machine", lambda: {"GPU": "H200"})
    rows = [row(name, None, why), row("sdpa math", None, "failed")]
    monkeypatch.setattr(gpu, "bench", lambda todo, budget, save: rows)
    assert gpu.main(["--seconds", "1", "--op", "adamw"]) == code
    assert sorted(path.name.partition("-gpu")[2] for path in tmp_path.iterdir()) == [".json", ".md"]
