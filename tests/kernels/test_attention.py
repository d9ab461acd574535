"""Attention against a float64 softmax: outputs, log-sum-exp and gradients; layouts, packing, tails, compilation.

Gluon has no interpreter: without a GPU, its kernels run as `tests.support.gluon_machine` has it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch.nn import functional as F

from kernels.attention import attention, attention_varlen, attention_with_lse, core, layout
from kernels.attention.gluon import launch as gluon
from kernels.attention.op import attention_forward
from kernels.runtime import Config
from tests.support.gluon_machine import Simulated
from tests.support.gluon_memory import Descriptor

EXACT = 1e-5 if torch.cuda.is_available() else 1e-6
"""In float32, and of the log-sum-exp (kernels spec, tolerances): a GPU's powers and logarithms are approximate."""
TOLERANCE = {torch.float32: EXACT, torch.float16: 1e-2, torch.bfloat16: 1e-2}


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor that is allocated without a value starts as NaN: what a kernel leaves out shows.

    Not those of gigabytes, which are never touched.
    """
    empty = torch.empty

    def nan(*args: object, **kwargs: object) -> Tensor:
        made = empty(*args, **kwargs)
        return made.fill_(torch.nan) if made.is_floating_point() and made.numel() < 1 << 24 else made

    monkeypatch.setattr(torch, "empty", nan)


SMALL = {
    "attention_forward": Config({"BLOCK_M": 32, "BLOCK_N": 16, "STAGES": 2, "PINGPONG": True}),
    "attention_backward_kv": Config({"BLOCK_M": 16, "BLOCK_N": 32, "STAGES": 3}),
    "attention_backward_q": Config({"BLOCK_M": 32, "BLOCK_N": 16, "STAGES": 2}),
}
"""Tiles for Gluon's kernels where they are simulated: small, and as many stages as the shipped settings have."""


