"""The tuner's choice, its file, and what it tries; timing itself needs a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from kernels import runtime, timing, tune, workloads
from kernels.runtime import Config
from kernels.timing import Timing
from kernels.tune import Trial

CONFIGS = [Config({"BLOCK": size}, warps) for size in (64, 128) for warps in (4, 8)]


def by_table(times: dict[int, float]):
    """Milliseconds by the candidate's place; those without one do not launch."""

    def measure(config: Config) -> float:
        index = CONFIGS.index(config)
        if index not in times:
            raise ValueError("out of shared memory\nand more lines")
        return times[index]

    return measure


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({0: 3.0, 1: 2.0, 2: 1.0, 3: 4.0}, 2),
        ({0: 1.0, 1: 0.99, 2: 0.985, 3: 2.0}, 0),
        ({0: 1.0, 1: 0.97, 2: 0.98, 3: 2.0}, 1),
        ({2: 9.0, 3: 8.0}, 3),
    ],
    ids=["fastest", "within noise", "beyond noise", "present fails"],
)
def test_chooses_the_fastest_beyond_noise(times: dict[int, float], best: int) -> None:
    chosen, trials = tune.choose(CONFIGS, by_table(times))
    assert chosen == CONFIGS[best]
    assert [trial.ms for trial in trials] == [times.get(index) for index in range(4)]
    assert {trial.error for trial in trials if trial.ms is None} <= {"ValueError: out of shared memory"}


def test_nothing_works() -> None:
    with pytest.raises(RuntimeError, match="out of shared memory"):
        tune.choose(CONFIGS, by_table({}))


def space(small: workloads.Workload | None = None, **vary) -> tune.Space:
    work = small or workloads.adamw("tiny", 3000)
    return tune.Space(work.op, "interpreter", "forward", vary, work, work)


def test_tries_every_combination_and_the_present_once() -> None:
    present = Config({"BLOCK": 1024, "FLAG": True}, warps=4, stages=1)
    tried = space(BLOCK=(512, 1024), warps=(4, 8)).candidates(present)
    assert tried[0] == present and len(tried) == 4
    assert all(config.blocks["FLAG"] and config.stages == 1 for config in tried)
    with pytest.raises(AssertionError, match="NO_SUCH"):
        space(NO_SUCH=(1,)).candidates(present)


@pytest.mark.parametrize("op", sorted(tune._SPACES))
def test_every_space_fits_the_settings_that_are_shipped(op: str) -> None:
    table = runtime.table(runtime.DEFAULT_ARCH)
    for one in tune.spaces(op):
        tried = one.candidates(table[one.key][one.bucket])
        assert 2 < len(tried) <= 120
        assert one.direction in one.large.directions and one.small.op == one.large.op


def test_every_op_is_tuned_and_has_shapes() -> None:
    with_kernels = {path.parent.name for path in runtime.CONFIGS.parent.glob("*/kernel.py")}
    assert {workloads.FOLDERS.get(op, op) for op in tune._SPACES} >= with_kernels
    assert {work.op for work in workloads.all_workloads()} == set(tune._SPACES)


def run_once(run, seconds: float = 0.3) -> Timing:
    run()
    return Timing(1.0, 1.0, 1.0, 1)


