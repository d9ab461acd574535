"""Ranks that share each sample: what a rank's share is, what is refused, and the network on a share, in one process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from curation.errors import UserError
from pipelines.config import preset
from tests.support import encoded
from tests.support.mmdit import inputs_for, lively
from training import assemble, flow, ops
from training.data.batches import check_ranks
from training.models.base import Share
from training.models.build import DenoiserSpec
from training.models.mmdit import MMDiT
from training.models.mmdit.config import tiny
from training.parallel.context import ALONE, Context, context_of
from training.tokens import Grid

GRID, WORDS = Grid(2, 3, 2), 5


def shares(text: int, video: int, ranks: int) -> list[Share]:
    found = [Context(rank, ranks, group=Any).share(text, video) for rank in range(ranks)]  # type: ignore[arg-type]
    return [one for one in found if one is not None]


@given(st.integers(0, 40), st.integers(0, 200), st.integers(1, 9))
def test_every_token_lies_on_one_rank_and_no_rank_has_many_more(text: int, video: int, ranks: int) -> None:
    found = shares(text, video, ranks)
    for stream, total in (("text", text), ("video", video)):
        cuts = [getattr(one, stream) for one in found]
        assert [index for cut in cuts for index in range(cut.start, cut.stop)] == list(range(total))
        sizes = [cut.stop - cut.start for cut in cuts]
        assert max(sizes) - min(sizes) <= 1
    lengths = [one.text.stop - one.text.start + one.video.stop - one.video.start for one in found]
    assert max(lengths) - min(lengths) <= 1
    assert all(one.attend.keywords["lengths"] == tuple(lengths) for one in found)  # type: ignore[attr-defined]


def test_a_rank_alone_has_all_of_it() -> None:
    assert ALONE.share(5, 12) is None
    assert ALONE.data(engine(3, 4)) == (3, 4)


def engine(rank: int, ranks: int, name: str = "fsdp2") -> Any:
    group = None if name == "single" else object()
    return SimpleNamespace(rank=rank, ranks=ranks, name=name, group=group, device=torch.device("cpu"))


def test_consecutive_ranks_take_a_micro_batch_together() -> None:
    found = [Context(rank % 4, 4).data(engine(rank, 8)) for rank in range(8)]
    assert found == [(0, 2)] * 4 + [(1, 2)] * 4


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(
        UserError, match="4 ranks are to share a sample's tokens, engine single is one process; start several"
    ):
        context_of(engine(0, 1, "single"), 4, "ring", 24)
    with pytest.raises(UserError, match="6 ranks are no whole number of groups of 4 that share a sample's tokens; "):
        context_of(engine(0, 6), 4, "ring", 24)
    with pytest.raises(UserError, match=r"24 heads cannot be exchanged among 5 ranks; --set parallel\.attention=ring"):
        context_of(engine(0, 5), 5, "all_to_all", 24)
    with pytest.raises(UserError, match="3 micro-batches a step cannot be shared among 2 groups of 4 ranks"):
        check_ranks(3, 2, context=4)
    assert context_of(engine(0, 6), 1, "all_to_all", 24) is ALONE


def attend(q: Tensor, k: Tensor, v: Tensor, calls: list[int] | None = None, micro_batch: int = 0) -> Tensor:
    """What attention is anyway, by another function."""
    if calls is not None:
        calls.append(q.shape[1])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def whole(by: Any) -> Share:
    return Share(slice(0, WORDS), slice(0, GRID.tokens), by)


def test_another_attention_is_taken_back() -> None:
    q = torch.randn(1, 2, 2, 8)
    for other in (1.0, 2.0):
        with ops.attention_by(lambda q, k, v, other=other: torch.full_like(q, other)):
            with ops.attention_by(lambda q, k, v: torch.zeros_like(q)):
                assert ops.attention(q, q, q).sum() == 0
            assert (ops.attention(q, q, q) == other).all()
    with pytest.raises(RuntimeError, match="lost"), ops.attention_by(attend):
        raise RuntimeError("lost")
    calls: list[int] = []
    with ops.attention_by(partial(attend, calls=calls)):
        ops.attention(q, q, q)
    ops.attention(q, q, q)
    assert calls == [2]


def test_blocks_that_are_computed_again_attend_as_before() -> None:
    """Though the pass in which the share was given is over; and nothing else does."""
    model, arguments = lively(tiny()), inputs_for(tiny(), GRID, words=WORDS)
    calls: list[int] = []
    model.recompute(1, 2)
    out = model(**arguments, share=whole(partial(attend, calls=calls)))
    assert calls == [WORDS + GRID.tokens] * 4
    out.square().mean().backward()
    assert len(calls) == 4 + 3
    model(**arguments)
    assert len(calls) == 4 + 3
    torch.testing.assert_close(out, model(**arguments))


def test_compiled_blocks_are_not_compiled_anew_for_each_micro_batch() -> None:
    model, arguments = lively(tiny()), inputs_for(tiny(), GRID, words=WORDS)
    want = model(**arguments)
    torch.compiler.reset()
    model.compile_blocks(fullgraph=False, backend="eager")
    calls: list[int] = []
    model(**arguments, share=whole(partial(attend, calls=calls, micro_batch=0)))
    with torch._dynamo.config.patch(error_on_recompile=True):
        got = model(**arguments, share=whole(partial(attend, calls=calls, micro_batch=1)))
    assert len(calls) == 2 * 4
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("context", "whole_blocks"), [(1, True), (2, False)])
def test_a_network_that_is_to_be_compiled_is_cut_at_attention(
    context: int, whole_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(MMDiT, "compile_blocks", lambda self, fullgraph=True: told.append(fullgraph))
    settings = replace(preset.load("tiny").preset("tiny"), context=context)
    model = SimpleNamespace(kernels=False, denoiser=DenoiserSpec(preset="tiny_dcae", compile=True))
    source = encoded.Memory(encoded.table({encoded.CLIP: 1}))
    job: Any = SimpleNamespace(model=model, preset=settings, source=source)
    assemble.network(job, torch.device("cpu"))
    assert told == [whole_blocks]


@pytest.mark.parametrize("ranks", [2, 3, 4, 5])
def test_losses_without_given_frames_add_up(ranks: int) -> None:
    """Of shares that do not end with a frame, the given frames not on every rank."""
    draw = torch.Generator().manual_seed(0)
    grid = Grid(3, 1, 5)
    prediction, target = (torch.randn(4, grid.tokens, 6, generator=draw) for _ in range(2))
    mask = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]])
    parts = [
        flow.loss_without_references(prediction[:, one.video], target[:, one.video], mask, (grid, one.video))
        for one in shares(0, grid.tokens, ranks)
    ]
    torch.testing.assert_close(sum(parts), flow.loss_without_references(prediction, target, mask))
