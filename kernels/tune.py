"""Find the best settings of an op on this GPU and check them in: `python -m kernels.tune OP`.

For every size bucket, each candidate is checked against the reference on a small shape and timed on a large one. The
fastest right one replaces the op's entry in `kernels/configs/<arch>.json`, if it is faster than the present one by
more than the noise. Attention has kernels in two languages: Gluon's is chosen where its best is faster than Triton's.
Needs a GPU: exit code 2 without one. Compile what was chosen with `python -m kernels.aot`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kernels import runtime, timing, workloads
from kernels.attention.gluon import launch as gluon
from kernels.runtime import Config
from kernels.workloads import Workload

NOISE = 0.02
"""A candidate must be faster than the present settings by this share to replace them."""
TOLERANCE = 1e-2
"""Relative L2 distance from the float32 reference, for inputs in bf16."""
ALWAYS_SAID = ("blocks", "warps", "stages")
"""Of an entry; what else it has is said where it is not the default."""


@dataclass(frozen=True, slots=True)
class Space:
    """One entry of the settings and what to try for it. `key`, `bucket`: its place in the file.

    `vary`: values by the name of a tile size or flag, "warps" or "stages"; the rest stays as it is. The `direction`
    that uses the entry is checked on `small` and timed on `large`; both must fall into the bucket. `rival`: the entry,
    tuned before, of a kernel for the same tensors.
    """

    key: str
    bucket: str
    direction: str
    vary: dict[str, tuple[Any, ...]]
    small: Workload
    large: Workload
    rival: tuple[str, str] | None = None

    def candidates(self, present: Config) -> list[Config]:
        """The present settings first, then every combination of the others."""
        tries = (
            _changed(present, dict(zip(self.vary, x, strict=True))) for x in itertools.product(*self.vary.values())
        )
        return [present, *(config for config in tries if config != present)]


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate, and its median time, or why it has none."""

    config: Config
    ms: float | None
    error: str = ""


def spaces(op: str) -> list[Space]:
    """What is tuned of an op; the later ones with the earlier ones' best settings."""
    return list(_SPACES[op]())


def _attention() -> Iterator[Space]:
    small, large = workloads.attention("check", 1, 1000), workloads.attention("256px D", 3, 8960)
    vary = {"BLOCK_M": (64, 128), "BLOCK_N": (32, 64, 128), "warps": (4, 8), "stages": (2, 3, 4)}
    parts = (("forward", "forward"), ("backward_kv", "backward"), ("backward_q", "backward"))
    for name, direction in parts:
        yield Space(f"attention_{name}", "tma_d128", direction, vary, small, large)
    for name, direction in parts:
        rival = (f"attention_{name}", "tma_d128")
        yield Space(f"attention_{name}_gluon", "d128", direction, _GLUON[name], small, large, rival)


def _fused(op: str, bucket: str, forward: dict[str, tuple[Any, ...]], backward: dict[str, tuple[Any, ...]]) -> Any:
    make = getattr(workloads, op)
    small, large = make("check", 2, 1000), make("768px D, batch 2, a rank of 4", 2, 19136)
    return lambda: [
        Space(op, bucket, "forward", forward, small, large),
        Space(f"{op}_backward", bucket, "backward", backward, small, large),
    ]


def _relu_linear_attention() -> Iterator[Space]:
    shapes = {"short": (64, 1000, 4096), "medium": (32, 9000, 32768), "long": (2, 70_001, 294_912)}
    for bucket, (heads, positions, many) in shapes.items():
        small = workloads.relu_linear_attention("check", 1, heads, positions)
        large = workloads.relu_linear_attention("DC-AE", 1, max(heads, 32), many)
        for key, direction in (("relu_linear_attention", "forward"), ("relu_linear_attention_backward", "backward")):
            vary = {"BLOCK_N": (32, 64, 128), "TILES": (4, 16, 64), "warps": (2, 4, 8), "stages": (2, 3)}
            yield Space(key, bucket, direction, vary, small, large)


