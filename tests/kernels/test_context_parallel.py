"""Context parallelism on 2 and 4 processes against attention in one: outputs, gradients, uneven chunks, overlap.

The processes are children of a server that has imported the code once. They run the reference: what is tested here is
who sends what to whom, and when.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kernels.attention import core
from kernels.context_parallel import even_lengths, heads_attention, ring_attention, stream_lengths

# What `torch.compiler.disable` returns has a type that says nothing of a call.
HEADS: Callable[..., Tensor] = cast(Any, heads_attention)
RING: Callable[..., Tensor] = cast(Any, ring_attention)
WAYS = {"heads": HEADS, "ring": RING}
PATIENCE_S = 120


@dataclass(frozen=True)
class Case:
    way: str
    lengths: tuple[int, ...]
    heads: int
    dtype: Any

    def __str__(self) -> str:
        return f"{self.way}-{self.lengths}-{self.heads} heads-{self.dtype}"


CASES = [
    *[
        Case(way, lengths, 12, torch.float32)
        for way in WAYS
        for lengths in ((10,), (12, 12), (5, 14), (6, 6, 6, 6), (9, 2, 7, 4))
    ],
    *[Case(way, (5, 9, 8, 10), 4, dtype) for way in WAYS for dtype in (torch.float16, torch.bfloat16)],
    Case("ring", (7, 4), 3, torch.float32),
]


def on_ranks(folder: Path, ranks: int, job: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `job(group, *arguments)` returns on each rank of a group of processes; AssertionError where one fails."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kernels.context_parallel", "hypothesis"])
    ends = [context.Pipe(duplex=False) for _ in range(ranks)]
    common = (ranks, str(folder / "store"), job, arguments)
    processes = [context.Process(target=_rank, args=(end[1], rank, *common)) for rank, end in enumerate(ends)]
    for process in processes:
        process.start()
    try:
        assert all(ours.poll(PATIENCE_S) for ours, _ in ends), "a rank does not answer"
        answers = [ours.recv() for ours, _ in ends]
    finally:
        for process in processes:
            process.kill()
            process.join()
    failed = [text for good, text in answers if not good]
    assert not failed, "\n".join(failed)
    return [value for _, value in answers]


def _rank(end: Connection, rank: int, ranks: int, store: str, job: Callable[..., Any], arguments: tuple[Any]) -> None:
    os.environ.pop("TRITON_INTERPRET", None)
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
        value = job(dist.group.WORLD, *arguments)
        dist.barrier()
        end.send((True, value))
    except Exception:
        end.send((False, f"rank {rank}: {traceback.format_exc()}"))


def whole(case: Case) -> list[Tensor]:
    """q, k, v and dout of the whole sequence, the same on every rank: (2, L, H, 16)."""
    torch.manual_seed(0)
    shape = (2, sum(case.lengths), case.heads, 16)
    return [torch.randn(shape, dtype=torch.float64).to(case.dtype) for _ in range(4)]


def expected(case: Case) -> list[Tensor]:
    """out, dq, dk, dv in float64."""
    *qkv, dout = (x.double().requires_grad_() for x in whole(case))
    q, k, v = qkv
    p_BHLM = (torch.einsum("blhd,bmhd->bhlm", q, k) / 4).softmax(-1)
    out = torch.einsum("bhlm,bmhd->blhd", p_BHLM, v)
    return [out.detach(), *torch.autograd.grad(out, qkv, dout.detach())]


def attend(group: dist.ProcessGroup, cases: list[Case]) -> list[list[Any]]:
    """For every case out, dq, dk, dv of this rank's chunk. q, k, v are views of one tensor, a fused projection's."""
    rank, answers = dist.get_rank(group), []
    for case in cases:
        start = sum(case.lengths[:rank])
        *qkv, dout = (x[:, start : start + case.lengths[rank]] for x in whole(case))
        fused = torch.stack(qkv, 2).requires_grad_()
        out = WAYS[case.way](*fused.unbind(2), group, case.lengths)
        (gradient,) = torch.autograd.grad(out, fused, dout)
        answers.append([x.detach().double().numpy() for x in (out, *gradient.unbind(2))])
    return answers


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, list[Tensor]]:
    """Out, dq, dk, dv of the whole sequence for every case: one group of processes for each number of them."""
    made = dict[Case, list[Tensor]]()
    for ranks in (1, 2, 4):
        cases = [case for case in CASES if len(case.lengths) == ranks]
        by_rank = on_ranks(tmp_path_factory.mktemp("ranks"), ranks, attend, cases)
        for case, *chunks in zip(cases, *by_rank, strict=True):
            made[case] = [torch.cat([torch.from_numpy(x) for x in xs], 1) for xs in zip(*chunks, strict=True)]
    return made


def errors(made: list[Tensor], right: list[Tensor]) -> list[float]:
    apart = [((a.double() - b).norm() / b.norm()).item() for a, b in zip(made, right, strict=True)]
    return [x if math.isfinite(x) else math.inf for x in apart]  # NaN would get lost in a maximum


@pytest.mark.parametrize("case", [case for case in CASES if case.dtype is torch.float32], ids=str)
def test_equals_one_process(answers: dict[Case, list[Tensor]], case: Case) -> None:
    assert max(errors(answers[case], expected(case))) <= 1e-6


@pytest.mark.parametrize("case", [case for case in CASES if case.dtype is not torch.float32], ids=str)
def test_half_precision_is_no_worse_than_one_process(answers: dict[Case, list[Tensor]], case: Case) -> None:
    """One process rounds each result once, and so does a ring whose parts and sums are float32."""
    *qkv, dout = (x.requires_grad_() for x in whole(case))
    heads_first = (x.transpose(1, 2) for x in qkv)
    out = torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)
    alone = [out.detach(), *torch.autograd.grad(out, qkv, dout)]
    for ours, theirs in zip(errors(answers[case], right := expected(case)), errors(alone, right), strict=True):
        assert ours <= 1.25 * theirs


def refuse(group: dist.ProcessGroup) -> list[str]:
    """What is said of heads that do not divide, and of lengths that do not fit, before anything is sent."""
    said = list[str]()
    x, longer = torch.zeros(1, 4, 3, 16), torch.zeros(1, 5, 3, 16)
    for call in (
        lambda: HEADS(x, x, x, group),
        lambda: RING(x, x, x, group, (4, 5) if dist.get_rank(group) else (5, 4)),
        lambda: RING(x, longer, longer, group),
    ):
        with pytest.raises(ValueError, match="context parallel") as caught:
            call()
        said.append(str(caught.value))
    return said


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    for heads, lengths, shapes in on_ranks(tmp_path, 2, refuse):
        assert "3 heads do not divide among 2 ranks" in heads
        assert "holds 4 tokens" in lengths
        assert "differ in shape" in shapes


def order(group: dist.ProcessGroup) -> dict[str, tuple[list[str], list[str]]]:
    """The order in which exchanges are started and attention is computed, forward and backward."""
    events = list[str]()

    def spy(owner: Any, name: str, event: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            events.append(event)
            return real(*args, **kwargs)

        setattr(owner, name, call)

    for owner, name, event in (
        (dist, "all_to_all_single", "send"),
        (dist, "batch_isend_irecv", "send"),
        (core, "forward", "attend"),
        (core, "backward_q", "dq"),
        (core, "backward_kv", "dkv"),
    ):
        spy(owner, name, event)
    seen = dict[str, tuple[list[str], list[str]]]()
    for way, attention in WAYS.items():
        x = torch.randn(1, 3, 8, 16, requires_grad=True)
        events.clear()
        out = attention(x, x, x, group)
        forward = events.copy()
        events.clear()
        out.sum().backward()
        seen[way] = forward, events.copy()
    return seen


def test_exchanges_are_under_way_while_attention_is_computed(tmp_path: Path) -> None:
    """Heads: the second part arrives during the first, and that leaves during the second. Ring: the next chunk arrives
    during this one's attention, and gradients travel while dq is computed."""
    for seen in on_ranks(tmp_path, 2, order):
        forward, backward = seen["heads"]
        assert forward == ["send", "send", "attend", "send", "attend", "send"]
        assert backward == ["send", "send", "dkv", "dq", "send", "dkv", "dq", "send"]
        forward, backward = seen["ring"]
        assert forward == ["send", "attend", "attend"]
        assert backward == ["send", "dq", "dkv", "send", "dq", "dkv", "send"]


@given(st.integers(0, 50), st.integers(0, 200), st.integers(1, 9))
def test_chunks_hold_every_token_once_and_text_first(text: int, video: int, ranks: int) -> None:
    streams = stream_lengths(text, video, ranks)
    assert sum(t for t, _ in streams) == text and sum(v for _, v in streams) == video
    assert tuple(t + v for t, v in streams) == even_lengths(text + video, ranks)
    assert max(t + v for t, v in streams) - min(t + v for t, v in streams) <= 1
    first_video = next((rank for rank, (_, v) in enumerate(streams) if v), ranks)
    assert all(t == 0 for t, _ in streams[first_video + 1 :])


def test_text_lies_on_the_first_ranks() -> None:
    assert stream_lengths(512, 76_032, 4) == [(512, 18_624), (0, 19_136), (0, 19_136), (0, 19_136)]
    assert stream_lengths(5, 3, 4) == [(2, 0), (2, 0), (1, 1), (0, 2)]
