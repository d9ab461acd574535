"""Flow matching on encoded clips: the velocity from data to noise at a drawn time, under a drawn condition.

    Encoded samples -> kind, dropout, noise, time (each keyed by seed, step and sample) -> tokens -> network -> loss

Where ranks share a sample, all of them draw the whole of it, and each keeps its tokens.

Spec sections 4.1 to 4.3. Noise, times and targets are float32 whatever the network computes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from curation.errors import UserError
from training import condition, flow
from training.condition import TEXT_DROPOUT, TEXT_ONLY, Kind, Weights
from training.cost.formulas import Transformer
from training.data.batches import MicroBatch
from training.data.encoded import Encoded, Source
from training.methods.base import Losses
from training.methods.draws import VALIDATION, Draw, generator
from training.models.base import LatentSpec, Share, TextStates
from training.parallel.context import ALONE, Context
from training.tokens import Grid, grid_of, pack


@dataclass(frozen=True, slots=True)
class FlowInputs:
    """Packed samples of one bucket. `cond_BLK` None: nothing is given to any of them. With `share` tokens are those of
    this rank; `grid`, `mask_BT` and `flops` are of whole samples."""

    samples: tuple[int, ...]
    grid: Grid
    data_BLC: Tensor
    noise_BLC: Tensor
    times_B: Tensor
    tokens_BMD: Tensor
    pooled_BP: Tensor
    cond_BLK: Tensor | None
    mask_BT: Tensor
    flops: float
    share: Share | None = None

    @property
    def tokens(self) -> int:
        return len(self.samples) * self.grid.tokens

    def at(self, t: float) -> Self:
        """The same at one time for all."""
        return replace(self, times_B=torch.full_like(self.times_B, t))

    def of(self, share: Share) -> Self:
        """Its tokens, without the others' memory."""
        cond = self.cond_BLK
        return replace(
            self,
            data_BLC=self.data_BLC[:, share.video].contiguous(),
            noise_BLC=self.noise_BLC[:, share.video].contiguous(),
            tokens_BMD=self.tokens_BMD[:, share.text].contiguous(),
            cond_BLK=None if cond is None else cond[:, share.video].contiguous(),
            share=share,
        )

    def to(self, device: torch.device) -> Self:
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Self:
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Any) -> Self:
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(self, **{name: change(value) for name, value in found.items() if isinstance(value, Tensor)})


