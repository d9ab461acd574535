"""Every shipped configuration compiles for an H100 or H200: no spill, tensor cores where expected, memory enough.

Triton's interpreter is on in this process, so compiling is done in others.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from kernels import aot

ROOT = Path(aot.__file__).parents[1]
PROBE = """
import triton, triton.language as tl
from dataclasses import asdict
from kernels.aot import AotCase, compile_case
from kernels.runtime import Config
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import warpgroup_mma, warpgroup_mma_init, warpgroup_mma_wait

@gluon.jit
def crossed(out, n, SIDE: gl.constexpr, ASYNC: gl.constexpr):
    SHARED: gl.constexpr = gl.NVMMASharedLayout.get_default_for([SIDE, SIDE], gl.bfloat16)
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, SIDE, 16])
    at = gl.arange(0, SIDE, gl.SliceLayout(1, SUMS))[:, None] * SIDE + gl.arange(0, SIDE, gl.SliceLayout(0, SUMS))[None]
    tile = gl.allocate_shared_memory(gl.bfloat16, [SIDE, SIDE], SHARED)
    total = warpgroup_mma_init(gl.zeros([SIDE, SIDE], gl.float32, SUMS))
    for _ in range(n):
        s = warpgroup_mma(tile, tile, gl.zeros([SIDE, SIDE], gl.float32, SUMS), use_acc=False, is_async=True)
        s, total = warpgroup_mma_wait(1 if ASYNC else 0, deps=[s, total])
        factor = gl.convert_layout(s.to(gl.bfloat16), gl.DotOperandLayout(0, SUMS, 2))
        total = warpgroup_mma(factor, tile, total, is_async=True)
    gl.store(out + at, warpgroup_mma_wait(0, deps=[total]))

@triton.jit
def product(a, b, out, n, gone, SIDE: tl.constexpr):
    at = tl.arange(0, SIDE)
    total = tl.zeros((SIDE, SIDE), tl.float32)
    for i in range(0, n, SIDE):
        x, y = tl.load(a + at[:, None] * n + at[None] + i), tl.load(b + (i + at[:, None]) * SIDE + at[None])
        total = tl.dot(x, y, total)
    tl.store(out + at[:, None] * SIDE + at[None], total)

@triton.jit
def crowded(x, out, WIDE: tl.constexpr):
    at = tl.arange(0, WIDE)
    value = tl.load(x + at)
    tl.store(out + at, value * tl.sum(value))

inputs = dict.fromkeys("ab", "*bf16:16")
full = {**inputs, "out": "*fp32:16", "n": "i32:16"}
plain = {name: kind.removesuffix(":16") for name, kind in full.items()}
cases = {
    "product": AotCase("product", product, full, {"gone": None}, Config({"SIDE": 64}), True),
    "unaligned": AotCase("unaligned", product, plain, {"gone": None}, Config({"SIDE": 64}), True),
    "crossed": AotCase("crossed", crossed, {"out": "*fp32:16", "n": "i32"}, {}, Config({"SIDE": 64, "ASYNC": True})),
    "waiting": AotCase("waiting", crossed, {"out": "*fp32:16", "n": "i32"}, {}, Config({"SIDE": 64, "ASYNC": False})),
    "bounded": AotCase("bounded", crowded, {"x": "*fp32", "out": "*fp32"}, {}, Config({"WIDE": 8192}, registers=40)),
    "crowded": AotCase("crowded", crowded, {"x": "*fp32", "out": "*fp32"}, {}, Config({"WIDE": 65536})),
}
reports = {name: asdict(compile_case(case)) for name, case in cases.items()}
try:
    compile_case(AotCase("short", product, inputs, {"gone": None}, Config({"SIDE": 64})))
except AssertionError as error:
    reports["short"] = str(error)
print(reports)
"""


def python(*arguments: str, interpret: bool = False) -> subprocess.CompletedProcess[str]:
    """A Python of its own, where Triton compiles."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": str(ROOT), **({"TRITON_INTERPRET": "1"} if interpret else {})}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("op", aot.ops())
def test_every_shipped_configuration(op: str) -> None:
    done = python("-m", "kernels.aot", op)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) > 1


def test_every_op_says_what_it_ships() -> None:
    assert aot.ops() == sorted(path.parent.name for path in aot.FOLDER.glob("*/op.py"))


def test_every_setting_is_compiled() -> None:
    done = python("-c", "from kernels.aot import untried; print(untried())")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_reads_what_the_assembler_says(tmp_path: Path) -> None:
    source = tmp_path / "probe.py"
    source.write_text(PROBE)
    done = python(str(source))
    reports = ast.literal_eval(done.stdout)
    product, crowded = reports["product"], reports["crowded"]
    assert product["wgmma"] and product["spills"] == 0 and product["shared_bytes"] >= 2 * 64 * 64 * 2
    assert crowded["spills"] > 0 and not crowded["wgmma"]
    assert reports["bounded"]["registers"] <= 40 and reports["bounded"]["spills"] > 0
    assert reports["crossed"]["serialized"] and not reports["waiting"]["serialized"]
    assert reports["unaligned"]["registers"] > product["registers"], "aligned loads are wide and skip the registers"
    assert "not said" in reports["short"] and "'out'" in reports["short"]


@pytest.mark.parametrize(
    ("report", "expect_wgmma", "fault"),
    [
        (aot.AotReport(255, 0, 227 * 1024, True, 1.0), True, []),
        (aot.AotReport(64, 0, 1024, False, 1.0), False, []),
        (aot.AotReport(255, 8, 1024, True, 1.0), True, ["spills 8 bytes"]),
        (aot.AotReport(64, 0, 227 * 1024 + 1, True, 1.0), True, ["shared memory over 232448 bytes"]),
        (aot.AotReport(64, 0, 1024, False, 1.0), True, ["no wgmma"]),
        (aot.AotReport(64, 0, 1024, True, 1.0, True), True, ["wgmma serialized"]),
        (None, False, ["does not compile: why"]),
    ],
)
def test_what_is_a_fault(report: aot.AotReport | None, expect_wgmma: bool, fault: list[str]) -> None:
    outcome = aot.Outcome("op", "case", expect_wgmma, report, "why")
    assert outcome.faults() == fault
    assert all(text in aot.table([outcome]) for text in fault)


def test_a_case_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    failed = aot.Outcome("adamw", "case", False, None, "why")
    monkeypatch.setattr(aot, "compile_all", lambda names, jobs: [failed])
    assert aot.main(["adamw"]) == 1 and "does not compile: why" in capsys.readouterr().out


def test_says_what_it_cannot_do() -> None:
    interpreted = python("-m", "kernels.aot", interpret=True)
    unknown = python("-m", "kernels.aot", "nothing")
    assert interpreted.returncode == unknown.returncode == 2
    assert "TRITON_INTERPRET" in interpreted.stderr and len(interpreted.stderr.splitlines()) == 1
    assert "no such op: nothing; there are: " in unknown.stderr
