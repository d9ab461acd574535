"""The benchmark of the models: the plain network equals ours, what fails is told, and the tables say what was found."""

from __future__ import annotations

import sys
import time
from copy import deepcopy
from typing import Any

import pytest

from bench.models import __main__ as models
from bench.models import plan
from bench.models import report as models_report
from training.cost.formulas import Transformer, sample_cost
from training.models.base import LatentSpec

FAKE = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    order, _, name = line.strip().partition(" ")
    if name == "dies":
        sys.exit(3)
    if name == "hangs":
        sys.stdin.readline()
    found = {"failed": "out of memory"} if name == "large" else {"seconds": 2.0} if order == "time" else {
        "before": 5, "added": 7}
    print(json.dumps(found), flush=True)
"""
"""Stands in for `bench.models.work`."""


def report_of(*runs: models.Run, cuda: dict[str, Any] | None = None) -> dict[str, Any]:
    found = {"torch": "2.13.0", "name": "CPU", "attention": "math"}
    return {
        "made": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "A processor", "cores": 2, "load": [0.5, 1.5]},
        "devices": {"cpu": found, "cuda": cuda or {"missing": "no GPU is at hand"}},
        "runs": [models.asdict(run) for run in runs],
    }


def row_of(text: str, *beginning: str) -> list[str]:
    """The cells of the row that begins so, those left out."""
    start = "| " + " | ".join(beginning) + " | "
    (row,) = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in row.removeprefix(start).removesuffix("|").split("|")]


def block_run(device: str, variant: str, length: plan.Length, **found: Any) -> models.Run:
    return models.Run(device, plan.BLOCKS, variant, length.name, **found)


def test_ratios_are_to_plain_torch() -> None:
    length = plan.LENGTHS["cpu"][0]
    text = models_report.markdown(
        report_of(
            block_run("cpu", plan.PLAIN, length, seconds=[2.0, 9.0, 1.0], added=400_000_000, first_s=3.0),
            block_run("cpu", plan.OURS, length, seconds=[1.0], added=100_000_000, first_s=1.5),
        )
    )
    assert text.startswith("A processor")
    assert "A processor, 2 cores, load 0.5 before and 1.5 after" in text
    speed = f"{plan.train_flops('cpu', length) / 1e12:.3g}"
    assert row_of(text, "cpu", length.name, plan.OURS) == ["1", "0.50", "100", "0.25", "1.5", speed, ""]
    assert row_of(text, "cpu", length.name, plan.PLAIN)[:4] == ["2", "1.00", "400", "1.00"]


def test_gpu_rows_have_their_share_of_the_peak() -> None:
    length = plan.LENGTHS["cuda"][-1]
    seconds = plan.train_flops("cuda", length) / (0.5 * 989e12)
    run = block_run("cuda", plan.OURS, length, seconds=[seconds], before=1, added=2)
    known = {"torch": "2.13.0", "name": "NVIDIA H100 80GB HBM3", "attention": "flash_attention"}
    text = models_report.markdown(report_of(run, cuda=known))
    assert "attention by `flash_attention`" in text
    assert row_of(text, "cuda", length.name, plan.OURS)[-2:] == ["494", "50.0%"]
    unknown = models_report.markdown(report_of(run, cuda={**known, "name": "NVIDIA H1000"}))
    assert row_of(unknown, "cuda", length.name, plan.OURS)[-1] == ""


def test_what_was_not_measured_says_why() -> None:
    short, *_, long = plan.LENGTHS["cuda"]
    text = models_report.markdown(
        report_of(
            block_run("cuda", plan.OURS, long, seconds=[1.0], added=3, failed=plan.OUT_OF_MEMORY),
            block_run("cuda", plan.OURS, short, failed="RuntimeError: a | b"),
            cuda={"torch": "2.13.0", "name": "NVIDIA H200", "attention": "flash_attention"},
        )
    )
    assert row_of(text, "cuda", long.name, plan.OURS) == ["out of memory", *[""] * 6]
    assert row_of(text, "cuda", short.name, plan.OURS)[0] == "not measured: RuntimeError: a / b"
    assert row_of(text, "cuda", short.name, plan.PLAIN)[0] == "not measured"
    assert "cuda: not measured, no GPU is at hand." in models_report.markdown(report_of())


def test_frames_a_second_count_the_frame_more() -> None:
    clip = plan.CLIPS["cpu", plan.AUTOENCODERS]
    runs = [
        models.Run("cpu", plan.AUTOENCODERS, variant, plan.codec_name("decode", clip, True), seconds=[0.5], added=10**7)
        for variant in (plan.DCAE, plan.HUNYUAN)
    ]
    text = models_report.markdown(report_of(*runs))
    cells = {variant: row_of(text, "cpu", clip.name(True), variant) for variant in (plan.DCAE, plan.HUNYUAN)}
    assert cells == {
        plan.DCAE: ["not measured", "", "32", "10"],
        plan.HUNYUAN: ["not measured", "", "34", "10"],
    }


def test_sampling_compares_the_two_ways() -> None:
    runs = [
        models.Run("cpu", plan.SAMPLING, plan.OURS, plan.pass_name("t2v", skipping), seconds=[seconds])
        for skipping, seconds in ((False, 10.0), (True, 5.0))
    ]
    text = models_report.markdown(report_of(*runs))
    assert row_of(text, "cpu", plan.SAMPLED["cpu"].name, "t2v") == ["2", "1", "0.50", "0.53"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_command", lambda *arguments: [sys.executable, "-c", FAKE])


def test_the_load_after_is_read_after(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = iter((0.5, 9.5))
    happened: list[str] = []
    monkeypatch.setattr(models.os, "getloadavg", lambda: (happened.append("load"), (next(loads), 0, 0))[1])
    monkeypatch.setattr(models, "_about", lambda device: {"torch": "2.13.0"})
    monkeypatch.setattr(models, "_device", lambda device, patience: (happened.append("runs"), [])[1])
    assert models.measure(("cpu",))["machine"]["load"] == [0.5, 9.5]
    assert happened == ["load", "runs", "load"]


@pytest.mark.usefixtures("fake")
def test_one_full_memory_does_not_stop_the_rest() -> None:
    until = time.monotonic() + 600
    large, small = models._together("cpu", plan.BLOCKS, ("a network",), ("large", "small"), until)
    assert large.failed == plan.OUT_OF_MEMORY and not large.seconds
    assert small.failed is None and small.seconds == [2.0] * models.ROUNDS and small.added == 7


@pytest.mark.usefixtures("fake")
def test_a_process_that_dies_or_is_late_is_told() -> None:
    until = time.monotonic() + 600
    dead, after = models._together("cpu", plan.BLOCKS, ("a network",), ("dies", "small"), until)
    assert dead.failed == after.failed == "its process ended with 3"
    child = models.Child("cpu", plan.BLOCKS, "a network", until)
    try:
        assert child.ask("time", "hangs", time.monotonic() + 0.1) == {"failed": plan.OUT_OF_TIME}
        assert child.ask("time", "small", until) == {"failed": plan.OUT_OF_TIME}
    finally:
        child.end()
    (never,) = models._together("cpu", plan.BLOCKS, ("a network",), ("small",), time.monotonic() - 1)
    assert never.failed == plan.OUT_OF_TIME


def test_flops_are_those_of_training_cost() -> None:
    spec = LatentSpec(16, 4, 8, causal=True, patch=2)
    shapes = ((33, 256), (129, 256), (33, 768), (129, 768))
    for length, (frames, side) in zip(plan.LENGTHS["cuda"], shapes, strict=True):
        sample = sample_cost(spec, frames, side, side, Transformer(3072, 2, 4))
        assert plan.train_flops("cuda", length) == pytest.approx(length.batch * sample.train)


def test_plain_blocks_equal_ours() -> None:
    torch = pytest.importorskip("torch")
    from bench.models.plain import make_plain
    from tests.support.mmdit import inputs_for, lively
    from training.models.mmdit.config import tiny
    from training.tokens import Grid

    ours = lively(tiny())
    plain = make_plain(deepcopy(ours))
    inputs = inputs_for(tiny(), Grid(2, 3, 4))
    found = []
    for model in (ours, plain):
        output = model(**inputs)
        output.square().sum().backward()
        found.append((output, {name.replace(".block.", "."): p.grad for name, p in model.named_parameters()}))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-4)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-3, msg=name)


def test_every_network_runs_what_was_planned() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from bench.models import work as models_work

    for what, device in ((what, "cpu") for what in plan.LIMIT_S["cpu"]):
        for variant in plan.VARIANTS[what]:
            assert set(models_work.WORKS[what](device, variant, what)) == set(plan.works(device, what))


def test_passes_that_are_left_are_those_of_the_guidance() -> None:
    pytest.importorskip("torch")
    from training.sampling.guidance import Guidance

    for kind in plan.KINDS:
        scales = [Guidance(whole_steps=plan.WHOLE_STEPS).at(step, plan.STEPS, 4) for step in range(plan.STEPS)]
        left = sum(len(one.passes(kind != "t2v")) for one in scales)
        assert plan.passes_left(kind) == pytest.approx(left / (3 * plan.STEPS))
        published = [Guidance().at(step, 50, 4) for step in range(50)]
        assert plan.passes_left(kind) == pytest.approx(sum(len(one.passes(kind != "t2v")) for one in published) / 150)


def test_walks_with_three_passes_end_where_others_do() -> None:
    torch = pytest.importorskip("torch")
    from bench.models import work as models_work
    from training.sampling.guidance import Pass

    assert models_work._ThreePasses(whole_steps=1).at(1, plan.STEPS, 4).passes(False) == tuple(Pass)
    works = models_work.sampling("cpu", plan.OURS, plan.SAMPLING)
    every, skipped = (works[plan.pass_name("i2v", skipping)]() for skipping in (False, True))
    assert isinstance(every, torch.Tensor)
    torch.testing.assert_close(every, skipped, rtol=1e-3, atol=1e-3)


def test_a_failing_work_is_an_answer() -> None:
    torch = pytest.importorskip("torch")
    from bench.models import work as models_work

    def raising(error: Exception) -> Any:
        raise error

    full = models_work.answer("cpu", "time", lambda: raising(torch.OutOfMemoryError("no")))
    assert full == {"failed": plan.OUT_OF_MEMORY}
    broken = models_work.answer("cpu", "memory", lambda: raising(ValueError("first\nsecond")))
    assert broken == {"failed": "ValueError: first"}


def test_memory_is_that_of_the_run() -> None:
    torch = pytest.importorskip("torch")
    from bench.models import work as models_work

    held = torch.ones(32_000_000)  # 128 MB that the run does not make
    found = models_work.answer("cpu", "memory", lambda: torch.ones(16_000_000).sum())
    assert 60e6 < found["added"] < 110e6
    assert found["before"] > held.nbytes
