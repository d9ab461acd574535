"""One network in a process of its own: builds it, then times and weighs what `bench.models` asks for, line by line.

    python -m bench.models.work cpu "blocks" "ours, eager"      works: what it can be asked for
    time NAME | memory NAME                                     an answer each, one line of JSON; a GPU gives both
    python -m bench.models.work cuda about                      what device and which versions

Seconds are CPU-seconds of one thread on a CPU, and synchronised wall-clock seconds on a GPU. Memory is what a run,
its input with it, adds at its peak to what was there before: of the process on a CPU (the kernel's high-water mark), of
torch's allocator on a GPU.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.models import plan
from bench.models.plain import make_plain
from training.models.base import LatentSpec, TextStates
from training.models.dcae import Tiling, VideoDcAe
from training.models.dcae import preset as dcae_preset
from training.models.hunyuan import HunyuanConfig, HunyuanVae, Tiles
from training.models.mmdit import MMDiT, MMDiTConfig
from training.sampling.denoise import Settings, Told, Walk
from training.sampling.guidance import Guidance, Pass, Scales

Work = Callable[[], object]
DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}
SMALL_HUNYUAN = HunyuanConfig(block_out_channels=(8, 16, 32, 32), layers_per_block=1, norm_num_groups=8)


def main() -> None:
    device, what, *variant = sys.argv[1:]
    # What libraries print must not end up among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    torch.manual_seed(0)
    if what == "about":
        print(json.dumps(about(device)), file=answers, flush=True)
        return
    if device == "cpu":
        torch.set_num_threads(1)
    works = WORKS[what](device, variant[0], what)
    assert set(works) == set(plan.works(device, what)), f"the plan names other works than {sorted(works)}"
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        order, _, name = line.strip().partition(" ")
        print(json.dumps(answer(device, order, works[name])), file=answers, flush=True)


def answer(device: str, order: str, work: Work) -> dict[str, Any]:
    """One run's `seconds`, or the bytes that it `added` to those `before`; `failed` says in words why not."""
    try:
        if device == "cuda":
            return _on_gpu(work)
        return _weighed(work) if order == "memory" else _timed(work)
    except torch.OutOfMemoryError:
        failed = plan.OUT_OF_MEMORY
    except Exception as error:  # whatever a compiler or driver raises: the other cases are measured all the same
        failed = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return {"failed": failed}


def _on_gpu(work: Work) -> dict[str, Any]:
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "before": before, "added": torch.cuda.max_memory_allocated() - before}


def _timed(work: Work) -> dict[str, Any]:
    started = time.process_time()
    work()
    return {"seconds": time.process_time() - started}


def _weighed(work: Work) -> dict[str, Any]:
    # The heap's free pages go back to the kernel first, else a run would fill them unseen.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work()
    return {"before": before, "added": _status("VmHWM") - before}


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def about(device: str) -> dict[str, Any]:
    """The device's name, torch's version and the kernel that serves attention; `missing`: why there is no device."""
    found: dict[str, Any] = {"torch": torch.__version__}
    if device == "cuda" and not torch.cuda.is_available():
        return found | {"missing": "no GPU is at hand"}
    length = plan.LENGTHS[device][0]
    q = torch.randn(1, 2, length.text, 128, device=device, dtype=DTYPE[device], requires_grad=True)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return found | {"name": name, "attention": attention_kernel(q)}


def attention_kernel(q: Tensor) -> str:
    """The kernel that scaled_dot_product_attention chooses for such heads (B, H, L, D), by torch's own name."""
    prefix = "aten::_scaled_dot_product_"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        functional.scaled_dot_product_attention(q, q, q)
    names = {str(event.key) for event in profile.key_averages()}
    return ", ".join(sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))) or "none"


def blocks(device: str, variant: str, what: str) -> dict[str, Work]:
    """Forward and backward of all blocks: gradients of the weights and of what enters."""
    model = _mmdit(device, variant)
    return {length.name: partial(_train, model, length, device) for length in plan.LENGTHS[device]}


def _train(model: MMDiT, length: plan.Length, device: str) -> None:
    width, dtype = model.config.hidden_size, DTYPE[device]
    draw = partial(torch.randn, device=device, dtype=dtype, requires_grad=True)
    img = draw(length.batch, length.grid.tokens, width)
    txt, vec = draw(length.batch, length.text, width), draw(length.batch, width)
    try:
        out = model.transform(img, txt, vec, model.rope(length.grid, length.text, img.device))
        out.float().square().mean().backward()
    finally:  # gradients of a step that ran out of memory must not weigh on the next
        model.zero_grad(set_to_none=True)


def _mmdit(device: str, variant: str) -> MMDiT:
    with torch.device(device):
        model = MMDiT(MMDiTConfig(**plan.NETWORK[device])).to(DTYPE[device])
    if variant in (plan.PLAIN, plan.PLAIN_COMPILED):
        make_plain(model)
    if variant in (plan.OURS_COMPILED, plan.PLAIN_COMPILED):
        model.compile_blocks(dynamic=False)
    return model


