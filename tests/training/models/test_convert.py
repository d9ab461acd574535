"""Checkpoints of every public layout: into a model, into one another, and refused by name where they do not fit."""

from __future__ import annotations

import json
import logging
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from curation.errors import UserError
from tests.support import golden
from tests.support.mmdit import flux_output, flux_transformer, golden_model, inputs_for, lively
from training.models.convert import NEW_LATENT, Converted, convert_file, halves, interleaved, load_mmdit, save_mmdit
from training.models.layouts import DIFFUSERS, FLUX, LAYOUTS, OPEN_SORA_V2, Layout, detect, layout_of
from training.models.mmdit import MMDiT, MMDiTConfig
from training.models.mmdit.config import tiny, tiny_dcae
from training.models.weights import Allowed, Files, InMemory, load, write
from training.tokens import Grid

Weights = dict[str, Any]
ALL = [Layout("flux", fused, turned) for fused in (True, False) for turned in (True, False)]


def config_in(layout: Layout, config: MMDiTConfig | None = None) -> MMDiTConfig:
    return replace(config or tiny(), fused_qkv=layout.fused, interleaved_rope=layout.interleaved)


def converted(weights: Weights, given: Layout, wanted: Layout, config: MMDiTConfig) -> Weights:
    view = Converted(InMemory(weights), given, wanted, config)
    assert {name: view.shape(name) for name in view.names()} == {n: tuple(view.read(n).shape) for n in view.names()}
    return {name: view.read(name) for name in view.names()}


def assert_same(got: Weights, want: Weights) -> None:
    assert got.keys() == want.keys()
    differ = [name for name in want if got[name].dtype != want[name].dtype or not torch.equal(got[name], want[name])]
    assert not differ


def output(model: MMDiT) -> Any:
    return model(**inputs_for(model.config, Grid(2, 3, 2)))


def golden_weights(name: str) -> tuple[Weights, MMDiTConfig]:
    model, found, _ = golden_model(name)
    return golden.below(found, "weight."), model.config


def test_the_public_conversion_gives_the_same_weights() -> None:
    fused, config = golden_weights("mmdit_fused_interleaved_p2")
    unfused, _ = golden_weights("mmdit_unfused_rotatehalf_p2")
    assert_same(converted(fused, FLUX, OPEN_SORA_V2, config), unfused)
    assert_same(converted(unfused, OPEN_SORA_V2, FLUX, config), fused)


def test_the_rearranged_queries_are_the_public_ones() -> None:
    found, _ = golden.tensors("rope_attention")
    rows = found["in.q"][0].transpose(1, 2).flatten(0, 1)
    want = found["rearranged.q"][0].transpose(1, 2).flatten(0, 1)
    assert torch.equal(halves(rows, 128), want) and torch.equal(interleaved(want, 128), rows)


@pytest.mark.parametrize("given", ALL)
@pytest.mark.parametrize("wanted", ALL)
def test_a_model_loads_the_weights_of_every_layout_and_gives_the_same(given: Layout, wanted: Layout) -> None:
    source, model = lively(config_in(given)), MMDiT(config_in(wanted))
    report = load_mmdit(model, InMemory(source.state_dict()), given)
    assert report.dropped == report.fresh == ()
    golden.close(output(model), output(source), 1e-5, 1e-4)
    back = converted(model.state_dict(), wanted, given, tiny())
    assert_same(back, source.state_dict())


@pytest.mark.parametrize("layout", [FLUX, OPEN_SORA_V2])
def test_diffusers_network_gives_the_same_output(layout: Layout) -> None:
    config = replace(config_in(layout), cond_embed=False)
    theirs, ours = flux_transformer(config), MMDiT(config)
    assert load_mmdit(ours, InMemory(theirs.state_dict())).dropped == ()
    same = inputs_for(config, Grid(2, 3, 2))
    with torch.no_grad():
        golden.close(ours(**same), flux_output(theirs, same))


def test_weights_go_to_diffusers_and_back() -> None:
    config = replace(tiny(), cond_embed=False)
    ours = lively(config)
    theirs = converted(ours.state_dict(), OPEN_SORA_V2, DIFFUSERS, config)
    flux_transformer(config).load_state_dict(theirs, strict=True)
    assert_same(converted(theirs, DIFFUSERS, OPEN_SORA_V2, config), ours.state_dict())


def test_a_released_checkpoint_is_written_back_bit_for_bit(tmp_path: Path) -> None:
    weights, config = golden_weights("mmdit_unfused_rotatehalf_p2")
    source, target = tmp_path / "Open_Sora_v2.safetensors", tmp_path / "again.safetensors"
    stored = {name: tensor.bfloat16() for name, tensor in weights.items()}
    safetensors_torch.save_file(stored, source, metadata={"format": "pt"})
    with torch.device("meta"):
        model = MMDiT(config).bfloat16()
    report = load_mmdit(model, source)
    assert report.dropped == report.fresh == ()
    save_mmdit(model, target)
    assert target.read_bytes() == source.read_bytes()


