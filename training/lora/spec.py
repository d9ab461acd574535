"""What an adapter is asked to be: the keys `lora.*` of a training preset."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from curation.errors import UserError
from training.lora.targets import check_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSpec:
    """W x + (alpha / rank) B A dropout(x) in every layer that `targets` names, W frozen (Hu and others 2021).

    `alpha` None is the rank, so that nothing is scaled. `targets`: short names of `targets`. UserError: a value that
    makes no adapter.
    """

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ("attn", "mlp")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"lora.rank = {self.rank} is no rank", "give a number from 1 on; 16 is usual")
        if not 0 < self.scale < inf:
            raise UserError(f"lora.alpha = {self.alpha} changes nothing", "give a number above 0; the rank is usual")
        if not 0 <= self.dropout < 1:
            raise UserError(f"lora.dropout = {self.dropout} is no share", "give a number from 0 to below 1")
        check_targets(self.targets)

    @property
    def strength(self) -> float:
        """Alpha, as it is in force."""
        return float(self.rank if self.alpha is None else self.alpha)

    @property
    def scale(self) -> float:
        return self.strength / self.rank
