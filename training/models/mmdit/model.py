"""The MMDiT: velocity of noisy video tokens, given time, text and a condition (spec section 3).

`forward` is three steps that a caller may also take one by one: `embed` (inputs to streams), `transform` (all blocks),
`final_layer`. Blocks are compiled one by one (`compile_blocks`) and recomputed one by one (`recompute`). Where several
processes share a sample (`Share`), each gives its tokens, and only attention sees those of the others.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training import ops
from training.models.base import Share, TextStates
from training.models.mmdit.blocks import DoubleBlock, FinalLayer, SingleBlock
from training.models.mmdit.config import MMDiTConfig
from training.models.mmdit.embed import TIME_CHANNELS, Embedder, timestep_embedding
from training.models.mmdit.rope import Rope, rotary_tables
from training.offload import Offload
from training.tokens import Grid

_NEAR_ZERO = ("time_in.", "vector_in.", "mod.", "modulation.", "final_layer.")


class MMDiT(nn.Module):
    """A `training.models.base.Denoiser`. `draws`: whether blocks draw random numbers, as an adapter's dropout does; a
    recomputed block then draws the same ones again."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.img_in = nn.Linear(config.in_channels, hidden)
        self.time_in = Embedder(TIME_CHANNELS, hidden)
        self.vector_in = Embedder(config.vec_in_dim, hidden)
        self.cond_in = nn.Linear(config.cond_channels, hidden) if config.cond_embed else None
        self.txt_in = nn.Linear(config.context_in_dim, hidden)
        self.double_blocks = nn.ModuleList(DoubleBlock(config) for _ in range(config.depth))
        self.single_blocks = nn.ModuleList(SingleBlock(config) for _ in range(config.depth_single_blocks))
        self.final_layer = FinalLayer(hidden, config.in_channels)
        self._recomputed = (0, 0)
        self.draws = False
        self._offload: Offload | None = None
        self.init_weights()

    def forward(
        self,
        x_BLC: Tensor,
        t_B: Tensor,
        text: TextStates,
        grid: Grid,
        cond_BLK: Tensor | None = None,
        share: Share | None = None,
    ) -> Tensor:
        """Velocity (B, L, C) in `x_BLC`'s dtype. `cond_BLK` None is an all-zero condition, as is text to video's.

        `grid`: of the whole sample; with `share` the tokens of `x_BLC`, `text` and `cond_BLK` are a part of its.
        """
        held = grid.tokens if share is None else share.video.stop - share.video.start
        assert x_BLC.shape[1] == held, f"{x_BLC.shape[1]} tokens, not {held}, on a grid of {grid.tokens}"
        img_BLD, txt_BMD, vec_BD = self.embed(x_BLC, t_B, text, cond_BLK)
        words = txt_BMD.shape[1]
        rope = self.rope(grid, words, x_BLC.device)
        if share is not None:
            cos, sin = (torch.cat((table[:words], table[words:][share.video])) for table in rope)
            rope = cos, sin
        attend = None if share is None else share.attend
        return self.final_layer(self.transform(img_BLD, txt_BMD, vec_BD, rope, attend), vec_BD)

    def embed(
        self, x_BLC: Tensor, t_B: Tensor, text: TextStates, cond_BLK: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Video stream (B, L, D), text stream (B, M, D) and the vector of time and pooled text (B, D)."""
        dtype = x_BLC.dtype
        img_BLD = self.img_in(x_BLC)
        if self.cond_in is not None:
            # Zeros too pass the layer, for its bias; one token of them stands for all.
            cond_BLK = x_BLC.new_zeros(1, 1, self.config.cond_channels) if cond_BLK is None else cond_BLK.to(dtype)
            img_BLD = img_BLD + self.cond_in(cond_BLK)
        else:
            assert cond_BLK is None, "this model has no input for a condition (cond_embed)"
        txt_BMD = self.txt_in(text.tokens_BMD.to(dtype))
        vec_BD = self.time_in(timestep_embedding(t_B).to(dtype)) + self.vector_in(text.pooled_BP.to(dtype))
        return img_BLD, txt_BMD, vec_BD

    def rope(self, grid: Grid, text_tokens: int, device: torch.device) -> Rope:
        """Rotary tables of the joint sequence, text first: (M + L, head_dim / 2) each."""
        return rotary_tables(self.config.axes_dim, self.config.theta, grid, text_tokens, device)

    def transform(
        self, img_BLD: Tensor, txt_BMD: Tensor, vec_BD: Tensor, rope: Rope, attend: ops.Attention | None = None
    ) -> Tensor:
        """All blocks: the video stream (B, L, D) that `final_layer` reads. Any share of the tokens will do, provided
        that `rope` has the rows of that share, and that `attend` sees the rest."""
        double, single = self._recomputed if torch.is_grad_enabled() else (0, 0)
        for index, block in enumerate(self.double_blocks):
            img_BLD, txt_BMD = self._run(block, index < double, attend, (img_BLD, txt_BMD), vec_BD, *rope)
        joint_BSD = torch.cat((txt_BMD, img_BLD), dim=1)
        for index, block in enumerate(self.single_blocks):
            joint_BSD = self._run(block, index < single, attend, (joint_BSD,), vec_BD, *rope)
        return joint_BSD[:, txt_BMD.shape[1] :]

    def recompute(self, double: int, single: int, offload: Offload | None = None) -> None:
        """Keep only the inputs of the first `double` double and `single` single blocks for the backward pass, with
        `offload` on the host.

        The report: (8, all) in stages 1 and 2, all in stage 3 and with the DC-AE (spec section 4.5).
        """
        self._recomputed, self._offload = (double, single), offload

    def _run(
        self,
        block: nn.Module,
        recomputed: bool,
        attend: ops.Attention | None,
        streams: tuple[Tensor, ...],
        *others: Tensor,
    ) -> Any:
        """A block's output, its activations dropped where `recomputed`. Generators are kept where it draws."""
        run = block if attend is None else partial(_attending, attend, block)
        if not recomputed:
            return run(*streams, *others)
        with self._offload.inputs(*streams) if self._offload else nullcontext():
            return checkpoint(run, *streams, *others, use_reentrant=False, preserve_rng_state=self.draws)

    def compile_blocks(self, fullgraph: bool = True, **options: Any) -> None:
        """torch.compile each block, as one graph, or with `fullgraph` False as those before and after an attention that
        others take part in; parameter names stay. `options` as torch.compile's."""
        for block in (*self.double_blocks, *self.single_blocks):
            block.compile(fullgraph=fullgraph, **options)

    def init_weights(self) -> None:
        """Fresh values for every parameter; see `init_parameter`."""
        for name, parameter in self.named_parameters():
            self.init_parameter(name, parameter)

    @torch.no_grad()
    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """Fresh values for the parameter of that name, in place.

        `cond_in` is zero, so a text-to-video model starts image-to-video unchanged (public code; spec section 3). The
        public code starts everything else from Flux-dev. Ours from nothing: Xavier uniform, and N(0, 0.02) for the
        embedders, modulations and last projection, so that every block starts near the identity (the habit of
        DiT, Peebles and Xie 2023, section 3.2, though not exactly zero: no gradient vanishes at the first step).
        """
        if name.endswith(".scale"):
            parameter.fill_(1.0)
        elif parameter.ndim == 1 or name.startswith("cond_in."):
            parameter.zero_()
        elif any(part in name for part in _NEAR_ZERO):
            nn.init.normal_(parameter, std=0.02)
        else:
            nn.init.xavier_uniform_(parameter)


def _attending(attend: ops.Attention, block: nn.Module, *inputs: Tensor) -> Any:
    """A block's output with that attention, also where a backward pass computes it again."""
    with ops.attention_by(attend):
        return block(*inputs)
