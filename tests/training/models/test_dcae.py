"""The Video DC-AE against the public one: sizes, names, blocks, the whole network, tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.support import golden
from tests.training.dcae_golden import model_of
from training.models.dcae import PRESETS, DcAeConfig, Tiling, VideoDcAe
from training.models.dcae.blocks import (
    ChannelRmsNorm,
    ConvLayer,
    GluMbConv,
    LiteMla,
    OpList,
    ResBranch,
    Residual,
    VitBlock,
)
from training.models.dcae.resample import (
    Down,
    FromLatent,
    ToLatent,
    Up,
    channel_to_space,
    space_to_channel,
)


@pytest.fixture(scope="module")
def tiny() -> tuple[VideoDcAe, dict[str, Any]]:
    return model_of("dcae_tiny")


def parameters(config: DcAeConfig) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {name: list(tensor.shape) for name, tensor in VideoDcAe(config).state_dict().items()}


def test_names_and_shapes_are_the_released_ones():
    manifest = golden.table("manifest_dcae_f32t4c128")
    assert parameters(PRESETS["f32t4c128"]) == manifest["parameters"]


def count(preset: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in VideoDcAe(PRESETS[preset]).parameters())


def test_parameter_counts():
    assert count("f32t4c128") == 459_462_147
    assert round(count("f32t4c256") / 1e6, 1) == 466.5


@pytest.mark.parametrize("case", ["in.video out.latent out.video", "image.in image.latent image.out"])
def test_whole_network(tiny: tuple[VideoDcAe, dict[str, Any]], case: str):
    model, found = tiny
    video, latent, rebuilt = (found[name] for name in case.split())
    with torch.no_grad():
        golden.close(model.encode(video), latent)
        golden.close(model.decode(latent), rebuilt)


def test_a_clip_of_one_latent_frame_is_a_still_unless_told(tiny: tuple[VideoDcAe, dict[str, Any]]):
    model, found = tiny
    with torch.no_grad():
        golden.close(model.encode(found["short.in"]), found["short.latent"])
        golden.close(model.decode(found["short.latent"]), found["short.out"])
        clip = model.decode(found["short.latent"], still=False)
        twice = model.decode(found["short.latent"].repeat(1, 1, 2, 1, 1))
    assert clip.shape == found["short.in"].shape
    golden.close(clip, twice[:, :, :4])


def test_activations_on_the_way(tiny: tuple[VideoDcAe, dict[str, Any]]):
    model, found = tiny
    wanted = golden.below(found, "inter.")
    seen: dict[str, Any] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _m, _x, out, name=name: seen.update({name: out}))
        for name in wanted
    ]
    with torch.no_grad():
        model.decode(model.encode(found["in.video"]))
    for hook in hooks:
        hook.remove()
    assert len(wanted) == 8
    for name, value in wanted.items():
        golden.close(seen[name], value)


def test_gradients(tiny: tuple[VideoDcAe, dict[str, Any]]):
    model, found = tiny
    video = found["in.video"].clone().requires_grad_()
    loss = (model.decode(model.encode(video)) - found["in.video"]).square().mean()
    golden.close(loss, found["grad.loss"])
    wanted = golden.below(found, "grad.weight.")
    weights = [model.get_parameter(name) for name in wanted]
    got = torch.autograd.grad(loss, [video, *weights])
    assert len(wanted) > 30
    for mine, theirs in zip(got, [found["grad.in.video"], *wanted.values()], strict=True):
        golden.close(mine, theirs, atol=1e-5, rtol=1e-3)


BLOCKS = {
    "rmsnorm": lambda: ChannelRmsNorm(16),
    "resblock": lambda: Residual(ResBranch(16)),
    "litemla": lambda: LiteMla(64),
    "glumbconv": lambda: GluMbConv(32),
    "evit": lambda: VitBlock(32),
    "down0": lambda: Down(16, 32, 1),
    "down1": lambda: Down(32, 32, 2),
    "down2": lambda: Down(32, 64, 2),
    "up0": lambda: Up(32, 16, 1),
    "up1": lambda: Up(32, 32, 2),
    "up2": lambda: Up(64, 32, 2),
    "encoder_out": lambda: ToLatent(64, 8),
    "decoder_in": lambda: FromLatent(8, 64),
    "decoder_out": lambda: OpList(ChannelRmsNorm(16), torch.nn.ReLU(), ConvLayer(16, 3, 3)),
}
SHORTCUTS = {f"down_shortcut{i}": space_to_channel for i in range(3)} | {
    f"up_shortcut{i}": channel_to_space for i in range(3)
}


@pytest.mark.parametrize("name", BLOCKS)
def test_block(name: str):
    found, _ = golden.tensors("dcae_blocks")
    mine = golden.below(found, f"{name}.")
    block = BLOCKS[name]()
    block.load_state_dict(golden.below(mine, "weight."))
    with torch.no_grad():
        for case in ("", "1"):
            if f"in{case}" in mine:
                golden.close(block(mine[f"in{case}"]), mine[f"out{case}"])


@pytest.mark.parametrize("name", SHORTCUTS)
def test_shortcut(name: str):
    found, _ = golden.tensors("dcae_blocks")
    mine = golden.below(found, f"{name}.")
    for case, time in (("", 1 if name.endswith("0") else 2), ("1", 1)):
        out = mine[f"out{case}"]
        golden.close(SHORTCUTS[name](mine[f"in{case}"], out.shape[1], time), out)


def test_the_files_of_blocks_are_all_used():
    _, settings = golden.tensors("dcae_blocks")
    assert set(settings["blocks"]) == BLOCKS.keys() | SHORTCUTS.keys()


MODES = {"untiled": "none", "spatial": "space", "temporal": "time", "both": "both"}


@pytest.mark.parametrize("keep_every_frame", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_tiles(mode: str, keep_every_frame: bool):
    model, found = model_of("dcae_tiling", axes=MODES[mode], keep_every_frame=keep_every_frame)
    with torch.no_grad():
        golden.close(model.encode(found["in.video"]), found[f"{mode}.latent"])
        golden.close(model.decode(found["in.latent"]), found[f"{mode}.video"])


def test_a_tail_of_one_latent_frame_the_public_way():
    model, found = model_of("dcae_tiling", keep_every_frame=False)
    with torch.no_grad():
        golden.close(model.encode(found["tail.in"]), found["tail.latent"])
        golden.close(model.decode(found["tail.latent"]), found["tail.out"])


def test_a_tail_of_one_latent_frame_loses_nothing_by_default():
    """The latent is the public one; the clip has its length, and differs from the public one in the tail alone."""
    model, found = model_of("dcae_tiling")
    with torch.no_grad():
        golden.close(model.encode(found["tail.in"]), found["tail.latent"])
        rebuilt = model.decode(found["tail.latent"])
    assert rebuilt.shape == found["tail.in"].shape
    golden.close(rebuilt[:, :, :24], found["tail.out"][:, :, :24])
    off = (rebuilt - found["tail.out_untiled"])[:, :, 24:].abs().mean()
    assert off < 0.5 * found["tail.out_untiled"][:, :, 24:].abs().mean(), "near to what one pass over the clip gives"


@pytest.mark.parametrize(("frames", "public"), [(52, 49), (76, 73), (96, 96), (100, 97), (124, 121), (128, 128)])
def test_lengths_with_the_released_tiles(frames: int, public: int):
    small = DcAeConfig(
        latent_channels=4,
        widths=(4, 4, 8),
        blocks=("res", "res", "res"),
        encoder_depths=(0, 0, 0),
        decoder_depths=(0, 0, 0),
        halve_time=(True, True),
    )
    latent = torch.zeros(1, 4, frames // 4, 1, 1)
    with torch.no_grad():
        assert VideoDcAe(small).decode(latent).shape[2] == frames
        lossy = replace(small, tiling=Tiling(keep_every_frame=False))
        assert VideoDcAe(lossy).decode(latent).shape[2] == public
