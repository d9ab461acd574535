"""On still images the Video DC-AE is diffusers' `AutoencoderDC`, whose kernels go to the middle of time."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from training.models.dcae import DcAeConfig, VideoDcAe
from training.models.dcae.resample import channel_to_space, mean_channels, repeat_channels, space_to_channel

# (ours, diffusers') below a block
RES = [("main.conv1.conv", "conv1"), ("main.conv2.conv", "conv2"), ("main.conv2.norm", "norm")]
VIT = [
    ("context_module.main.aggreg.0.0", "attn.to_qkv_multiscale.0.proj_in"),
    ("context_module.main.aggreg.0.1", "attn.to_qkv_multiscale.0.proj_out"),
    ("context_module.main.proj.conv", "attn.to_out"),
    ("context_module.main.proj.norm", "attn.norm_out"),
    ("local_module.main.inverted_conv.conv", "conv_out.conv_inverted"),
    ("local_module.main.depth_conv.conv", "conv_out.conv_depth"),
    ("local_module.main.point_conv.conv", "conv_out.conv_point"),
    ("local_module.main.point_conv.norm", "conv_out.norm"),
]
ENDS = [
    ("encoder.project_in.conv", "encoder.conv_in"),
    ("encoder.project_out.main.op_list.0.conv", "encoder.conv_out"),
    ("decoder.project_in.main.conv", "decoder.conv_in"),
    ("decoder.project_out.op_list.0", "decoder.norm_out"),
    ("decoder.project_out.op_list.2.conv", "decoder.conv_out"),
]
WIDTHS = (32, 64, 64)


def pairs() -> list[tuple[str, str]]:
    """Names of modules of both networks: two residual stages, then an attention stage, one block each."""
    found = list(ENDS)
    for stage, inner in enumerate((RES, RES, VIT)):
        last = stage == len(WIDTHS) - 1
        ours, theirs = f"encoder.stages.{stage}.op_list", f"encoder.down_blocks.{stage}"
        found += [(f"{ours}.0.{a}", f"{theirs}.0.{b}") for a, b in inner]
        found += [] if last else [(f"{ours}.1.main.conv", f"{theirs}.1.conv")]
        ours, theirs = f"decoder.stages.{stage}.op_list", f"decoder.up_blocks.{stage}"
        block = 0 if last else 1
        found += [(f"{ours}.{block}.{a}", f"{theirs}.{block}.{b}") for a, b in inner]
        found += [] if last else [(f"{ours}.0.main.conv.conv", f"{theirs}.0.conv")]
    return found


def in_the_middle(flat, like):
    """A 2D kernel as the middle tap of a 3D one; vectors and matrices fit as they are."""
    if like.ndim != 5:
        return flat
    kernel = torch.zeros_like(like)
    kernel[:, :, like.shape[2] // 2] = flat.view(*flat.shape, *[1] * (4 - flat.ndim))
    return kernel


def ours_of(theirs: dict) -> VideoDcAe:
    video = VideoDcAe(
        DcAeConfig(
            latent_channels=8,
            widths=WIDTHS,
            blocks=("res", "res", "vit"),
            encoder_depths=(1, 1, 1),
            decoder_depths=(1, 1, 1),
            halve_time=(False, True),
            latent_std=1.0,
        )
    )
    wanted = video.state_dict()
    state = {}
    for a, b in pairs():
        for kind in ("weight", "bias"):
            if f"{a}.{kind}" in wanted:
                state[f"{a}.{kind}"] = in_the_middle(theirs[f"{b}.{kind}"], wanted[f"{a}.{kind}"])
    for side, block in (("encoder", "down_blocks"), ("decoder", "up_blocks")):
        qkv = torch.cat([theirs[f"{side}.{block}.2.0.attn.to_{part}.weight"] for part in "qkv"])
        name = f"{side}.stages.2.op_list.0.context_module.main.qkv.conv.weight"
        state[name] = in_the_middle(qkv, wanted[name])
    video.load_state_dict(state)
    return video


def test_images_as_diffusers_does():
    """8x8 latent positions: above the 32 below which diffusers takes the quadratic form of attention."""
    torch.manual_seed(0)
    image = diffusers.AutoencoderDC(
        latent_channels=8,
        attention_head_dim=32,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=WIDTHS,
        decoder_block_out_channels=WIDTHS,
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        downsample_block_type="Conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    ).eval()
    with torch.no_grad():
        for parameter in image.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        video = ours_of(image.state_dict())
        x = torch.randn(2, 3, 32, 32)
        latent = image.encode(x).latent
        torch.testing.assert_close(video.encode(x[:, :, None])[:, :, 0], latent, atol=1e-4, rtol=1e-4)
        rebuilt = image.decode(latent).sample
        torch.testing.assert_close(video.decode(latent[:, :, None])[:, :, 0], rebuilt, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("deep", "shallow", "time"),
    [(1024, 1024, 2), (1024, 512, 2), (512, 512, 1), (512, 256, 1), (256, 128, 1)],
)
def test_up_then_down_is_the_identity(deep: int, shallow: int, time: int):
    """Of every size of the decoder: what the up shortcut spreads out, the down shortcut brings together."""
    x = torch.randn(2, deep, 3, 2, 4)
    up = channel_to_space(x, shallow, time)
    assert up.shape == (2, shallow, 3 * time, 4, 8)
    torch.testing.assert_close(space_to_channel(up, deep, time), x)


@pytest.mark.parametrize("channels", [128, 256])
def test_into_the_decoder_and_back_is_the_identity(channels: int):
    x = torch.randn(2, channels, 2, 3, 1)
    torch.testing.assert_close(mean_channels(repeat_channels(x, 1024), channels), x)
