"""Every op's launches compile as Triton specializes them, without a GPU.

The interpreter takes any argument by any name, and compiling ahead of time takes what it is told: neither sees what
only a launch does. Triton's interpreter is on in this process, so it is done in another.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton")

from kernels import workloads
from tests.kernels.test_aot import python

OPS = sorted({work.op for work in workloads.all_workloads()})


@pytest.fixture(scope="module")
def launches() -> str:
    """A line a launch, of all ops: they share what takes the longest, the start."""
    done = python("-m", "tests.support.launches")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("op", OPS)
def test_every_launch(launches: str, op: str) -> None:
    kernels = {line.split()[1] for line in launches.splitlines() if line.split()[0] == op}
    assert len(kernels) >= {"adamw": 1, "merge_partial": 1, "attention": 4}.get(op, 2), launches


PROBE = """
import sys, torch, triton, triton.language as tl
from kernels import runtime
from tests.support import launches

@triton.jit
def fill(params, SIZE: tl.constexpr):
    tl.store(params + tl.arange(0, SIZE), 1.0)

launches.passes = lambda op: [
    lambda: runtime.launch(fill, (1,), torch.empty(16), SIZE=16), lambda: fill[(1,)](torch.empty(16), SIZE=16)
]
sys.exit(launches.main(["fill"]))
"""


def test_a_launch_that_fails_is_reported(tmp_path: Path) -> None:
    """An argument with a name that Triton's launcher uses for itself, and a launch past the one door."""
    (tmp_path / "probe.py").write_text(PROBE)
    done = python(str(tmp_path / "probe.py"))
    assert done.returncode == 1, done.stderr
    first, second = done.stdout.splitlines()
    assert "fill" in first and "failed to specialize argument" in first
    assert "does not come through runtime.launch" in second