@dataclass(frozen=True)
class FlowMatching:
    """`weights`: of the condition's kinds. `dropout`: of each text encoder's states. `model`: sizes that give FLOPs.

    `with_references`: False leaves given end frames out of the loss. `frozen`: an adapter is trained, its base is not.
    `context`: the ranks that share each sample.
    UserError: a kind that the latents do not allow.
    """

    source: Source
    seed: int
    model: Transformer
    weights: Weights = field(default_factory=lambda: TEXT_ONLY)
    dropout: float = TEXT_DROPOUT
    shift: flow.Shift = field(default_factory=flow.Shift)
    with_references: bool = True
    frozen: bool = False
    context: Context = ALONE

    def __post_init__(self) -> None:
        condition.check_encoded(self.weights, self.spec)

    @property
    def spec(self) -> LatentSpec:
        return self.source.spec

    def prepare(self, step: int, batch: MicroBatch) -> FlowInputs:
        """Inputs of a micro-batch. UserError: a sample is missing, or its latent is not its bucket's."""
        found = self.source.read(batch.samples)
        size = self.spec.size(batch.bucket.frames, batch.bucket.height, batch.bucket.width)
        for one in found:
            if tuple(one.latent_CTHW.shape[1:]) != size:
                shape = "x".join(map(str, one.latent_CTHW.shape[1:]))
                raise UserError(
                    f"the latent of sample {one.sample} is {shape}, its bucket's is {'x'.join(map(str, size))}",
                    "encode the manifest again with the model that is trained",
                )
        return self._inputs(step, found)

    def validation(self, samples: Sequence[int]) -> FlowInputs:
        """Inputs of samples of one bucket with noise and kinds that never change, and every prompt there."""
        return self._inputs(VALIDATION, self.source.read(samples))

    def loss(self, model: Any, inputs: FlowInputs, dtype: torch.dtype) -> Losses:
        x_BLC = flow.noisy(inputs.data_BLC, inputs.noise_BLC, inputs.times_B).to(dtype)
        text = TextStates(inputs.tokens_BMD, inputs.pooled_BP)
        grid, share = inputs.grid, inputs.share
        predicted_BLC = model(x_BLC, inputs.times_B, text, grid, inputs.cond_BLK, share)
        target_BLC = flow.velocity(inputs.data_BLC, inputs.noise_BLC)
        # Over the elements of all ranks' tokens, and times their number: the mean over them is the loss.
        elements = grid.tokens * predicted_BLC.shape[-1] / self.context.ranks
        per_sample_B = (predicted_BLC.float() - target_BLC).square().sum((1, 2)) / elements
        if self.with_references:
            total = per_sample_B.mean()
        else:
            held = None if share is None else (grid, share.video)
            part = flow.loss_without_references(predicted_BLC, target_BLC, inputs.mask_BT, held)
            total = part * self.context.ranks
        return Losses(total, per_sample_B.detach(), inputs.times_B)

    def _inputs(self, step: int, found: list[Encoded]) -> FlowInputs:
        latent_BCTHW = torch.stack([one.latent_CTHW.float() for one in found])
        grid = grid_of(latent_BCTHW, self.spec.patch)
        data_BLC = pack(latent_BCTHW, self.spec.patch)
        kinds = [self._kind(step, one) for one in found]
        heads, tails = [one.head_C1HW for one in found], [one.tail_C1HW for one in found]
        given = condition.encoded_condition(kinds, latent_BCTHW, heads, tails, self.spec)
        text = [self._text(step, one) for one in found]
        tokens = data_BLC.shape[1] + text[0].tokens_BMD.shape[1]
        whole = FlowInputs(
            samples=tuple(one.sample for one in found),
            grid=grid,
            data_BLC=data_BLC,
            noise_BLC=torch.stack([self._noise(step, one.sample, data_BLC[0].shape) for one in found]),
            times_B=torch.cat([self._time(step, one.sample, grid) for one in found]),
            tokens_BMD=torch.cat([states.tokens_BMD for states in text]),
            pooled_BP=torch.cat([states.pooled_BP for states in text]),
            cond_BLK=pack(given, self.spec.patch) if any(kind is not Kind.T2V for kind in kinds) else None,
            mask_BT=condition.mask_of_frames(given),
            flops=len(found) * tokens * self.model.train_per_token(tokens, self.frozen),
        )
        share = self.context.share(whole.tokens_BMD.shape[1], grid.tokens)
        return whole if share is None else whole.of(share)

    def _noise(self, step: int, sample: int, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator(self.seed, step, sample, Draw.NOISE))

    def _time(self, step: int, sample: int, grid: Grid) -> Tensor:
        return flow.draw_times(1, grid, generator(self.seed, step, sample, Draw.TIME), self.shift)

    def _kind(self, step: int, one: Encoded) -> Kind:
        frames = self.spec.video_frames(one.latent_CTHW.shape[1])
        (kind,) = condition.draw_kinds(self.weights, 1, frames, self.spec, self._generator(step, one, Draw.KIND))
        return kind

    def _text(self, step: int, one: Encoded) -> TextStates:
        states = TextStates(one.tokens_MD[None], one.pooled_P[None])
        if step == VALIDATION:
            return states
        return condition.drop_text(states, self.source.empty, self._generator(step, one, Draw.TEXT), self.dropout)

    def _generator(self, step: int, one: Encoded, purpose: Draw) -> torch.Generator:
        return generator(self.seed, step, one.sample, purpose)
