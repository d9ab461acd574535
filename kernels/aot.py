"""Compile every shipped configuration ahead of time, without a GPU: `python -m kernels.aot [OP ...]`.

An op says in `kernels/<op>/aot.py` which kernels it launches, with which argument types and settings. Here they are
compiled for the GPU that they are meant for, and what the assembler says is checked: no register spilled, no more
shared memory than there is, tensor cores in use where they are expected, and their products never made to wait for
each other. The exit code is 1 where one fails.

Triton must be imported without `TRITON_INTERPRET`: under it there is nothing to compile.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernels import runtime
from kernels.runtime import Config, interpreting

SHARED_BYTES = 227 * 1024
"""Shared memory that a block may have on an H100 or H200."""
FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class AotCase:
    """One kernel as one launch compiles it.

    `signature`: types of the arguments that are no constants ("*bf16", "i32", "fp32", "tensordesc<bf16[64,128]>"), by
    name, in any order. Add ":16" where the launch's value is always a multiple of 16, as an aligned pointer is: Triton
    sees it at launch and loads in wider pieces. `constexprs`: the constants that `config.blocks` has not, and an
    argument that is always 1 (a unit stride) or None, since Triton makes a constant of it.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    config: Config
    expect_wgmma: bool = False


@dataclass(frozen=True, slots=True)
class AotReport:
    """What the assembler made of a case. `spills`: bytes stored and loaded; `seconds`: to compile it.

    `serialized`: it could not tell what registers a product on the tensor cores uses, and waits for each at once.
    """

    registers: int
    spills: int
    shared_bytes: int
    wgmma: bool
    seconds: float
    serialized: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case and its report, or why it does not compile."""

    op: str
    case: str
    expect_wgmma: bool
    report: AotReport | None
    error: str = ""

    def faults(self) -> list[str]:
        """What keeps the case from being shipped."""
        if self.report is None:
            return [f"does not compile: {self.error}"]
        checks = (
            (self.report.spills > 0, f"spills {self.report.spills} bytes"),
            (self.report.shared_bytes > SHARED_BYTES, f"shared memory over {SHARED_BYTES} bytes"),
            (self.expect_wgmma and not self.report.wgmma, "no wgmma"),
            (self.report.serialized, "wgmma serialized"),
        )
        return [text for wrong, text in checks if wrong]


def compile_case(case: AotCase, target: str = "sm_90") -> AotReport:
    """Compile for an architecture, as in "sm_90". Raises what Triton raises; AssertionError for a wrong signature."""
    started = time.monotonic()
    compiled = compile_kernel(case, target)
    seconds = time.monotonic() - started
    return read_report(compiled.asm["ptx"], compiled.metadata.shared, seconds, _capability(target))


def compile_kernel(case: AotCase, target: str = "sm_90") -> Any:
    """Triton's compiled kernel, of a case."""
    import triton
    from triton.backends.compiler import GPUTarget

    assert not interpreting(), "TRITON_INTERPRET is set: there is nothing to compile"
    source = _source(case.kernel)(case.kernel, *_arguments(case))
    return triton.compile(source, GPUTarget("cuda", _capability(target), 32), case.config.options())


def _capability(target: str) -> int:
    return int(target.removeprefix("sm_"))


def read_report(ptx: str, shared_bytes: int, seconds: float = 0.0, capability: int = 90) -> AotReport:
    """What the assembler makes of a kernel that is compiled."""
    said = _assemble(ptx, capability)
    registers = max(int(n) for n in re.findall(r"Used (\d+) registers", said))
    spills = sum(int(n) for n in re.findall(r"(\d+) bytes spill", said))
    return AotReport(registers, spills, shared_bytes, "wgmma.mma_async" in ptx, seconds, "are serialized" in said)


def _source(kernel: Any) -> Any:
    """What the compiler takes for a kernel: it has two languages."""
    if kernel.is_gluon():
        from triton.experimental.gluon._runtime import GluonASTSource

        return GluonASTSource
    from triton.compiler import ASTSource

    return ASTSource