def _in_place(op: str, small: Workload, large: Workload, vary: dict[str, tuple[Any, ...]]) -> Any:
    return lambda: [Space(op, "any", "forward", vary, small, large)]


_GLUON: dict[str, dict[str, tuple[Any, ...]]] = {
    "forward": {"BLOCK_N": (64, 128), "STAGES": (2, 3, 4), "PINGPONG": (False, True)},
    "backward_kv": {"BLOCK_M": (32, 64), "STAGES": (2, 3, 4)},
    "backward_q": {"BLOCK_N": (64, 128), "STAGES": (2, 3, 4)},
}
_PROGRAMS = {"PROGRAMS": (132, 264, 528, 1056), "STAGES": (1, 2, 3)}
_NORM = {"BLOCK_L": (1, 2), "warps": (4, 8, 16), **_PROGRAMS}
_HEADS = {"BLOCK_L": (1, 2, 4), "BLOCK_H": (4, 8), "warps": (2, 4), **_PROGRAMS, "STAGES": (1, 2)}
_GELU = {"BLOCK_D": (512, 1024, 2048), "BLOCK_L": (1, 2, 4), "warps": (4, 8)}
_SPACES: dict[str, Callable[[], Any]] = {
    "attention": _attention,
    "merge_partial": _in_place(
        "merge_partial",
        workloads.merge_partial("check", 2, 1000),
        workloads.merge_partial("768px D", 2, 19136),
        {"BLOCK_L": (8, 16, 32, 64), "warps": (2, 4, 8)},
    ),
    "qk_norm_rope": _fused("qk_norm_rope", "128", _HEADS, _HEADS),
    "layernorm_modulate": _fused("layernorm_modulate", "any", _NORM, _NORM),
    "gate_residual_layernorm_modulate": _fused("gate_residual_layernorm_modulate", "any", _NORM, _NORM),
    "bias_gelu_tanh": _fused("bias_gelu_tanh", "any", _GELU, _GELU),
    "relu_linear_attention": _relu_linear_attention,
    "adamw": _in_place(
        "adamw",
        workloads.adamw("check", 100_003),
        workloads.adamw("500 M parameters", 500_000_000),
        {"BLOCK": (512, 1024, 2048, 4096), "warps": (4, 8, 16)},
    ),
}


def choose(candidates: Sequence[Config], measure: Callable[[Config], float]) -> tuple[Config, list[Trial]]:
    """The best of the candidates, of which the first is the present one, by milliseconds that `measure` finds.

    A candidate for which `measure` raises is left out, and its trial says why. RuntimeError where all are.
    """
    trials = [_try(config, measure) for config in candidates]
    right = [(trial.ms, index) for index, trial in enumerate(trials) if trial.ms is not None]
    if not right:
        raise RuntimeError(f"no candidate works; the first: {trials[0].error}")
    best_ms, best = min(right)
    present_ms = trials[0].ms
    if present_ms is not None and not faster(best_ms, present_ms):
        best = 0
    return candidates[best], trials


def faster(ms: float, than_ms: float) -> bool:
    """By more than the noise."""
    return ms <= than_ms * (1 - NOISE)


def _try(config: Config, measure: Callable[[Config], float]) -> Trial:
    try:
        return Trial(config, measure(config))
    except Exception as error:
        return Trial(config, None, f"{type(error).__name__}: {error}".splitlines()[0])


def _changed(config: Config, values: dict[str, Any]) -> Config:
    launch = {name: values[name] for name in ("warps", "stages") if name in values}
    blocks = {name: value for name, value in values.items() if name not in launch}
    assert blocks.keys() <= config.blocks.keys(), f"{sorted(blocks)} are not all among {sorted(config.blocks)}"
    return replace(config, blocks={**config.blocks, **blocks}, **launch)