def test_shards_hold_what_one_file_does(tmp_path: Path) -> None:
    config = tiny()
    weights = lively(config).state_dict()
    written = write(InMemory(weights), tmp_path / "shards" / "model.safetensors", shard_bytes=200_000)
    *shards, index = written
    assert len(shards) > 2 and shards[0].name == f"model-00001-of-{len(shards):05}.safetensors"
    assert all(shard.stat().st_size < 210_000 for shard in shards)
    listed = json.loads(index.read_text())
    assert listed["metadata"]["total_size"] == sum(t.nbytes for t in weights.values())
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {path.name for path in written}
    for given in (index, index.parent):
        files = Files(given)
        assert_same({name: files.read(name) for name in files.names()}, weights)
    report = convert_file(index, tmp_path / "flux.safetensors", FLUX, config)
    assert report.dropped == ()
    back = Files(tmp_path / "flux.safetensors")
    assert detect(back) == FLUX
    assert_same({name: back.read(name) for name in back.names()}, converted(weights, OPEN_SORA_V2, FLUX, config))


def test_conversion_reads_a_tensor_at_a_time() -> None:
    """What is alive between two reads is bounded by the largest tensor, not by the checkpoint."""
    weights, held, most = lively(tiny()).state_dict(), [], 0

    class Counting(InMemory):
        def read(self, name: str, start: int = 0, stop: int | None = None) -> Any:
            nonlocal most
            tensor = InMemory.read(self, name, start, stop).clone()
            held.append(weakref.ref(tensor))
            most = max(most, sum(t.nbytes for t in (ref() for ref in held) if t is not None))
            return tensor

    load_mmdit(MMDiT(config_in(FLUX)), Counting(weights))
    largest = max(t.nbytes for t in weights.values())
    assert len(held) > 100 and most <= 2 * largest


def test_flux_dev_starts_a_video_model_and_the_report_names_what_changed(caplog: pytest.LogCaptureFixture) -> None:
    flux = replace(config_in(FLUX), cond_embed=False)
    weights = lively(flux).state_dict()
    guidance = [f"guidance_in.{layer}.{kind}" for layer in ("in_layer", "out_layer") for kind in ("weight", "bias")]
    weights |= {name: torch.ones(4) for name in guidance}
    model = lively(config_in(OPEN_SORA_V2, tiny_dcae()))
    with caplog.at_level(logging.WARNING):
        report = load_mmdit(model, InMemory(weights), allowed=NEW_LATENT)
    fresh = [f"{layer}.{kind}" for layer in ("img_in", "cond_in", "final_layer.linear") for kind in ("weight", "bias")]
    assert sorted(report.dropped) == sorted(guidance) and sorted(report.fresh) == sorted(fresh)
    assert all(name in caplog.text for name in (*guidance, *fresh))
    state = model.state_dict()
    assert not state["cond_in.weight"].any() and not state["cond_in.bias"].any()
    assert not state["img_in.bias"].any() and state["img_in.weight"].abs().max() > 0
    kept = converted(weights, FLUX, OPEN_SORA_V2, flux)
    rest = state.keys() - set(fresh)
    assert_same({name: state[name] for name in rest}, {name: kept[name] for name in rest})


def test_flux_dev_gives_an_image_to_video_model_its_own_output(tmp_path: Path) -> None:
    flux = lively(replace(config_in(FLUX), cond_embed=False))
    safetensors_torch.save_file(flux.state_dict(), tmp_path / "flux1-dev.safetensors")
    with torch.device("meta"):
        model = MMDiT(tiny())
    report = load_mmdit(model, tmp_path, allowed=NEW_LATENT)
    assert report.fresh == ("cond_in.weight", "cond_in.bias")
    same = inputs_for(flux.config, Grid(2, 3, 2))
    golden.close(model(**same), flux(**same), 1e-5, 1e-4)