def _arguments(case: AotCase) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[Any]]]]:
    """The signature in the kernel's order, its constants, and which arguments are multiples of 16."""
    constants = {**case.constexprs, **case.config.blocks}
    names = case.kernel.arg_names
    said = set(case.signature) | set(constants)
    assert said == set(names), f"{case.name}: not said {set(names) - said}, unknown {said - set(names)}"
    assert not set(case.signature) & set(constants), f"{case.name}: said twice"
    signature, aligned = dict[str, str](), dict[tuple[int], list[list[Any]]]()
    for index, name in enumerate(names):
        kind, _, multiple = case.signature.get(name, "constexpr").partition(":")
        signature[name] = kind
        if multiple:
            assert multiple == "16", f"{case.name}: {name}: only multiples of 16 count"
            aligned[(index,)] = [["tt.divisibility", 16]]
    return signature, constants, aligned


def _assemble(ptx: str, capability: int) -> str:
    """The assembler's verbose output: without a GPU, only it says what a kernel takes."""
    from triton import knobs

    architecture = f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [knobs.nvidia.ptxas.path, "-v", f"--gpu-name={architecture}", str(source), "-o", f"{source}.cubin"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def ops() -> list[str]:
    """Every op that says what it ships."""
    return sorted(path.parent.name for path in FOLDER.glob("*/aot.py"))


def cases(op: str) -> list[AotCase]:
    return importlib.import_module(f"kernels.{op}.aot").cases()


def compile_all(names: list[str], jobs: int = 2) -> list[Outcome]:
    """Compile every case of these ops in `jobs` processes. One that fails is an outcome like the others."""
    work = [(op, index) for op in names for index in range(len(cases(op)))]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(_outcome, work))


def _outcome(work: tuple[str, int]) -> Outcome:
    op, index = work
    case = cases(op)[index]
    try:
        return Outcome(op, case.name, case.expect_wgmma, compile_case(case))
    except Exception as error:
        return Outcome(op, case.name, case.expect_wgmma, None, f"{type(error).__name__}: {error}")


def untried() -> list[str]:
    """Settings that are shipped for a GPU and that no case compiles, as "op/bucket"."""
    tried = [case.config for op in ops() for case in cases(op)]
    shipped = runtime.table(runtime.DEFAULT_ARCH)
    return [
        f"{op}/{bucket}"
        for op, buckets in shipped.items()
        for bucket, config in buckets.items()
        if bucket != "interpreter" and config not in tried
    ]


def table(outcomes: list[Outcome]) -> str:
    """One line a case, as aligned text."""
    return "\n".join([_line("op", "case", ("regs", "spill", "shared", "wgmma", "s"), ""), *map(line, outcomes)])


def line(outcome: Outcome) -> str:
    return _line(outcome.op, outcome.case, _figures(outcome.report), "; ".join(outcome.faults()))


def _line(op: str, case: str, figures: tuple[str, ...], faults: str) -> str:
    return f"{op:24} {case:48}{''.join(f'{figure:>8}' for figure in figures)}  {faults}".rstrip()


def _figures(report: AotReport | None) -> tuple[str, ...]:
    if report is None:
        return ("-",) * 5
    wgmma = "yes" if report.wgmma else "no"
    return str(report.registers), str(report.spills), str(report.shared_bytes), wgmma, f"{report.seconds:.1f}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kernels.aot", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("op", nargs="*", help="only these ops")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args(arguments)
    if interpreting():
        print("TRITON_INTERPRET is set: there is nothing to compile; unset it", file=sys.stderr)
        return 2
    if unknown := set(options.op) - set(ops()):
        print(f"no such op: {', '.join(sorted(unknown))}; there are: {', '.join(ops())}", file=sys.stderr)
        return 2
    outcomes = compile_all(options.op or ops(), options.jobs)
    print(table(outcomes))
    missed = [] if options.op else untried()
    for name in missed:
        print(f"{name}: settings that no case compiles")
    return int(bool(missed) or any(outcome.faults() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
