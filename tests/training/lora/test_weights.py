"""Adapters and plain weights: merged into them, taken out of two models, and brought to diffusers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from curation.errors import UserError
from tests.support import golden
from tests.support.adapters import SPEC, config_of, output, trained
from tests.support.mmdit import flux_output, flux_transformer, inputs_for, lively
from training.lora import diffusers
from training.lora.adapter import Adapter, Factors
from training.lora.base import fingerprint, in_layout_of
from training.lora.extract import extract
from training.lora.inject import adapter_of, plain
from training.lora.merge import Merged
from training.models.convert import convert_file, load_mmdit, save_mmdit
from training.models.layouts import DIFFUSERS, FLUX
from training.models.mmdit import MMDiT
from training.models.weights import Files, InMemory, write
from training.tokens import Grid

LAYOUTS = (False, True)
BASE = Factors(torch.ones(1, 3), torch.ones(2, 1))


@pytest.mark.parametrize("stacked", LAYOUTS)
def test_a_file_is_merged_as_a_model_is(stacked: bool, tmp_path: Path) -> None:
    """The base in another layout; what is written has the names and the bits of everything else."""
    config = config_of(stacked)
    save_mmdit(lively(config), tmp_path / "base.safetensors", FLUX)
    model = trained(lively(config))
    merged = Merged(in_layout_of(config, Files(tmp_path / "base.safetensors")), adapter_of(model))
    write(merged, tmp_path / "merged.safetensors")
    want, found = plain(model).state_dict(), Files(tmp_path / "merged.safetensors")
    assert set(found.names()) == set(want)
    for name, tensor in want.items():
        golden.close(found.read(name), tensor, 1e-6, 1e-6)
    untouched = [n for n, t in lively(config).state_dict().items() if torch.equal(want[n], t)]
    assert untouched and all(torch.equal(found.read(name), want[name]) for name in untouched)
    again = MMDiT(config)
    load_mmdit(again, tmp_path / "merged.safetensors")
    golden.close(output(again), output(model), 1e-5, 1e-5)
    assert merged.rounding < 1e-5


def test_a_bfloat16_base_keeps_its_type_and_what_it_rounds_away_is_told() -> None:
    base = {"a.weight": torch.ones(2, 3).bfloat16(), "a.bias": torch.ones(2).bfloat16()}
    merged = Merged(InMemory(base), Adapter(rank=1, alpha=2**-7 * 1.25, layers={"a": BASE}))
    assert merged.read("a.weight").dtype == torch.bfloat16
    assert torch.equal(merged.read("a.weight").float(), torch.full((2, 3), 1 + 2**-7))
    assert merged.rounding == pytest.approx(0.2)
    assert torch.equal(merged.read("a.weight", 1, 2), merged.read("a.weight")[1:2])
    with pytest.raises(UserError, match="adapter's a is 2x3, the model's 3x3"):
        Merged(InMemory({"a.weight": torch.ones(3, 3)}), Adapter(rank=1, alpha=1.0, layers={"a": BASE}))


@pytest.mark.parametrize("stacked", LAYOUTS)
def test_what_was_merged_is_extracted_again(stacked: bool) -> None:
    base = lively(config_of(stacked)).state_dict()
    adapter = adapter_of(trained(lively(config_of(stacked))))
    tuned = plain(trained(lively(config_of(stacked)))).state_dict()
    found = extract(InMemory(base), InMemory(tuned), SPEC.rank, ("all",), stacked)
    assert found.error < 1e-4 and found.left == () and found.adapter.base == fingerprint(InMemory(base))
    assert found.adapter.scale == 1.0
    for layer in adapter.layers:
        golden.close(found.adapter.change(layer), adapter.change(layer), 1e-4, 1e-3)
        a_RI, b_OR = found.adapter.layers[layer]
        golden.close(a_RI.norm(dim=1), b_OR.norm(dim=0), 1e-4, 1e-4)


def test_the_error_is_that_of_the_best_pair_and_what_is_left_is_named() -> None:
    base, tuned = (lively(config_of(False)).state_dict() for _ in range(2))
    draw = torch.Generator().manual_seed(2)
    names = ["double_blocks.1.img_mlp.0", "single_blocks.0.q_proj", "single_blocks.1.modulation.lin"]
    for name in names:
        tuned[f"{name}.weight"] += torch.randn(tuned[f"{name}.weight"].shape, generator=draw)
    tuned["txt_in.weight"] += 1
    tuned["double_blocks.0.img_attn.proj.bias"] += 1
    found = extract(InMemory(base), InMemory(tuned), 8, ("attn", "mlp"), stacked=False)
    assert [one.layer for one in found.layers] == names[:2]
    assert set(found.left) == {"txt_in.weight", "double_blocks.0.img_attn.proj.bias", f"{names[2]}.weight"}
    squares = []
    for one in found.layers:
        values = torch.linalg.svdvals((tuned[f"{one.layer}.weight"] - base[f"{one.layer}.weight"]).double()).square()
        best = float(values[8:].sum() / values.sum()) ** 0.5
        assert (1 - 1e-6) * best <= one.error <= 1.005 * best
        lacking = found.adapter.change(one.layer) + base[f"{one.layer}.weight"] - tuned[f"{one.layer}.weight"]
        assert one.error == pytest.approx(float(lacking.double().square().sum() / values.sum()) ** 0.5, rel=1e-5)
        squares.append((one.error**2 * float(values.sum()), float(values.sum())))
    lost, whole = (sum(pair[i] for pair in squares) for i in (0, 1))
    assert found.error == pytest.approx((lost / whole) ** 0.5, rel=1e-5)
    torch.rand(3)
    again = extract(InMemory(base), InMemory(tuned), 8, ("attn", "mlp"), stacked=False).adapter
    assert all(torch.equal(again.change(name), found.adapter.change(name)) for name in names[:2])


def other(**change: Any) -> InMemory:
    return InMemory(lively(replace(config_of(False), **change)).state_dict(), "other")


def test_what_cannot_be_extracted_is_refused() -> None:
    base, changed = other(), dict(other().tensors)
    changed["img_in.bias"] = changed["img_in.bias"] + 1
    changed["double_blocks.0.img_mod.lin.weight"] = changed["double_blocks.0.img_mod.lin.weight"] + 1
    with pytest.raises(UserError, match="other differs from other in nothing;"):
        extract(base, other(), 4, ("all",), stacked=False)
    with pytest.raises(UserError, match=r"in nothing but img_in.bias, double_blocks.0.img_mod.lin.weight"):
        extract(base, InMemory(changed, "changed"), 4, ("attn",), stacked=False)
    with pytest.raises(UserError, match=r"a rank of 65 is above 64"):
        extract(base, InMemory(changed), 65, ("mod",), stacked=False)
    with pytest.raises(UserError, match=r"of another network than other: double_blocks.1"):
        extract(base, other(depth=1), 4, ("all",), stacked=False)
    with pytest.raises(UserError, match="there is no lora target 'x'"):
        extract(base, other(), 4, ("x",), stacked=False)


@pytest.mark.parametrize("stacked", LAYOUTS)
def test_diffusers_computes_the_same_with_it(stacked: bool, tmp_path: Path) -> None:
    """The base and the adapter brought over apart, alpha four times the rank and said nowhere but in B."""
    config = config_of(stacked, cond=False)
    model = trained(lively(config))
    write(InMemory(lively(config).state_dict()), tmp_path / "base.safetensors")
    convert_file(tmp_path / "base.safetensors", tmp_path / "flux" / "flux.safetensors", DIFFUSERS, config)
    held, theirs = Files(tmp_path / "flux"), flux_transformer(config)
    theirs.load_state_dict({name: held.read(name) for name in held.names()})
    same = inputs_for(config, Grid(2, 3, 2))
    without = flux_output(theirs, same)
    (path,) = diffusers.save(adapter_of(model), config, tmp_path / "adapter")
    theirs.load_lora_adapter(str(path.parent), prefix="transformer", use_safetensors=True)
    want = output(model)
    assert (want - without).abs().max() > 0.1
    golden.close(flux_output(theirs, same), want)


def test_a_pipeline_reads_the_file(tmp_path: Path) -> None:
    from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin

    config = config_of(True, cond=False)
    adapter = adapter_of(trained(lively(config)))
    diffusers.save(adapter, config, tmp_path)
    found = FluxLoraLoaderMixin.lora_state_dict(str(tmp_path))
    assert {name.removeprefix(diffusers.PREFIX) for name in found} == set(diffusers.converted(adapter, config))


def test_a_model_with_a_condition_cannot_go_to_diffusers() -> None:
    adapter = adapter_of(trained(lively(config_of(False))))
    with pytest.raises(UserError, match=r"input for a condition \(cond_in\), and FluxTransformer2DModel has no place"):
        diffusers.converted(adapter, config_of(False))
    with pytest.raises(UserError, match=r"changes layers that the model lacks: double_blocks.0.img_attn.q_proj"):
        diffusers.converted(adapter, config_of(True, cond=False))
