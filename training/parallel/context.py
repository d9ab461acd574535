"""Context parallelism: consecutive ranks share the tokens of each sample: a long one fits, and is done sooner.

    rank r of R, N to a sample -> data rank r // N of R // N; of each of its samples, share r % N of N

A rank computes its share of the text and of the video with whole weights, and meets the others of its group in
attention alone. The engine knows nothing of it: it averages gradients over all R ranks as ever. So a rank's loss is
N times the sum over its tokens, over the elements of all tokens: then the mean over all ranks is the loss of R // N
ranks that have whole samples. (A mean over its tokens would count a token more on a rank that has fewer.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from curation.errors import UserError
from kernels.context_parallel import even_lengths, heads_attention, ring_attention
from training.models.base import Share
from training.parallel.base import Engine

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Way = Literal["all_to_all", "ring"]

# What `torch.compiler.disable` returns has a type that says nothing of a call.
_ATTENTION: Mapping[Way, Callable[..., Tensor]] = {
    "all_to_all": cast(Any, heads_attention),
    "ring": cast(Any, ring_attention),
}


@dataclass(frozen=True, slots=True)
class Context:
    """This one, number `rank`, of the `ranks` that share each sample. `way`: heads are exchanged for tokens, or keys
    and values go round. `group`: these ranks, None of one alone."""

    rank: int = 0
    ranks: int = 1
    way: Way = "all_to_all"
    group: ProcessGroup | None = None

    @property
    def draws(self) -> int:
        """Which of the group's draws are this rank's, where its network draws: for other tokens others."""
        return self.rank

    def data(self, engine: Engine) -> tuple[int, int]:
        """The data rank, and of how many: who shares a step's micro-batches."""
        return engine.rank // self.ranks, engine.ranks // self.ranks

    def share(self, text: int, video: int) -> Share | None:
        """This rank's tokens of a sample with so many; None: all.

        Text and video are each cut by itself, so that every rank has of both where there are enough, and its double
        blocks as much work as any. Longer cuts of the text lie on the first ranks, of the video on the last.
        """
        if self.group is None:
            return None
        texts, videos = even_lengths(text, self.ranks), even_lengths(video, self.ranks)[::-1]
        lengths = tuple(words + patches for words, patches in zip(texts, videos, strict=True))
        attend = partial(_ATTENTION[self.way], group=self.group, lengths=lengths)
        return Share(_cut(texts, self.rank), _cut(videos, self.rank), attend)


ALONE = Context()
"""Of a rank that has whole samples."""


def context_of(engine: Engine, ranks: int, way: Way, heads: int) -> Context:
    """The group of `ranks` of an engine's that this one is in; every rank makes its own at the same time.

    `heads`: of the network. UserError: one process, ranks or heads that `ranks` does not divide.
    """
    if ranks == 1:
        return ALONE
    if engine.group is None:
        raise UserError(
            f"{ranks} ranks are to share a sample's tokens, engine {engine.name} is one process",
            "start several with torchrun or --workers, or --set parallel.context=1 where a GPU holds a whole sample",
        )
    if engine.ranks % ranks:
        raise UserError(
            f"{engine.ranks} ranks are no whole number of groups of {ranks} that share a sample's tokens",
            f"start a multiple of {ranks} processes, or change parallel.context",
        )
    if way == "all_to_all" and heads % ranks:
        raise UserError(
            f"the network's {heads} heads cannot be exchanged among {ranks} ranks",
            "--set parallel.attention=ring, or make parallel.context a divisor of the heads",
        )
    return Context(engine.rank % ranks, ranks, way, group_of(engine, ranks))


def group_of(engine: Engine, ranks: int) -> ProcessGroup:
    """The consecutive `ranks` of an engine's, a divisor of all, that this one is in; all make theirs at once."""
    mesh = init_device_mesh(engine.device.type, (engine.ranks // ranks, ranks), mesh_dim_names=("data", "context"))
    return mesh.get_group("context")


def _cut(lengths: tuple[int, ...], rank: int) -> slice:
    ends = (0, *accumulate(lengths))
    return slice(ends[rank], ends[rank + 1])
