"""An adapter in the network: which layers have one, what is trained, what is drawn, and the plain network again."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from curation.errors import UserError
from tests.support import golden
from tests.support.adapters import SPEC, config_of, output, trained
from tests.support.mmdit import inputs_for, lively
from training.lora.base import fingerprint
from training.lora.inject import adapted, adapter_of, attached, base_of, plain
from training.lora.spec import LoraSpec
from training.lora.targets import NAMES, layers
from training.models.mmdit import MMDiT
from training.models.mmdit.config import tiny
from training.models.weights import InMemory
from training.parallel.base import AdamW
from training.parallel.single import Single
from training.tokens import Grid

LAYOUTS = (False, True)


@pytest.mark.parametrize("stacked", LAYOUTS)
@pytest.mark.parametrize("target", NAMES)
def test_a_target_is_the_layers_that_it_lists(target: str, stacked: bool) -> None:
    model = adapted(lively(config_of(stacked)), LoraSpec(rank=2, targets=(target,)))
    want = {layer.replace(".N.", f".{block}.") for layer in layers(target, stacked) for block in range(2)}
    assert set(adapter_of(model).layers) == want


@pytest.mark.parametrize("stacked", LAYOUTS)
def test_all_is_every_linear_layer_of_the_blocks(stacked: bool) -> None:
    model = MMDiT(config_of(stacked))
    linear = {n for n, module in model.named_modules() if isinstance(module, torch.nn.Linear) and "_blocks." in n}
    assert set(adapter_of(adapted(model, SPEC)).layers) == linear


@pytest.mark.parametrize("stacked", LAYOUTS)
def test_a_new_adapter_changes_nothing_and_is_all_that_learns(stacked: bool) -> None:
    model = lively(config_of(stacked))
    before, names = output(model), set(model.state_dict())
    adapted(model, SPEC)
    golden.close(output(model), before, 1e-5, 1e-5)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n in model.state_dict() if ".lora_A." in n or ".lora_B." in n
    }
    model(**inputs_for(model.config, Grid(2, 3, 2))).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if ".lora_B." in n)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert set(plain(model).state_dict()) == names


@pytest.mark.parametrize("stacked", LAYOUTS)
def test_merged_it_computes_the_same(stacked: bool) -> None:
    model = trained(lively(config_of(stacked)))
    before = output(lively(config_of(stacked)))
    want = output(model)
    assert (want - before).abs().max() > 0.1
    golden.close(output(plain(model)), want, 1e-4, 1e-4)
    assert not any("lora" in name or "base_layer" in name for name in model.state_dict())
    adapted(model, SPEC)  # and it takes another one


def test_it_goes_from_one_model_to_another() -> None:
    model = trained(lively(tiny()), LoraSpec(rank=3, alpha=5, dropout=0.25))
    other = attached(lively(tiny()).eval(), adapter_of(model))
    assert torch.equal(output(other), output(model.eval()))
    again = adapter_of(other)
    assert (again.rank, again.alpha, again.dropout) == (3, 5.0, 0.25)
    with pytest.raises(UserError, match=r"changes layers that the model lacks: double_blocks.0.img_attn.q_proj"):
        attached(lively(config_of(True)), again)


def test_what_is_drawn_first_depends_on_seed_and_layer_alone() -> None:
    one = adapter_of(adapted(MMDiT(tiny()), LoraSpec(rank=4, targets=("attn",)))).layers
    torch.rand(7)
    two = adapter_of(adapted(MMDiT(tiny()).bfloat16(), LoraSpec(rank=4, targets=("all",)))).layers
    other = adapter_of(adapted(MMDiT(tiny()), LoraSpec(rank=4, targets=("attn",)), seed=1)).layers
    for name, (a_RI, b_OR) in one.items():
        assert torch.equal(a_RI, two[name].a_RI) and not torch.equal(a_RI, other[name].a_RI)
        assert a_RI.abs().max() <= a_RI.shape[1] ** -0.5 and not b_OR.any()


def test_masters_are_the_factors_alone_in_float32_over_a_bfloat16_base() -> None:
    model = adapted(MMDiT(tiny()).bfloat16(), SPEC)
    drawn = adapter_of(model).layers
    engine = Single(torch.device("cpu"), "bfloat16")
    engine.wrap(model, AdamW())
    masters = engine.masters()
    assert {name for name in masters if ".lora_" not in name} == set()
    assert all(weight.dtype == torch.float32 for weight in masters.values())
    assert all(weight.dtype == torch.bfloat16 for weight in model.state_dict().values())
    for name, (a_RI, _) in drawn.items():
        assert torch.equal(masters[f"{name}.lora_A.default.weight"], a_RI)
    inputs = inputs_for(tiny(), Grid(1, 2, 2))
    assert model(**{**inputs, "x_BLC": inputs["x_BLC"].bfloat16()}).dtype == torch.bfloat16


def test_recomputed_blocks_drop_the_same_numbers_again() -> None:
    found = []
    for blocks in ((0, 0), (2, 2)):
        model = trained(lively(tiny()).train(), LoraSpec(rank=4, alpha=16, dropout=0.5))
        model.recompute(*blocks)
        torch.manual_seed(9)
        result = model(**inputs_for(tiny(), Grid(2, 3, 2)))
        result.square().mean().backward()
        found.append([result.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_a_block_is_still_one_graph() -> None:
    model = trained(lively(tiny()))
    want = output(model)
    model.compile_blocks(backend="eager")
    golden.close(output(model), want, 1e-5, 1e-5)
    torch._dynamo.reset()


def test_the_base_is_known_again_whatever_is_on_it() -> None:
    model = lively(tiny())
    want = fingerprint(InMemory(model.state_dict()))
    assert base_of(trained(model)) == want == adapter_of(model).base
    assert fingerprint(InMemory({n: t.bfloat16().float() for n, t in lively(tiny()).state_dict().items()})) == (
        fingerprint(InMemory(lively(tiny()).bfloat16().state_dict()))
    )
    other = lively(tiny())
    with torch.no_grad():
        other.img_in.bias[3].add_(1e-3)
    assert base_of(trained(other)) != want


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rank": 0}, "lora.rank = 0 is no rank"),
        ({"alpha": 0.0}, "lora.alpha = 0.0 changes nothing"),
        ({"dropout": 1.0}, "lora.dropout = 1.0 is no share"),
        ({"targets": ()}, "lora.targets is empty"),
        (
            {"targets": ("attn", "ff")},
            r"no lora target 'ff'; choose among attn: double_blocks.N.\(img_attn.q_proj, .*single_blocks.N.\(q_proj, .*"
            r"mlp: double_blocks.N.\(img_mlp.0, .*; mod: .*modulation.lin\); all: the three",
        ),
    ],
)
def test_what_makes_no_adapter_is_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        LoraSpec(**values)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_rank_above_a_layers_sides_is_refused_before_anything_is_changed() -> None:
    model = MMDiT(tiny())
    names = set(model.state_dict())
    with pytest.raises(UserError, match=r"lora.rank = 65 is above 64, the smaller side of double_blocks.0.img_mod.lin"):
        adapted(model, LoraSpec(rank=65, targets=("all",)))
    assert set(model.state_dict()) == names and all(p.requires_grad for p in model.parameters())
