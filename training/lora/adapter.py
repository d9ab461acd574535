"""An adapter as data: two thin matrices a layer, and the number that their product is scaled by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from curation.errors import UserError
from training.models.weights import Tensors, listing


class Factors(NamedTuple):
    """The change B A of a layer's weight (O, I), float32: A (R, I) reads, B (O, R) writes."""

    a_RI: Tensor
    b_OR: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Layers by the network's own names (`double_blocks.0.img_attn.proj`). `dropout` counts in training alone. `base`:
    the fingerprint of the weights that it was made for, empty where nobody knows."""

    rank: int
    alpha: float
    layers: Mapping[str, Factors] = field(repr=False)
    dropout: float = 0.0
    base: str = ""

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def change(self, layer: str) -> Tensor:
        """What is added to the layer's weight, (O, I), float32."""
        a_RI, b_OR = self.layers[layer]
        return self.scale * (b_OR @ a_RI)

    def check(self, weights: Tensors) -> None:
        """UserError where a layer is not among the weights, or of another shape."""
        held = set(weights.names())
        absent = [layer for layer in self.layers if f"{layer}.weight" not in held]
        if absent:
            raise UserError(
                f"the adapter changes layers that the model lacks: {listing(absent)}",
                "give the model that it was trained on: of the same preset, in the same layout",
            )
        for layer, (a_RI, b_OR) in self.layers.items():
            shape, own = weights.shape(f"{layer}.weight"), (b_OR.shape[0], a_RI.shape[1])
            if shape != own:
                raise UserError(
                    f"the adapter's {layer} is {own[0]}x{own[1]}, the model's {'x'.join(map(str, shape))}",
                    "give the model that it was trained on",
                )