def sampling(device: str, variant: str, what: str) -> dict[str, Work]:
    """A whole walk of `STEPS` guided steps, all passes of a step in one forward pass."""
    model, length = _mmdit(device, variant), plan.SAMPLED[device]
    config, dtype = model.config, DTYPE[device]
    spec = LatentSpec(config.in_channels // config.patch_size**2, 4, 8, causal=True, patch=config.patch_size)
    t, h, w = length.grid.t, length.grid.h * spec.patch, length.grid.w * spec.patch
    draw = partial(torch.randn, device=device)
    noise = draw(length.batch, spec.channels, t, h, w)
    text, negative = (
        TextStates(draw(length.batch, length.text, config.context_in_dim), draw(length.batch, config.vec_in_dim))
        for _ in range(2)
    )
    image = torch.zeros(length.batch, 1 + spec.channels, t, h, w, device=device)
    image[:, :, 0] = 1
    works: dict[str, Work] = {}
    for kind, given in zip(plan.KINDS, (torch.zeros_like(image), image), strict=True):
        for skipping, guidance in ((False, _ThreePasses), (True, Guidance)):
            settings = Settings(plan.STEPS, guidance(whole_steps=plan.WHOLE_STEPS))
            walk = Walk(model, Told(text, negative, given), noise, spec.patch, settings, dtype)
            works[plan.pass_name(kind, skipping)] = torch.inference_mode()(walk.run)
    return works


class _AllPasses(Scales):
    """The same scales, with nothing skipped."""

    def passes(self, conditioned: bool) -> tuple[Pass, ...]:
        return tuple(Pass)


class _ThreePasses(Guidance):
    """Guidance as the public code runs it."""

    def at(self, step: int, steps: int, latent_frames: int) -> Scales:
        found = Guidance.at(self, step, steps, latent_frames)
        return _AllPasses(found.text, found.image)


def autoencoder(device: str, variant: str, what: str) -> dict[str, Work]:
    """Encoding and decoding one clip, with and without tiles. Weights and pixels are random."""
    clip = plan.CLIPS[device, what]
    works: dict[str, Work] = {}
    for tiled in clip.tiled:
        network, encode, decode = _CODECS[variant](device, clip, tiled)
        network.to(device, DTYPE[device]).eval().requires_grad_(False)
        channels, space = (network.spec.channels, network.spec.space) if variant != plan.DIFFUSERS else (16, 8)
        frames = clip.frames_for(variant)
        video = partial(_drawn, device, 3, frames, clip.height, clip.width)
        latent = partial(_drawn, device, channels, -(-frames // 4), clip.height // space, clip.width // space)
        for way, run, make in (("encode", encode, video), ("decode", decode, latent)):
            works[plan.codec_name(way, clip, tiled)] = partial(_inferred, run, make)
    return works


def _inferred(run: Callable[[Tensor], object], make: Callable[[], Tensor]) -> None:
    with torch.inference_mode():
        run(make())


def _drawn(device: str, *shape: int) -> Tensor:
    return torch.rand(1, *shape, device=device, dtype=DTYPE[device]) * 2 - 1


Codec = tuple[Any, Callable[[Tensor], object], Callable[[Tensor], object]]
"""A network and its two directions."""


def _dcae(device: str, clip: plan.Clip, tiled: bool) -> Codec:
    tiling = Tiling("both", clip.tile) if tiled else Tiling("none")
    network = VideoDcAe(replace(dcae_preset("tiny" if device == "cpu" else "f32t4c128"), tiling=tiling))
    return network, network.encode, network.decode


def _hunyuan(device: str, clip: plan.Clip, tiled: bool) -> Codec:
    config = SMALL_HUNYUAN if device == "cpu" else HunyuanConfig()
    network = HunyuanVae(replace(config, space_tiles=Tiles(clip.tile) if tiled else None))
    return network, network.encode, network.decode


def _diffusers(device: str, clip: plan.Clip, tiled: bool) -> Codec:
    """As it comes: tiles of 16 frames always, tiles of pixels where they are asked for."""
    from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo

    config = SMALL_HUNYUAN if device == "cpu" else HunyuanConfig()
    make: Any = AutoencoderKLHunyuanVideo
    network = make(
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
    )
    if tiled:
        side, stride = clip.tile, Tiles(clip.tile).stride
        network.enable_tiling(
            tile_sample_min_height=side,
            tile_sample_min_width=side,
            tile_sample_stride_height=stride,
            tile_sample_stride_width=stride,
        )
    return network, lambda x: network.encode(x).latent_dist.sample(), network.decode


_CODECS: dict[str, Callable[[str, plan.Clip, bool], Codec]] = {
    plan.DCAE: _dcae,
    plan.HUNYUAN: _hunyuan,
    plan.DIFFUSERS: _diffusers,
}
WORKS: dict[str, Callable[[str, str, str], dict[str, Work]]] = {
    plan.BLOCKS: blocks,
    plan.SAMPLING: sampling,
    plan.AUTOENCODERS: autoencoder,
    plan.LARGE_AUTOENCODERS: autoencoder,
}


if __name__ == "__main__":
    main()
