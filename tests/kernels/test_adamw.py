"""AdamW on a flat shard against torch's, step by step."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from torch import Tensor

from kernels.adamw import adamw, op
from kernels.adamw.reference import adamw as reference

STEPS = 10
OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-15, "weight_decay": 0.1}


def gradients(n: int, device: str, dtype: Any = torch.float32) -> list[Tensor]:
    """Of a run: over twelve orders of magnitude, with zeros among them."""
    dice = torch.Generator().manual_seed(n)
    size = 10.0 ** torch.linspace(-12, 0, n) * (torch.arange(n) % 5 > 0)
    return [(torch.randn(n, generator=dice) * size).to(device, dtype) for _ in range(STEPS)]


def start(n: int, device: str) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(0)).to(device)


def run(grads: list[Tensor], copy: Tensor | None = None, **options: Any) -> dict[str, Tensor]:
    params = start(grads[0].numel(), str(grads[0].device))
    state = {name: torch.zeros_like(params) for name in ("exp_avg", "exp_avg_sq")}
    for step, grad in enumerate(grads, 1):
        adamw(params, grad, state["exp_avg"], state["exp_avg_sq"], copy, step=step, **{**OPTIONS, **options})
    return {"params": params, **state}


def run_torch(grads: list[Tensor], **options: Any) -> dict[str, Tensor]:
    params = start(grads[0].numel(), str(grads[0].device)).to(grads[0].dtype).requires_grad_()
    optimizer = torch.optim.AdamW([params], **{**OPTIONS, **options}, foreach=False)
    for grad in grads:
        params.grad = grad.clone()
        optimizer.step()
    state = optimizer.state[params]
    return {"params": params.detach(), "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}


def assert_rounding_apart(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """What float32 rounds in ten steps: a few units in the last place of the largest term."""
    for name, x in want.items():
        torch.testing.assert_close(got[name].double(), x.double(), rtol=2e-6, atol=0 if name == "exp_avg_sq" else 2e-7)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("n", [1, 1000, 2049])
def test_ten_steps_are_torchs(n: int, kernel: bool, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    if not kernel:
        monkeypatch.setattr(op, "use_kernel", lambda _: False)
    grads = gradients(n, device)
    assert_rounding_apart(run(grads), run_torch([grad.double() for grad in grads]))
    assert_rounding_apart(run(grads), run_torch(grads))


def test_gradients_in_bf16_and_the_copy(device: str) -> None:
    """The copy is the master rounded, and a poisoned one is overwritten whole."""
    grads = gradients(1500, device, torch.bfloat16)
    copy = torch.full((1500,), float("nan"), dtype=torch.float16, device=device)
    got = run(grads, copy)
    assert_rounding_apart(got, run_torch([grad.float() for grad in grads]))
    assert torch.equal(copy, got["params"].half())


@pytest.mark.gpu
def test_the_copy_in_bf16(device: str) -> None:
    """Rounded to nearest, which the interpreter does not do."""
    copy = torch.full((1500,), float("nan"), dtype=torch.bfloat16, device=device)
    got = run(gradients(1500, device, torch.bfloat16), copy)
    assert torch.equal(copy, got["params"].bfloat16())


@pytest.mark.parametrize("kernel", [True, False])
def test_the_scale_multiplies_the_gradient(kernel: bool, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(op, "use_kernel", lambda _: kernel)
    grads = gradients(300, device)
    scaled = run_torch([grad * 0.25 for grad in grads])
    assert_rounding_apart(run(grads, scale=torch.tensor(0.25, device=device)), scaled)


def test_eps_counts_in_float32(device: str) -> None:
    """A first step is lr * g / (g + eps): half of one where the gradient is eps, whose square is 1e-30."""
    grads = torch.tensor([1e-13, 1e-15, 1e-17, 0.0], device=device)
    params, exp_avg, exp_avg_sq = (torch.zeros(4, device=device) for _ in range(3))
    adamw(params, grads, exp_avg, exp_avg_sq, step=1, **OPTIONS)
    expected = -OPTIONS["lr"] * grads.double() / (grads.double() + OPTIONS["eps"])
    torch.testing.assert_close(params.double(), expected, rtol=1e-5, atol=0)


def test_neighbours_are_left_alone(device: str) -> None:
    """A shard is a piece of a larger buffer."""
    buffer = torch.full((5, 64), 7.0, device=device)
    params, exp_avg, exp_avg_sq = buffer[1, :33], buffer[2, :33].zero_(), buffer[3, :33].zero_()
    adamw(params, torch.ones(33, device=device), exp_avg, exp_avg_sq, step=1, **OPTIONS)
    assert torch.equal(buffer[:, 33:], torch.full((5, 31), 7.0, device=device))
    assert torch.equal(buffer[[0, 4]], torch.full((2, 64), 7.0, device=device))
    assert (params != 7).all()


def test_an_empty_shard(device: str) -> None:
    none = torch.empty(0, device=device)
    adamw(none, none, none.clone(), none.clone(), step=1, **OPTIONS)


@pytest.mark.gpu
def test_beyond_two_to_the_31(device: str) -> None:
    n = 2**31 + 1000
    params = torch.zeros(n, device=device)
    copy = torch.full((n,), float("nan"), dtype=torch.bfloat16, device=device)
    grad = torch.ones(n, dtype=torch.bfloat16, device=device)
    adamw(params, grad, torch.zeros_like(params), torch.zeros_like(params), copy, step=1, **OPTIONS)
    assert (params == params[0]).all() and (copy == copy[0]).all() and params[0] < 0


def test_registered_as_torch_wants_it(device: str) -> None:
    x = torch.rand(70, device=device)
    numbers = (1e-2, 0.9, 0.999, 1e-15, 0.1, 1)
    for copy, scale in ((x.half(), torch.tensor(0.5, device=device)), (None, None)):
        torch.library.opcheck(op._adamw, (x, x.clone(), x.clone(), x.clone(), copy, scale, *numbers))


def test_compiles_in_one_graph(device: str) -> None:
    grads = gradients(70, device)

    def step(params: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor) -> None:
        adamw(params, grad, exp_avg, exp_avg_sq, step=1, **OPTIONS)

    state = [start(70, device), grads[0], torch.zeros(70, device=device), torch.zeros(70, device=device)]
    torch.compile(step, fullgraph=True, backend="aot_eager")(*state)
    assert torch.equal(state[0], run(grads[:1])["params"])


def test_the_reference_is_exact_in_float64() -> None:
    grads = [grad.double() for grad in gradients(100, "cpu")]
    params, m, v = start(100, "cpu").double(), torch.zeros(100).double(), torch.zeros(100).double()
    for step, grad in enumerate(grads, 1):
        reference(params, grad, m, v, None, None, 1e-2, 0.9, 0.999, 1e-15, 0.1, step)
    torch.testing.assert_close(params, run_torch(grads)["params"], rtol=1e-13, atol=1e-14)


def test_shards_of_other_lengths_are_refused(device: str) -> None:
    x = torch.zeros(8, device=device)
    with pytest.raises(AssertionError, match="one length"):
        adamw(x, x[:7], x.clone(), x.clone(), step=1, **OPTIONS)
    with pytest.raises(AssertionError, match="from 1"):
        adamw(x, x.clone(), x.clone(), x.clone(), step=0, **OPTIONS)
