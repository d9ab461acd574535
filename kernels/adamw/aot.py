"""What the AdamW op compiles to: with and without a copy and a scale, for both widths of the length."""

from __future__ import annotations

from kernels.adamw.kernel import adamw_kernel
from kernels.aot import AotCase
from kernels.runtime import DEFAULT_ARCH, Config, table

NUMBERS = ("one_minus_beta1", "beta2", "one_minus_beta2", "eps", "keep", "step_size", "root_correction2")


def cases() -> list[AotCase]:
    buckets = {name: config for name, config in table(DEFAULT_ARCH)["adamw"].items() if name != "interpreter"}
    return [
        case
        for bucket, config in buckets.items()
        for case in (
            _case(f"{bucket} bf16 gradient and copy", config, "*bf16:16", "i32:16", {"copy": "*bf16:16"}),
            _case(f"{bucket} beyond 2^31", config, "*bf16:16", "i64:16", {"copy": "*bf16:16"}),
            _case(f"{bucket} fp32 gradient, no copy", config, "*fp32:16", "i32:16", {}),
        )
    ]


def _case(name: str, config: Config, grad: str, n: str, copy: dict[str, str]) -> AotCase:
    shards = dict.fromkeys(("weights", "exp_avg", "exp_avg_sq"), "*fp32:16")
    numbers = dict.fromkeys(NUMBERS, "fp32")
    signature = {**shards, **numbers, "grad": grad, "n": n, "scale": "*fp32:16", **copy}
    return AotCase(name, adamw_kernel, signature, {} if copy else {"copy": None}, config)
