"""How fast a step was: tokens and samples a second, the share of it that was waiting, MFU; of a GPU its memory and its
clock, for one that is too hot or short of power is slow and says so nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from training.callbacks.base import Quiet, Report
from training.cost.formulas import GPUS, Gpu, mfu

if TYPE_CHECKING:
    from training.trainer import Progress


class Speed(Quiet):
    """`mfu_dit` over forward and backward, `mfu_step` over the whole step; none where no peak is known, as of a CPU."""

    def __init__(self, device: torch.device, ranks: int, gpu: Gpu | None = None) -> None:
        self._device, self._ranks = device, ranks
        self._gpu = gpu or gpu_of(device)

    def after_step(self, progress: Progress, report: Report) -> None:
        values = report.values
        values["tokens_per_s"] = report.tokens / report.seconds
        values["samples_per_s"] = report.samples / report.seconds
        values["waiting"] = report.waited / report.seconds
        if self._gpu is not None:
            values["mfu_dit"] = mfu(report.flops, report.computed, self._ranks, self._gpu)
            values["mfu_step"] = mfu(report.flops, report.seconds, self._ranks, self._gpu)
        if self._device.type == "cuda":
            values["memory_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
            if (clock := clock_mhz(self._device)) is not None:
                values["clock_mhz"] = clock


def clock_mhz(device: torch.device) -> float | None:
    """Of the GPU's processors, now; None where NVIDIA's management library (`nvidia-ml-py`) cannot be asked."""
    try:
        return float(torch.cuda.clock_rate(device))
    except (ImportError, RuntimeError):
        return None


def gpu_of(device: torch.device) -> Gpu | None:
    """What is known of the GPU, by its name."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((gpu for gpu in GPUS.values() if gpu.name in name), None)
