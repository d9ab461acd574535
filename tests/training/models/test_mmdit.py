"""The MMDiT against the public implementation's values, and what holds beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support import golden
from tests.support.mmdit import golden_model, inputs_for, lively
from training import ops
from training.models.base import LatentSpec, TextStates
from training.models.convert import load_mmdit
from training.models.layouts import layout_of
from training.models.mmdit import MMDiT, preset
from training.models.mmdit.config import tiny, tiny_dcae
from training.models.mmdit.embed import timestep_embedding
from training.models.mmdit.rope import rotary, rotary_tables
from training.models.weights import InMemory
from training.offload import Offload
from training.tokens import Grid, grid_of, pack, unpack

CONDITIONED = (
    "mmdit_fused_interleaved_p2",
    "mmdit_unfused_rotatehalf_p2",
    "mmdit_fused_interleaved_p1",
    "mmdit_headdim128_rotatehalf_p2",
)
T2V = "mmdit_unfused_rotatehalf_p2_t2v"


def text_of(found: dict[str, Any], prefix: str = "in.") -> TextStates:
    return TextStates(found[prefix + "txt"], found[prefix + "y_vec"])


def gradients(model: MMDiT) -> dict[str, Any]:
    """The gradients by name, taken away from the model."""
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


def watch(model: MMDiT) -> dict[str, Any]:
    """The outputs of the layers that the golden files list, filled by the next forward pass."""
    seen: dict[str, Any] = {}

    def keep(name: str):
        def hook(_module: object, _inputs: object, output: Any) -> None:
            pair = isinstance(output, tuple)
            seen.update({f"{name}.img": output[0], f"{name}.txt": output[1]} if pair else {name: output})

        return hook

    for name, module in model.named_modules():
        depth = name.count(".")
        if name.endswith("_in") or (depth == 1 and name.startswith(("double_blocks.", "single_blocks."))):
            module.register_forward_hook(keep(name))
    return seen


@pytest.mark.parametrize("name", [*CONDITIONED, T2V])
def test_outputs_and_activations_equal_the_public_ones(name: str) -> None:
    model, found, grid = golden_model(name)
    conditioned = model.config.cond_embed
    seen = watch(model)
    out = model(found["in.img"], found["in.timesteps"], text_of(found), grid, found["in.cond"] if conditioned else None)
    main = "out.cond" if conditioned else "out.main"
    golden.close(out, found[main])
    golden.close(unpack(out, grid, model.config.patch_size), found[f"{main}_latent"])
    for key, want in golden.below(found, "inter.").items():
        golden.close(seen[key], want)


@pytest.mark.parametrize("name", CONDITIONED)
def test_no_condition_equals_an_all_zero_one(name: str) -> None:
    model, found, grid = golden_model(name)
    golden.close(model(found["in.img"], found["in.timesteps"], text_of(found), grid), found["out.nocond"])
    zeros = torch.zeros_like(found["in.cond"])
    golden.close(model(found["in.img"], found["in.timesteps"], text_of(found), grid, zeros), found["out.nocond"])


@pytest.mark.parametrize("name", [name for name in (*CONDITIONED, T2V) if name != "mmdit_unfused_rotatehalf_p2"])
def test_a_still_image_equals_the_public_one(name: str) -> None:
    model, found, _ = golden_model(name)
    latent, patch = found["image.in.latent"], model.config.patch_size
    tokens = pack(latent, patch)
    golden.close(tokens, found["image.in.img"], 0, 0)
    out = model(tokens, found["image.in.timesteps"], text_of(found, "image.in."), grid_of(latent, patch))
    golden.close(out, found["image.out"])


@pytest.mark.parametrize("name", [*CONDITIONED, T2V])
def test_latents_and_conditions_pack_as_the_public_ones_do(name: str) -> None:
    found, settings = golden.tensors(name)
    patch = settings["config"]["patch_size"]
    grid = grid_of(found["in.latent"], patch)
    golden.close(pack(found["in.latent"], patch), found["in.img"], 0, 0)
    golden.close(pack(found["in.cond_latent"], patch), found["in.cond"], 0, 0)
    assert torch.equal(grid.positions().float(), found["in.img_ids"][0])


@pytest.mark.parametrize("name", [*CONDITIONED, T2V])
@pytest.mark.parametrize("recomputed", [False, True])
def test_gradients_equal_the_public_ones(name: str, recomputed: bool) -> None:
    model, found, grid = golden_model(name)
    if recomputed:
        model.recompute(1, 1)
    leaves = {key: found[f"in.{key}"].requires_grad_() for key in ("img", "txt", "y_vec", "cond")}
    cond = leaves["cond"] if model.config.cond_embed else None
    out = model(leaves["img"], found["in.timesteps"], TextStates(leaves["txt"], leaves["y_vec"]), grid, cond)
    loss = (out - found["grad.target"]).square().mean()
    loss.backward()
    golden.close(loss, found["grad.loss"])
    parameters = dict(model.named_parameters())
    for key, want in golden.below(found, "grad.in.").items():
        golden.close(leaves[key].grad, want, 1e-5, 1e-3)
    for key, want in golden.below(found, "grad.weight.").items():
        golden.close(parameters[key].grad, want, 1e-5, 1e-3)


def test_rotary_tables_and_attention_equal_the_public_ones() -> None:
    found, settings = golden.tensors("rope_attention")
    cos, sin = rotary(found["in.ids"][0], tuple(settings["axes"]), settings["theta"])
    rotation = found["pe.rotation"][0, 0]
    golden.close(torch.stack((cos, -sin, sin, cos), -1).unflatten(-1, (2, 2)), rotation)
    golden.close(torch.cat((cos, cos), -1), found["pe.cos"][0])
    golden.close(torch.cat((sin, sin), -1), found["pe.sin"][0])
    q, k, v = (found[f"in.{key}"].transpose(1, 2) for key in "qkv")
    # The norm is divided out again: with these scales and this mean square it is the identity.
    size = q.shape[-1]
    for interleaved, prefix in ((True, "interleaved"), (False, "rotate_half")):
        norms = [x.square().mean(-1, keepdim=True).add(1e-6).sqrt() for x in (q, k)]
        ones = torch.ones(size)
        turned = ops.qk_norm_rope(q, k, ones, ones, cos, sin, interleaved)
        turned_q, turned_k = (x * norm for x, norm in zip(turned, norms, strict=True))
        golden.close(turned_q.transpose(1, 2), found[f"{prefix}.q"])
        golden.close(turned_k.transpose(1, 2), found[f"{prefix}.k"])
        golden.close(ops.attention(turned_q, turned_k, v).flatten(2), found[f"{prefix}.attention"])


def test_timestep_embedding_equals_the_public_one() -> None:
    found, _ = golden.tensors("rope_attention")
    golden.close(timestep_embedding(found["in.t"]), found["timestep_embedding"])


def test_tables_are_made_once_a_grid_and_serve_training_after_sampling() -> None:
    config = tiny()
    model, arguments = lively(config), inputs_for(config, Grid(2, 3, 2))
    with torch.inference_mode():
        sampled = model(**arguments)
    out = model(**arguments)
    out.sum().backward()
    golden.close(out, sampled, 0, 0)
    device = torch.device("cpu")
    first = rotary_tables(config.axes_dim, config.theta, Grid(2, 3, 2), 5, device)
    assert first[0] is rotary_tables(config.axes_dim, config.theta, Grid(2, 3, 2), 5, device)[0]
    assert first[0].dtype == torch.float32 and first[0].shape == (5 + 12, config.head_dim // 2)
    assert first[0] is not rotary_tables(config.axes_dim, config.theta, Grid(2, 2, 3), 5, device)[0]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("interleaved", [True, False])
def test_blocks_compile_as_one_graph_shared_by_all_of_a_kind(fused: bool, interleaved: bool) -> None:
    torch.compiler.reset()
    graphs = []

    def backend(graph: Any, _inputs: object) -> Any:
        graphs.append(graph)
        return graph.forward

    config = replace(tiny(), fused_qkv=fused, interleaved_rope=interleaved)
    model, arguments = lively(config), inputs_for(config, Grid(2, 3, 2))
    want = model(**arguments)
    want.square().mean().backward()
    want_gradients = gradients(model)
    model.compile_blocks(backend=backend)
    model.recompute(1, 1)
    got = model(**arguments)
    got.square().mean().backward()
    golden.close(got, want, 1e-5, 1e-5)
    golden.close(gradients(model), want_gradients, 1e-5, 1e-4)
    assert len(graphs) == 2
    assert all("_orig_mod" not in name for name in model.state_dict())


def test_recomputed_blocks_run_again_and_change_no_gradient() -> None:
    config = tiny()
    model, arguments = lively(config), inputs_for(config, Grid(2, 2, 2))
    runs: dict[str, int] = {}
    for name, block in model.named_modules():
        if name.count(".") == 1 and name.split(".")[0] in ("double_blocks", "single_blocks"):
            block.register_forward_pre_hook(lambda _m, _i, name=name: runs.update({name: runs.get(name, 0) + 1}))
    model(**arguments).square().mean().backward()
    plain = gradients(model)
    runs.clear()
    model.recompute(1, 100)
    model(**arguments).square().mean().backward()
    assert runs == {"double_blocks.0": 2, "double_blocks.1": 1, "single_blocks.0": 2, "single_blocks.1": 2}
    golden.close(gradients(model), plain, 0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_of_recomputed_blocks_wait_on_the_host_and_change_no_bit(dtype: Any) -> None:
    """Those alone: no tables, no weights."""
    config = tiny()
    grid = Grid(2, 2, 2)
    model, arguments = lively(config).to(dtype), inputs_for(config, grid)
    arguments["x_BLC"] = arguments["x_BLC"].to(dtype)
    offload = Offload()
    for again in range(2):
        found = []
        for keep in (None, offload):
            model.recompute(1, 100, keep)
            out = model(**arguments)
            out.float().square().mean().backward()
            found.append([out.detach(), *gradients(model).values()])
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)), again
        # One double block's two streams, two single blocks' one.
        words = arguments["text"].tokens_BMD.shape[1]
        samples = arguments["x_BLC"].shape[0]
        assert offload.moved == (again + 1) * 3 * samples * (grid.tokens + words) * config.hidden_size * dtype.itemsize


def test_no_part_of_a_fused_projection_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(tiny(), fused_qkv=True)
    model = lively(config)
    projected: list[Any] = []
    block = model.get_submodule("single_blocks.0")
    block.get_submodule("linear1").register_forward_hook(lambda _m, _i, out: projected.append(out))
    original = ops.qk_norm_rope

    def spy(q: Any, k: Any, *rest: Any) -> Any:
        projected.extend((q, k))
        return original(q, k, *rest)

    monkeypatch.setattr(ops, "qk_norm_rope", spy)
    block(torch.randn(1, 4, 64), torch.randn(1, 64), torch.ones(4, 8), torch.zeros(4, 8))
    fused, q, k = projected
    assert q.untyped_storage().data_ptr() == k.untyped_storage().data_ptr() == fused.untyped_storage().data_ptr()
    assert q.stride()[1] == fused.shape[-1]


def test_released_size_has_the_released_names_and_shapes() -> None:
    manifest = json.loads(golden.path("manifest_mmdit_11b.json").read_text())
    with torch.device("meta"):
        model = MMDiT(preset("opensora_v2"))
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    assert list(shapes.items()) == list(manifest["parameters"].items())
    assert sum(p.numel() for p in model.parameters()) == manifest["parameters_total"] == 11_891_390_528
    assert dict(model.named_buffers()) == manifest["buffers"]


@pytest.mark.parametrize(
    ("name", "channels", "condition"),
    [("opensora_v2_fused", 64, 68), ("opensora_v2_dcae128", 128, 129), ("opensora_v2_dcae256", 256, 257)],
)
def test_other_presets_differ_from_the_released_one_as_they_should(name: str, channels: int, condition: int) -> None:
    with torch.device("meta"):
        model, released = MMDiT(preset(name)), MMDiT(preset("opensora_v2"))
    assert model.img_in.in_features == model.final_layer.linear.out_features == channels
    assert model.cond_in is not None and model.cond_in.in_features == condition
    ends = (channels - 64) * 3072 + (condition - 68) * 3072 + (channels - 64) * (3072 + 1)
    count = sum(p.numel() for p in model.parameters())
    assert count == sum(p.numel() for p in released.parameters()) + ends


def test_a_latent_decides_the_ends_of_the_network() -> None:
    dcae = LatentSpec(channels=256, time=4, space=32, causal=False, patch=1)
    assert preset("opensora_v2").for_latent(dcae) == preset("opensora_v2_dcae256")


def test_cond_in_starts_at_zero_so_a_condition_changes_nothing_yet() -> None:
    config = tiny_dcae()
    torch.manual_seed(0)
    model, arguments = MMDiT(config), inputs_for(config, Grid(2, 2, 3))
    out = model(**arguments)
    golden.close(out, model(**{**arguments, "cond_BLK": None}), 0, 0)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_a_fresh_model_is_well_scaled() -> None:
    torch.manual_seed(0)
    config = replace(tiny(), hidden_size=256, num_heads=16)
    out = MMDiT(config)(**inputs_for(config, Grid(2, 4, 4)))
    assert 0.05 < out.std() < 2.0


def test_bfloat16_stays_near_float32() -> None:
    config = replace(tiny(), fused_qkv=True, interleaved_rope=True)
    model, arguments = MMDiT(config), inputs_for(config, Grid(2, 3, 4))
    want = model(**arguments)
    arguments["x_BLC"] = arguments["x_BLC"].bfloat16()
    out = model.bfloat16()(**arguments)
    assert out.dtype == torch.bfloat16
    assert (out.float() - want).norm() < 0.05 * want.norm()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"axes_dim": (4, 6, 8)}, "three even numbers"),
        ({"axes_dim": (5, 5, 6)}, "three even numbers"),
        ({"in_channels": 63}, "patch_size squared"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        replace(tiny(), **change)


@pytest.mark.parametrize("fused", [True, False])
def test_projections_without_biases_have_none_and_convert(fused: bool) -> None:
    """`qkv_bias` of the public configuration: double blocks' projections alone."""
    config = replace(tiny(), qkv_bias=False, fused_qkv=fused)
    model, names = lively(config), [name for name, _ in MMDiT(config).named_parameters()]
    gone = {name for name, _ in MMDiT(replace(config, qkv_bias=True)).named_parameters()} - set(names)
    assert gone and all("_attn." in name and name.endswith(".bias") and ".proj." not in name for name in gone)
    assert len(gone) == config.depth * 2 * (1 if fused else 3)
    other = MMDiT(replace(config, fused_qkv=not fused, interleaved_rope=True))
    report = load_mmdit(other, InMemory(model.state_dict()), layout_of(config))
    assert report.dropped == report.fresh == ()
    same = inputs_for(config, Grid(2, 3, 2))
    golden.close(other(**same), model(**same), 1e-5, 1e-4)


def test_an_unknown_preset_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"'opensora_v3'; choose one of opensora_v2, "):
        preset("opensora_v3")