def tune(space: Space, table: dict[str, dict[str, Config]], device: str = "cuda") -> tuple[Config, list[Trial]]:
    """The best settings for a space; `table` is what ops read theirs from, and holds them afterwards."""
    large = space.large.inputs(device)
    small = space.small.inputs(device)
    exact = timing.pass_of(workloads.plain(space.small.op), timing.copies(small, torch.float32), space.direction)()

    def measure(config: Config) -> float:
        with using(table, space, config):
            function = workloads.kernel(space.small.op)
            apart = timing.distance(timing.pass_of(function, timing.copies(small), space.direction)(), exact)
            if not apart <= TOLERANCE:
                raise ValueError(f"{apart:.1e} from the reference")
            return timing.measure(timing.pass_of(function, large, space.direction)).median_ms

    best, trials = choose(space.candidates(table[space.key][space.bucket]), measure)
    table[space.key][space.bucket] = best
    return best, trials


@contextmanager
def using(table: dict[str, dict[str, Config]], space: Space, config: Config) -> Iterator[None]:
    """Settings that ops launch with for a while, and no kernel of Gluon's but theirs."""
    before = table[space.key][space.bucket]
    table[space.key][space.bucket] = config
    gluon.prefer(frozenset({space.rival[0]} if space.rival else ()))
    try:
        yield
    finally:
        table[space.key][space.bucket] = before
        gluon.prefer(None)


def write(arch: str, chosen: dict[tuple[str, str], Config], folder: Path = runtime.CONFIGS) -> Path:
    """Put the chosen settings, by (key, bucket), into the architecture's file and leave the rest of it as it is.

    An architecture without a file gets the default's, since every op must find its settings in one file.
    """
    path = folder / f"{arch}.json"
    source = path if path.exists() else folder / f"{runtime.DEFAULT_ARCH}.json"
    data = json.loads(source.read_text())
    for (key, bucket), config in chosen.items():
        plain = asdict(Config(config.blocks))
        said = {name: x for name, x in asdict(config).items() if x != plain[name] or name in ALWAYS_SAID}
        data.setdefault(key, {})[bucket] = said
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kernels.tune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("op", choices=sorted(_SPACES))
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("tuning needs a GPU, and PyTorch sees none", file=sys.stderr)
        return 2
    arch = runtime.arch()
    table = runtime.table(arch)
    times = dict[tuple[str, str], float]()
    for space in spaces(options.op):
        if space.rival is not None and arch != gluon.ARCH:
            continue
        try:
            best, trials = tune(space, table)
        except RuntimeError as error:
            print(f"{space.key}/{space.bucket}: {error}", file=sys.stderr)
            continue
        print(report(space, best, trials), flush=True)
        chosen = settle(space, best, trials, times)
        print(f"written to {write(arch, {(space.key, space.bucket): chosen})}", flush=True)
    return int(not times)


def settle(space: Space, best: Config, trials: Sequence[Trial], times: dict[tuple[str, str], float]) -> Config:
    """The best of a space, `chosen` where it has a rival if it is the faster. Milliseconds go to `times`."""
    ms = next(trial.ms for trial in trials if trial.config == best)
    assert ms is not None
    times[space.key, space.bucket] = ms
    if space.rival is None:
        return best
    return replace(best, chosen=space.rival not in times or faster(ms, times[space.rival]))


def report(space: Space, best: Config, trials: Sequence[Trial]) -> str:
    """Every trial, the fastest first, those that failed last."""
    order = sorted(trials, key=lambda trial: (trial.ms is None, trial.ms))
    lines = [f"{space.key}/{space.bucket}, {space.direction}, {space.large.name}"]
    for trial in order:
        mark = "*" if trial.config == best else " "
        result = f"{trial.ms:9.4f} ms" if trial.ms is not None else f"  {trial.error}"
        lines.append(f" {mark} {json.dumps(trial.config.launch())} {result}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
