"""The estimate of a step's memory: against what networks and engines really hold, and what is said to change first."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from training.cost.formulas import Transformer
from training.cost.memory import SHARES, Held, Setting, held, remedy
from training.models.base import TextStates
from training.models.mmdit import MMDiT, MMDiTConfig, preset
from training.parallel.base import AdamW
from training.parallel.engines import ENGINES
from training.parallel.single import Single
from training.tokens import Grid

GRID, WORDS, BATCH = Grid(4, 8, 8), 64, 2


def config(double: int, single: int) -> MMDiTConfig:
    return replace(
        preset("tiny_dcae"),
        hidden_size=256,
        num_heads=4,
        axes_dim=(16, 24, 24),
        depth=double,
        depth_single_blocks=single,
    )


def setting(made: MMDiTConfig, **changes: object) -> Setting:
    plain = Setting(
        model=Transformer.of(made),
        trained=1000,
        frozen=0,
        width_bytes=4,
        engine="single",
        ranks=1,
        averages=False,
        recomputed=(0, 0),
        offload=False,
        context=1,
    )
    return replace(plain, **changes)  # pyright: ignore[reportArgumentType] # names of its fields


def kept(made: MMDiTConfig, dtype: torch.dtype, recomputed: tuple[int, int] = (0, 0)) -> int:
    """Bytes that autograd holds after a forward pass, beside the weights."""
    network = MMDiT(made).to(dtype)
    network.recompute(*recomputed)
    own = {one.untyped_storage().data_ptr() for one in network.parameters()}
    seen: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    video = torch.randn(BATCH, GRID.tokens, made.in_channels, dtype=dtype)
    states = TextStates(
        torch.randn(BATCH, WORDS, made.context_in_dim, dtype=dtype), torch.randn(BATCH, made.vec_in_dim, dtype=dtype)
    )
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(video, torch.full((BATCH,), 0.5), states, GRID)
        assert out.requires_grad
        return sum(size for size, _ in seen.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recomputed", [(0, 0), (3, 0), (0, 4)])
def test_activations_are_those_that_autograd_keeps(dtype: torch.dtype, recomputed: tuple[int, int]) -> None:
    """Per block: what embeddings and the last layer keep is left out, and so is the block that is computed again."""
    large, small = config(3, 4), config(0, 0)
    measured = kept(large, dtype, recomputed) - kept(small, dtype)
    asked = setting(large, width_bytes=dtype.itemsize, recomputed=recomputed)
    tokens = GRID.tokens + WORDS
    again = held(replace(asked, model=replace(asked.model, double=0, single=0), recomputed=(0, 0)), BATCH, tokens)
    estimate = held(asked, BATCH, tokens).activations - again.activations
    assert estimate == pytest.approx(measured, rel=0.12)


@pytest.mark.parametrize(("precision", "width"), [("float32", 4), ("bfloat16", 2)])
def test_state_is_what_an_engine_holds(precision: str, width: int) -> None:
    """Weights, masters, moments and the masters' gradients, of one process."""
    network = MMDiT(config(1, 1))
    trained = sum(one.numel() for one in network.parameters())
    engine = Single(torch.device("cpu"), precision)  # pyright: ignore[reportArgumentType] # one of the two
    engine.wrap(network, AdamW())
    tensors = [*network.parameters(), *engine.masters().values()]
    tensors += [one for pair in engine.moments().values() for one in pair.values()]
    unique = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    gradients = 4 * trained
    found = held(setting(config(1, 1), trained=trained, width_bytes=width), 0, 0)
    assert found.state == pytest.approx(sum(unique.values()) + gradients, rel=1e-6) and found.activations == 0


def test_every_engine_is_known_and_shares_more_the_further_it_goes() -> None:
    assert set(SHARES) == set(ENGINES)
    made = config(19, 38)
    sizes = [
        held(setting(made, trained=10**9, width_bytes=2, engine=name, ranks=8), 1, 0).state
        for name in ("ddp", "colossal-1", "colossal-2", "fsdp2")
    ]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    with_averages = held(setting(made, trained=10**9, averages=True), 1, 0).state
    assert with_averages == held(setting(made, trained=10**9), 1, 0).state + 4e9


@pytest.mark.parametrize(
    ("changes", "heavy", "says"),
    [
        ({"engine": "ddp", "ranks": 8}, "state", "--engine colossal-2 or fsdp2"),
        ({"engine": "colossal-2", "ranks": 8}, "state", "--engine fsdp2"),
        ({"engine": "fsdp2", "ranks": 8}, "state", "more --workers, or train an adapter"),
        ({"engine": "fsdp2", "ranks": 8}, "activations", "let all blocks be recomputed"),
        ({"recomputed": (3, 4)}, "activations", "network.offload=true"),
        ({"recomputed": (3, 4), "offload": True}, "activations", "less than 4 samples a batch"),
        ({"recomputed": (3, 4), "offload": True, "context": 2}, "one", "--set parallel.context=4"),
    ],
)
def test_the_cheapest_change_that_helps_is_named(changes: dict[str, object], heavy: str, says: str) -> None:
    found = Held(100.0, 10.0) if heavy == "state" else Held(10.0, 100.0)
    assert says in remedy(setting(config(3, 4), **changes), found, 120.0, 1 if heavy == "one" else 4)


def test_inputs_that_wait_on_the_host_and_tokens_of_other_ranks_are_not_held() -> None:
    made = config(3, 4)
    asked = setting(made, recomputed=(3, 4))
    whole = held(asked, BATCH, 100)
    assert held(replace(asked, context=2), BATCH, 100).activations == whole.activations / 2
    inputs = 7 * BATCH * 100 * made.hidden_size * 4
    assert held(replace(asked, offload=True), BATCH, 100).activations == whole.activations - inputs