def test_tunes_against_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, with a clock that finds the smallest tile fastest."""
    table = {"adamw": {"interpreter": Config({"BLOCK": 1024}), "any": Config({"BLOCK": 1})}}
    monkeypatch.setattr(runtime, "table", lambda arch: table)
    seen = list[int]()

    def measure(run, seconds: float = 0.3) -> Timing:
        run()
        seen.append(table["adamw"]["interpreter"].blocks["BLOCK"])
        return Timing(float(seen[-1]), 0.0, 0.0, 1)

    monkeypatch.setattr(timing, "measure", measure)
    best, trials = tune.tune(space(BLOCK=(256, 512, 1024)), table, "cpu")
    assert seen == [1024, 256, 512] and best.blocks == {"BLOCK": 256}
    assert table["adamw"]["interpreter"] == best and len(trials) == 3


def test_a_wrong_candidate_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"adamw": {"interpreter": Config({"BLOCK": 1024})}}
    monkeypatch.setattr(runtime, "table", lambda arch: table)
    monkeypatch.setattr(timing, "measure", run_once)
    right = workloads.kernel("adamw")

    def wrong_if_small(*inputs):
        out = right(*inputs)
        if table["adamw"]["interpreter"].blocks["BLOCK"] == 256:
            out[0][-1] += 1000
        return out

    monkeypatch.setattr(workloads, "kernel", lambda op: wrong_if_small)
    best, trials = tune.tune(space(BLOCK=(256,)), table, "cpu")
    assert best.blocks == {"BLOCK": 1024} and "from the reference" in trials[1].error


def test_gradients_are_checked_in_place_and_strided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "measure", run_once)
    monkeypatch.setattr(tune, "TOLERANCE", 2e-2)  # the interpreter rounds to bf16 by cutting off
    work = workloads.relu_linear_attention("tiny", 1, 2, 70)
    key = "relu_linear_attention_backward"
    one = tune.Space(key, "interpreter", "backward", {"BLOCK_N": (16,)}, work, work)
    table = runtime.table(runtime.DEFAULT_ARCH)
    monkeypatch.setitem(table[key], "interpreter", table[key]["interpreter"])
    _, trials = tune.tune(one, table, "cpu")
    assert [trial.error for trial in trials] == ["", ""]


def test_writes_only_what_was_chosen(tmp_path: Path) -> None:
    shipped = json.loads((runtime.CONFIGS / "sm_90.json").read_text())
    (tmp_path / "sm_90.json").write_text(json.dumps(shipped))
    config = replace(CONFIGS[0], stages=7)
    path = tune.write("sm_90", {("adamw", "any"): config}, tmp_path)
    written = json.loads(path.read_text())
    assert written["adamw"].pop("any") == {"blocks": {"BLOCK": 64}, "warps": 4, "stages": 7}, "what is not the default"
    shipped["adamw"].pop("any")
    assert written == shipped
    other = json.loads(tune.write("sm_100", {("adamw", "any"): config}, tmp_path).read_text())
    assert other.keys() == shipped.keys() and other["adamw"]["any"]["stages"] == 7


def test_the_shipped_file_is_as_the_tuner_writes_it(tmp_path: Path) -> None:
    text = (runtime.CONFIGS / "sm_90.json").read_text()
    (tmp_path / "sm_90.json").write_text(text)
    assert tune.write("sm_90", {}, tmp_path).read_text() == text


@pytest.mark.parametrize(
    ("own_ms", "rival_ms", "chosen"),
    [(1.0, 2.0, True), (1.0, 1.01, False), (2.0, 1.0, False), (1.0, None, True)],
    ids=["faster", "within noise", "slower", "rival fails"],
)
def test_a_kernel_is_chosen_over_its_rival_when_faster(own_ms: float, rival_ms: float | None, chosen: bool) -> None:
    rival, config = ("attention_forward", "tma_d128"), replace(CONFIGS[0], registers=168, chosen=not chosen)
    times = {} if rival_ms is None else {rival: rival_ms}
    settled = tune.settle(replace(space(), rival=rival), config, [Trial(config, own_ms)], times)
    assert settled == replace(config, chosen=chosen)
    assert tune.settle(space(), config, [Trial(config, own_ms)], {}) == config, "without a rival, as it was"


def test_each_gluon_kernel_is_tuned_beside_its_triton_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gluon's is the faster forward, and fails backward: its entry stays as it was, and the rest is written."""

    def measured(one: tune.Space, table: dict[str, dict[str, Config]]) -> tuple[Config, list[Trial]]:
        if one.key == "attention_backward_kv_gluon":
            raise RuntimeError("no candidate works; the first: illegal memory access")
        config = table[one.key][one.bucket]
        return config, [Trial(config, 1.0 if one.rival else 2.0)]

    data = json.loads((runtime.CONFIGS / "sm_90.json").read_text())
    data["attention_backward_kv_gluon"]["d128"]["chosen"] = False
    (tmp_path / "sm_90.json").write_text(json.dumps(data))
    write = tune.write
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runtime, "arch", lambda: "sm_90")
    monkeypatch.setattr(tune, "tune", measured)
    monkeypatch.setattr(tune, "write", lambda arch, chosen: write(arch, chosen, tmp_path))
    assert tune.main(["attention"]) == 0
    written = json.loads((tmp_path / "sm_90.json").read_text())
    chosen = {key: entry["d128"].get("chosen", True) for key, entry in written.items() if key.endswith("_gluon")}
    assert chosen == {
        "attention_forward_gluon": True,
        "attention_backward_kv_gluon": False,
        "attention_backward_q_gluon": True,
    }
    assert "backward_kv_gluon/d128: no candidate works" in capsys.readouterr().err


def test_other_architectures_have_no_gluon(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[str]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runtime, "arch", lambda: "sm_100")
    monkeypatch.setattr(tune, "tune", lambda one, table: (tried.append(one.key), tune.choose(CONFIGS, by_table({})))[1])
    assert tune.main(["attention"]) == 1 and tried and not any("gluon" in key for key in tried)


def test_report_shows_the_fastest_first() -> None:
    one = space(BLOCK=(64,))
    chosen, trials = tune.choose(CONFIGS, by_table({0: 3.0, 2: 1.0}))
    lines = tune.report(one, chosen, trials).splitlines()
    assert lines[0].startswith("adamw/interpreter") and lines[1].startswith(" * ") and "1.0000 ms" in lines[1]
    assert "3.0000 ms" in lines[2] and "out of shared memory" in lines[4]


def test_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert tune.main(["adamw"]) == 2
    assert capsys.readouterr().err == "tuning needs a GPU, and PyTorch sees none\n"


@pytest.mark.gpu
def test_times_on_a_gpu() -> None:
    x = torch.randn(2**24, device="cuda")
    time = timing.measure(lambda: x.mul_(1.0), 0.05)
    assert 0 < time.p10_ms <= time.median_ms <= time.p90_ms and time.runs >= timing.LEAST_RUNS


def test_summary() -> None:
    assert timing.summarize([float(x) for x in range(100, 0, -1)]) == Timing(51.0, 11.0, 91.0, 100)
    assert timing.summarize([2.0]) == Timing(2.0, 2.0, 2.0, 1)


def test_distance() -> None:
    ones, nothing = torch.ones(4), torch.full((4,), float("nan"))
    assert timing.distance([ones, ones * 1.1], [ones, ones]) == pytest.approx(0.1, rel=1e-5)
    assert timing.distance([nothing], [ones]) == timing.distance([ones[:3]], [ones]) == float("inf")
