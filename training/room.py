"""A device that has too little memory for a step: which key to change, by an estimate of what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from curation.errors import UserError
from training.assemble import BaseJob, Job, Parts
from training.cost import memory
from training.cost.formulas import Transformer
from training.data.batches import Batches
from training.models.mmdit import preset as sizes_of
from training.parallel.base import Engine
from training.presets import AutoencoderPreset, RunPreset

_OF_CPU = ("DefaultCPUAllocator", "not enough memory")
_GIB = 2**30


@contextmanager
def told_of_memory(job: BaseJob, engine: Engine, parts: Parts, batches: Batches) -> Iterator[None]:
    """UserError in the place of torch's, which tells of an allocator and not of a batch."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in str(error) for words in _OF_CPU):
            raise
        raise too_little(job, engine, parts, batches) from error


def too_little(job: BaseJob, engine: Engine, parts: Parts, batches: Batches) -> UserError:
    """What was held at most, in the run's largest micro-batch, and the first thing to change."""
    largest = max(batches.buckets, key=parts.cost)
    most = _bytes_of(engine.device)
    told = (
        f"too little memory on {engine.device} ({most / _GIB:.0f} GiB) to train on {largest.batch} samples of {largest}"
    )
    if not isinstance(job, Job):
        return UserError(told, _remedy(job.preset))
    setting = setting_of(job, engine, parts)
    video = job.source.spec.grid(largest.frames, largest.height, largest.width).tokens
    found = memory.held(setting, largest.batch, video + job.source.empty.tokens_BMD.shape[1])
    state, activations = found.state / _GIB, found.activations / _GIB
    counted = f"about {state:.1f} GiB of weights and optimizer and {activations:.1f} GiB of activations"
    return UserError(f"{told}: {counted}", memory.remedy(setting, found, most, largest.batch))


def _remedy(preset: RunPreset) -> str:
    """Of the autoencoder's, whose activations are nearly all that it holds."""
    if isinstance(preset, AutoencoderPreset) and not preset.recompute:
        return "--set network.recompute=true, which keeps the inputs of blocks alone"
    smaller = "freeze with a bucket table whose buckets are smaller, or have less samples a batch"
    return f"let ranks share a clip: --set parallel.channels={2 * preset.context}; or {smaller}"


def setting_of(job: Job, engine: Engine, parts: Parts) -> memory.Setting:
    """A job as the estimate takes it."""
    preset, model = job.preset, Transformer.of(sizes_of(job.model.denoiser.preset))
    double, single = preset.recompute
    trained = sum(torch.Size(shape).numel() for shape in engine.shapes().values())
    return memory.Setting(
        model=model,
        trained=trained,
        frozen=0 if preset.lora is None else sum(one.numel() for one in parts.network.parameters()) - trained,
        width_bytes=engine.dtype.itemsize,
        engine=engine.name,
        ranks=engine.ranks,
        averages=preset.averages is not None,
        recomputed=(
            model.double if double is None else double,
            model.single if single is None else single,
        ),
        offload=preset.offload,
        context=preset.context,
    )


def _bytes_of(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total