def test_a_condition_input_is_not_lost_unasked(tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    write(InMemory(lively(tiny()).state_dict()), source)
    with pytest.raises(UserError, match=r"without a place in the model: cond_in.bias, cond_in.weight"):
        convert_file(source, tmp_path / "diffusers.safetensors", DIFFUSERS, tiny())
    report = convert_file(
        source, tmp_path / "diffusers.safetensors", DIFFUSERS, tiny(), allowed=Allowed(drop=("cond_in.",))
    )
    assert sorted(report.dropped) == ["cond_in.bias", "cond_in.weight"]


def other(**change: Any) -> Weights:
    return lively(replace(tiny(), **change)).state_dict()


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (lambda: other(in_channels=32), r"img_in.weight 64x32 instead of 64x64, .* and 1 more;"),
        (lambda: other(depth=1), r"lacks: double_blocks.1.img_mod.lin.weight, .* and 29 more"),
        (
            lambda: other(depth_single_blocks=3),
            r"without a place in the model: single_blocks.2.k_proj.bias, .* and 9 more;",
        ),
        (lambda: other(cond_embed=False), r"lacks: cond_in.weight, cond_in.bias;"),
        (lambda: other(hidden_size=128, num_heads=8), r"single_blocks.0.v_mlp.weight has 640 rows|has 256 rows"),
        (lambda: other(num_heads=2, axes_dim=(8, 12, 12)), r"query_norm.scale 32 instead of 16"),
        (
            lambda: {"encoder.conv_in.weight": torch.ones(2)},
            r"no checkpoint of an MMDiT, it holds encoder.conv_in.weight;",
        ),
        (lambda: {**other(), "lora_A": torch.ones(2)}, r"without a place in the model: lora_A;"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(weights: Any, says: str, tmp_path: Path) -> None:
    model = lively(tiny())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    safetensors_torch.save_file(weights(), tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=says) as error:
        load_mmdit(model, tmp_path / "wrong.safetensors")
    assert "\n" not in str(error.value) and "wrong.safetensors" in error.value.cause
    assert_same(model.state_dict(), before)
    with pytest.raises(UserError):
        convert_file(tmp_path / "wrong.safetensors", tmp_path / "out.safetensors", FLUX, tiny())
    assert not (tmp_path / "out.safetensors").exists()


def test_what_may_start_anew_is_no_leave_for_the_rest() -> None:
    with pytest.raises(UserError, match=r"lacks: double_blocks.1"):
        load_mmdit(MMDiT(tiny()), InMemory(other(depth=1)), allowed=NEW_LATENT)


def test_a_float32_model_widens_a_bfloat16_checkpoint() -> None:
    weights = {name: tensor.bfloat16() for name, tensor in lively(tiny()).state_dict().items()}
    model = MMDiT(tiny())
    load_mmdit(model, InMemory(weights))
    assert_same(model.state_dict(), {name: tensor.float() for name, tensor in weights.items()})


def test_any_network_loads_from_files_with_the_same_rules(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    write(InMemory(source.state_dict()), tmp_path / "linear.safetensors")
    load(target, Files(tmp_path), lambda name, parameter: None)
    assert_same(target.state_dict(), source.state_dict())


def broken_file(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"\x80\x02}q\x00.")
    return folder / "model.safetensors"


def cut_short(folder: Path) -> Path:
    path = folder / "model.safetensors"
    safetensors_torch.save_file({"a": torch.ones(64)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    return path


def missing_shard(folder: Path) -> Path:
    *shards, index = write(InMemory({f"t{i}": torch.ones(64) for i in range(4)}), folder / "model.safetensors", 512)
    shards[1].unlink()
    return index


def swapped_shard(folder: Path) -> Path:
    *shards, index = write(InMemory({f"t{i}": torch.ones(64) for i in range(4)}), folder / "model.safetensors", 512)
    shards[1].write_bytes(shards[0].read_bytes())
    return index


def outside_index(folder: Path) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    return index


def two_files(folder: Path) -> Path:
    for name in "ab":
        safetensors_torch.save_file({"a": torch.ones(2)}, folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "absent.safetensors", "there is no checkpoint at"),
        (lambda folder: folder, "holds no safetensors file"),
        (two_files, r"holds 2 checkpoints \(a.safetensors, b.safetensors\)"),
        (broken_file, "no readable safetensors file"),
        (cut_short, "no readable safetensors file"),
        (missing_shard, "model-00002-of-00002.safetensors is missing"),
        (swapped_shard, "lack t2, t3; fetch"),
        (outside_index, "no index of safetensors shards"),
    ],
)
def test_files_that_cannot_be_read_are_refused(make: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says) as error:
        Files(make(tmp_path))
    assert "\n" not in str(error.value)


def test_writing_replaces_no_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(InMemory({"a": torch.ones(2)}), path)
    with pytest.raises(UserError, match="exists already"):
        write(InMemory({"a": torch.zeros(2)}), path)
    assert torch.equal(Files(path).read("a"), torch.ones(2))
    with pytest.raises(UserError, match=r"does not end in .safetensors"):
        write(InMemory({"a": torch.ones(2)}), tmp_path / "model.pt")


def test_layouts_are_told_by_their_names() -> None:
    for name, layout in LAYOUTS.items():
        config = replace(tiny(), cond_embed=False)
        weights = converted(lively(config).state_dict(), layout_of(config), layout, config)
        assert detect(InMemory(weights)) == layout, name


@pytest.mark.parametrize("layout", ALL)
def test_a_saved_model_is_read_as_it_was_meant(layout: Layout, tmp_path: Path) -> None:
    """A file of a layout that nobody publishes says its channel order, which no name tells."""
    source, model = lively(config_in(layout)), MMDiT(tiny())
    (path,) = save_mmdit(source, tmp_path / "model.safetensors")
    assert detect(Files(path)) == layout
    load_mmdit(model, path)
    golden.close(output(model), output(source), 1e-5, 1e-4)