@pytest.fixture(params=["tma", "pointer", "gluon"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the kernels read and write, and in which language they are: each, one after the other."""
    if request.param == "pointer":
        monkeypatch.setattr(core, "has_tma", lambda device: False)
    if request.param == "gluon" and torch.cuda.is_available():
        monkeypatch.setattr(gluon, "_preferred", gluon.EVERY)
    elif request.param == "gluon":
        simulate_gluon(monkeypatch)
    return request.param


def suited(way: str) -> tuple[Any, int]:
    """A dtype and head dimension that this way has kernels for, on a GPU too: Gluon's are for 16 bits and 128."""
    return (torch.float16, 128) if way == "gluon" else (torch.float32, 32)


def simulate_gluon(monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> None:
    kernel = gluon.kernel
    monkeypatch.setattr(gluon, "settings", lambda op, q: SMALL[op])
    monkeypatch.setattr(gluon, "descriptor", Descriptor)
    monkeypatch.setattr(gluon, "processors", lambda device: 2)
    monkeypatch.setattr(gluon, "kernel", lambda op: Simulated(kernel(op), seed))


def exact(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    s_BHLM = torch.einsum("blhd,bmhd->bhlm", q.double(), k.double()) * q.shape[-1] ** -0.5
    return torch.einsum("bhlm,bmhd->blhd", s_BHLM.softmax(-1), v.double()), s_BHLM.logsumexp(-1)


def error(a: Tensor, b: Tensor) -> float:
    """Relative, infinite where a number is missing: NaN would get lost in a maximum."""
    apart = ((a.double() - b).norm() / b.norm()).item()
    return apart if math.isfinite(apart) else math.inf


def inputs(device: str, dtype: Any, B: int, L: int, M: int, H: int, D: int, seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(B, n, H, D).to(device, dtype).requires_grad_() for n in (L, M, M)]


def gradients(out: Tensor, dout: Tensor, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out, tensors, dout.to(out.dtype))


def assert_exact(tensors: list[Tensor], tolerance: float) -> None:
    """out, lse, dq, dk, dv, against float64 ones of the same inputs."""
    q, k, v = tensors
    out, lse = attention_with_lse(q, k, v)
    wide = [x.detach().double().requires_grad_() for x in tensors]
    expected, expected_lse = exact(*wide)
    dout = torch.randn(out.shape).to(out)
    assert out.dtype == q.dtype and out.shape == q.shape and lse.shape == (q.shape[0], q.shape[2], q.shape[1])
    assert error(out.detach(), expected) <= tolerance
    assert lse.dtype == torch.float32 and error(lse.detach(), expected_lse) <= EXACT
    pairs = zip(gradients(out, dout, tensors), gradients(expected, dout, wide), strict=True)
    assert max(error(made, right) for made, right in pairs) <= tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("L", "M", "D"), [(1, 2, 32), (32, 16, 64), (33, 47, 32), (65, 15, 128)])
def test_matches_softmax(device: str, way: str, dtype: Any, L: int, M: int, D: int) -> None:
    assert_exact(inputs(device, dtype, 2, L, M, 2, D), TOLERANCE[dtype])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has its own order of events")
@pytest.mark.parametrize("seed", range(0, 80, 10))
def test_gluon_is_right_in_any_order_of_events(device: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings of tiles go round four times and more, in several tiles a program; some warps or copies are slow."""
    simulate_gluon(monkeypatch, seed)
    assert_exact(inputs(device, torch.float32, 1, 205, 203, 1, 32), EXACT)


@pytest.mark.parametrize("way", ["tma"], indirect=True)
def test_other_head_dimensions_are_padded(device: str, way: str) -> None:
    assert_exact(inputs(device, torch.float32, 1, 20, 37, 1, 40), EXACT)


def test_a_head_dimension_too_large_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match="head dimension 192"):
        attention(*inputs(device, torch.float16, 1, 4, 4, 1, 192))


def test_tensors_that_do_not_go_together_are_refused(device: str) -> None:
    q, k, v = inputs(device, torch.float16, 1, 4, 4, 2, 32)
    with pytest.raises(ValueError, match="do not go together"):
        attention(q, k[:, :, :1], v[:, :, :1])


def test_half_precision_is_as_near_as_torch(device: str, way: str) -> None:
    assert_as_near_as_torch(inputs(device, torch.float16, 1, 96, 130, 2, 64))


def assert_as_near_as_torch(tensors: list[Tensor]) -> None:
    """Out, dq, dk, dv: at most 1.25 times the error of torch in the same dtype, and at most 1e-2."""
    wide = [x.detach().double().requires_grad_() for x in tensors]
    heads_q, heads_k, heads_v = (x.transpose(1, 2) for x in tensors)
    theirs, (right, _) = F.scaled_dot_product_attention(heads_q, heads_k, heads_v).transpose(1, 2), exact(*wide)
    ours, dout = attention(*tensors), torch.randn(right.shape).to(right)
    results = [
        [out.detach(), *gradients(out, dout, x)] for out, x in ((ours, tensors), (theirs, tensors), (right, wide))
    ]
    for made, other, expected in zip(*results, strict=True):
        assert error(made, expected) <= min(1e-2, 1.25 * error(other, expected))


def test_fused_projection_is_read_in_place(device: str, way: str) -> None:
    """q, k, v as views of one tensor, with the row stride of the single blocks: 3 x 3072 + 12288."""
    dtype, D = suited(way)
    L, H = 40, 2
    fused_BLW = torch.randn(2, L, 21_504).to(device, dtype)
    q, k, v = fused_BLW[..., : 3 * H * D].unflatten(-1, (3, H, D)).unbind(2)
    assert q.stride(1) == 21_504 and all(core.dense_rows(x) is x for x in (q, k, v))
    out, lse = core.forward(q, k, v, D**-0.5)
    expected, expected_lse = exact(q, k, v)
    assert error(out, expected) <= TOLERANCE[dtype] and error(lse, expected_lse) <= EXACT


@pytest.mark.parametrize("order", ["bhld", "lbhd", "blhd+1", "dlhb"])
def test_any_stride(device: str, order: str) -> None:
    """Heads first, tokens first, a base that is not aligned, and a last dimension that is not contiguous."""
    names = order.removesuffix("+1")
    sizes = {"b": 2, "l": 35, "h": 2, "d": 32}
    back = [names.index(name) for name in "blhd"]
    shape, shift = [sizes[name] for name in names], int(order.endswith("+1"))
    flat = [torch.randn(2 * 35 * 2 * 32 + shift).to(device)[shift:] for _ in range(3)]
    assert_exact([x.view(shape).permute(back).requires_grad_() for x in flat], EXACT)


@pytest.mark.parametrize(("steps", "fits"), [((35 * 72, 72, 32), True), ((35 * 70, 70, 32), False)])
def test_rows_that_no_descriptor_takes_go_by_pointers(device: str, steps: tuple[int, ...], fits: bool) -> None:
    """float16 rows of 144 bytes are multiples of 16, those of 140 are not."""
    flat = [torch.randn(2 * 35 * 72).to(device, torch.float16) for _ in range(3)]
    tensors = [x.as_strided((2, 35, 2, 32), (*steps, 1)).requires_grad_() for x in flat]
    assert all(layout.fits_descriptor(x) == fits for x in tensors)
    assert_exact(tensors, 1e-2)


def test_a_batch_of_one_may_have_any_batch_stride(device: str) -> None:
    flat = [torch.randn(35 * 64).to(device) for _ in range(3)]
    tensors = [x.as_strided((1, 35, 2, 32), (7, 64, 32, 1)).requires_grad_() for x in flat]
    assert all(layout.fits_descriptor(x) for x in tensors)
    assert_exact(tensors, EXACT)


def test_offsets_pass_32_bits(device: str, way: str) -> None:
    """The third token lies past 2^31 elements. The memory between is never touched."""
    step = (1 << 30) + 96
    buffer = torch.empty(2 * step + 96, dtype=torch.float16, device=device)
    tensors = [buffer.as_strided((1, 3, 1, 32), (0, step, 32, 1), 32 * n) for n in range(3)]
    assert_exact([x.copy_(torch.randn(x.shape)).requires_grad_() for x in tensors], 1e-2)


def test_without_keys_zero_and_minus_infinity(device: str, way: str) -> None:
    q, k, v = inputs(device, torch.float32, 1, 5, 0, 2, 32)
    out, lse = attention_with_lse(q, k, v)
    assert (out == 0).all() and (lse == -torch.inf).all()
    dq, dk, dv = gradients(out, torch.ones_like(out), [q, k, v])
    assert (dq == 0).all() and dk.shape == dv.shape == k.shape


def test_without_queries_keys_have_no_gradient(device: str, way: str) -> None:
    q, k, v = inputs(device, torch.float32, 1, 0, 20, 2, 32)
    out, _ = attention_with_lse(q, k, v)
    _, dk, dv = gradients(out, torch.ones_like(out), [q, k, v])
    assert out.shape == q.shape and (dk == 0).all() and (dv == 0).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_extreme_scores(device: str, way: str, sign: int) -> None:
    """Every score near +-700: exp overflows there, and past the last key exp(0 - lse) does. float32 holds 4 digits."""
    q, k, v = inputs(device, torch.float32, 1, 20, 21, 1, 32)
    tensors = [(x + shift).detach().requires_grad_() for x, shift in ((q, sign * 11.0), (k, 11.0), (v, 0.0))]
    assert_exact(tensors, 2e-3)


def test_gradient_of_lse(device: str) -> None:
    tensors = inputs(device, torch.float32, 2, 20, 35, 2, 32)
    wide = [x.detach().double().requires_grad_() for x in tensors]
    (out, lse), (expected, expected_lse) = attention_with_lse(*tensors), exact(*wide)
    weight = torch.randn(lse.shape).to(lse)
    made = torch.autograd.grad((lse * weight).sum() + out.sum(), tensors)
    right = torch.autograd.grad((expected_lse * weight).sum() + expected.sum(), wide)
    assert max(error(a, b) for a, b in zip(made, right, strict=True)) <= EXACT


def test_gradient_of_lse_alone(device: str) -> None:
    q, k, v = inputs(device, torch.float32, 2, 20, 35, 2, 32)
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    (made,), (right,) = (
        torch.autograd.grad(lse.sum(), x)
        for lse, x in ((attention_with_lse(q, k, v)[1], k), (exact(*wide)[1], wide[1]))
    )
    assert error(made, right) <= EXACT


LENGTHS = {"unequal": ([5, 33, 16], [18, 1, 40]), "empty": ([7, 0, 9, 3], [0, 12, 20, 1]), "one": ([20], [37])}


@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_packed_sequences_attend_to_themselves(device: str, dtype: Any, case: str) -> None:
    q_lens, k_lens = LENGTHS[case]
    q, k, v = (x[0].detach().requires_grad_() for x in inputs(device, dtype, 1, sum(q_lens), sum(k_lens), 2, 32))
    cu_q, cu_k = (
        torch.tensor([0, *itertools.accumulate(lens)], dtype=torch.int32, device=device) for lens in (q_lens, k_lens)
    )
    out = attention_varlen(q, k, v, cu_q, cu_k, max(q_lens), max(k_lens))
    dout = torch.randn(out.shape).to(out)
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    q_parts, k_parts, v_parts = (x.split(n) for x, n in zip(wide, (q_lens, k_lens, k_lens), strict=True))
    expected = torch.cat(
        [exact(*(x[None] for x in part))[0][0] for part in zip(q_parts, k_parts, v_parts, strict=True)]
    )
    assert error(out.detach(), expected) <= TOLERANCE[dtype]
    pairs = zip(gradients(out, dout, [q, k, v]), gradients(expected, dout, wide), strict=True)
    assert max(error(made, right) for made, right in pairs) <= TOLERANCE[dtype]


def test_shares_of_the_keys_add_up(device: str, way: str) -> None:
    """With lse and delta over all keys, the gradients of two parts are the whole's: dQ summed, dK and dV apart."""
    _, D = suited(way)
    q, k, v = (x.detach() for x in inputs(device, torch.float16, 1, 37, 50, 2, D))
    dout, scale, cut = torch.randn(q.shape).to(q), D**-0.5, 21
    wide = [x.double().requires_grad_() for x in (q, k, v)]
    right = gradients(exact(*wide)[0], dout, wide)
    out, lse = core.forward(q, k, v, scale)
    delta = core.delta(out, dout)
    dq, before = torch.empty(q.shape, device=device), torch.randn(2, *k.shape).to(device)
    dk, dv = before.clone()
    for part in (slice(0, cut), slice(cut, None)):
        given = (q, k[:, part], v[:, part], dout, lse, delta, scale)
        core.backward_q(*given, dq, accumulate=part.start > 0)
        core.backward_kv(*given, dk[:, part], dv[:, part], accumulate=True)
    made = (dq, dk - before[0], dv - before[1])
    assert max(error(a, b) for a, b in zip(made, right, strict=True)) <= 2e-3


def test_destinations_may_be_strided(device: str, way: str) -> None:
    dtype, D = suited(way)
    q, k, v = (x.detach() for x in inputs(device, dtype, 2, 20, 20, 2, D))
    tokens_first = torch.empty(20, 3, 2, 2, D, dtype=dtype, device=device)
    out, *_ = (x.transpose(0, 1) for x in tokens_first.unbind(1))
    assert core.forward(q, k, v, D**-0.5, out=out)[0] is out
    assert error(out, exact(q, k, v)[0]) <= TOLERANCE[dtype]
    assert tokens_first[:, 1:].isnan().all()


def test_same_bits_every_time(device: str, way: str) -> None:
    tensors = inputs(device, torch.float16, 1, 50, 70, 2, suited(way)[1])
    runs = [gradients(attention(*tensors), torch.ones_like(tensors[0]), tensors) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_operator_is_well_formed(device: str) -> None:
    q, k, v = inputs(device, torch.float32, 1, 6, 9, 1, 32)
    torch.library.opcheck(attention_forward, (q, k, v, None, None, 0, 0, 0.2))
    cu_q, cu_k = (torch.tensor(cu, dtype=torch.int32, device=device) for cu in ([0, 2, 6], [0, 5, 9]))
    torch.library.opcheck(attention_forward, (q, k, v, cu_q, cu_k, 4, 5, 0.2))


def test_compiles_whole(device: str) -> None:
    tensors = inputs(device, torch.float32, 1, 20, 33, 1, 40)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    out, expected = compiled(*tensors), attention(*tensors)
    assert torch.equal(out, expected)
    dout = torch.randn(out.shape).to(out)
    pairs = zip(gradients(out, dout, tensors), gradients(expected, dout, tensors), strict=True)
    assert all(torch.equal(made, right) for made, right in pairs)


def test_packed_compiles_whole(device: str) -> None:
    q, k, v = (x[0].detach() for x in inputs(device, torch.float32, 1, 9, 9, 1, 32))
    cu = torch.tensor([0, 4, 9], dtype=torch.int32, device=device)
    compiled = torch.compile(attention_varlen, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(q, k, v, cu, cu, 5, 5), attention_varlen(q, k, v, cu, cu, 5, 5))


class TestReference:
    """What runs on a CPU without the interpreter."""

    @pytest.fixture(autouse=True)
    def _plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def launched(*args: object, **kwargs: object) -> None:
            raise AssertionError("a kernel was launched")

        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        monkeypatch.setattr(core, "_launch", launched)

    def test_matches_softmax(self) -> None:
        assert_exact(inputs("cpu", torch.float32, 2, 9, 13, 2, 24), EXACT)

    def test_gradients_by_finite_differences(self) -> None:
        tensors = [x.detach().double().requires_grad_() for x in inputs("cpu", torch.float32, 1, 3, 4, 2, 5)]
        assert torch.autograd.gradcheck(attention_with_lse, tensors)

    def test_packed(self) -> None:
        q, k, v = (x[0].detach().double().requires_grad_() for x in inputs("cpu", torch.float32, 1, 5, 6, 1, 4))
        cu_q, cu_k = torch.tensor([0, 2, 5]), torch.tensor([0, 5, 6])
        out = attention_varlen(q, k, v, cu_q, cu_k, 3, 5)
        parts = [exact(q[None, a], k[None, b], v[None, b])[0] for a, b in layout.Packed(cu_q, cu_k, 3, 5).slices()]
        assert torch.allclose(out, torch.cat(parts, 1)[0])
        assert torch.autograd.gradcheck(lambda q, k, v: attention_varlen(q, k, v, cu_q, cu_k, 3, 5), (q, k, v))

    def test_bfloat16_stays_out_of_the_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        assert_exact(inputs("cpu", torch.bfloat16, 1, 9, 13, 2, 32), 1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("L", "M", "D"), [(2816, 2816, 128), (1000, 77, 128), (777, 1300, 64), (515, 515, 32)])
def test_as_near_as_torch_on_a_gpu(way: str, dtype: Any, L: int, M: int, D: int) -> None:
    assert_as_near_as_torch(inputs("cuda", dtype, 1, L, M, 4, D))
