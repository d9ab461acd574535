"""Inference-time scaling: at chosen steps several candidates are tried, and the best goes on (report, appendix G).

A candidate is the state with fresh noise, taken one guided step further. It is judged by where it leads: one more
guided step straight to t = 0, decoded and scored. Each sample of a batch draws its own noise and keeps its own
best. (The public code scores
nothing: its result keys never match, and the last candidate wins. It also perturbs one branch of the guidance alone and
judges by an unguided estimate; spec section 5.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from curation.errors import UserError
from training.sampling.denoise import Walk

Score = Callable[[Tensor], list[float]]
"""Scores of videos (B, T, 3, H, W) in 0 to 1; higher is better. See `quality.score`."""

Decode = Callable[[Tensor], Tensor]
"""A latent (B, C, T, H, W) to videos (B, T, 3, H, W) in 0 to 1."""


@dataclass(frozen=True, slots=True)
class Search:
    """`steps`: where candidates are tried, counted from 0. `noise`: of a candidate, times the length of the step;
    `reach`: how far it goes, in lengths of the step. The defaults are the public ones for 256px.
    """

    steps: tuple[int, ...] = (1, 2, 4, 7, 9, 15, 20)
    candidates: int = 3
    noise: float = 0.5
    reach: float = 1.0

    def check(self, steps: int) -> None:
        """UserError where the search cannot be done within `steps`."""
        if outside := [step for step in self.steps if not 0 <= step < steps]:
            raise UserError(f"search at step {outside[0]} of {steps}", f"steps count from 0 to {steps - 1}")
        if self.candidates < 1:
            raise UserError(f"{self.candidates} candidates", "try at least one")


@dataclass(slots=True)
class SearchLog:
    """What a search saw: of each searched step the scores (candidates x samples) and the chosen candidates."""

    scores: dict[int, list[list[float]]] = field(default_factory=dict)
    chosen: dict[int, list[int]] = field(default_factory=dict)


class Searching:
    """A way to take the steps of a `Walk`: `walk.run(searching)`. `generators`: one a sample, on the CPU."""

    def __init__(
        self, walk: Walk, search: Search, decode: Decode, score: Score, generators: Sequence[torch.Generator]
    ) -> None:
        search.check(walk.settings.steps)
        self.found = SearchLog()
        self._walk, self._search, self._decode, self._score = walk, search, decode, score
        self._generators = generators

    def __call__(self, x_BLC: Tensor, step: int) -> Tensor:
        if step not in self._search.steps:
            return self._walk.step(x_BLC, step)
        best_BLC, best = x_BLC, [float("-inf")] * len(x_BLC)
        chosen = [0] * len(x_BLC)
        scores: list[list[float]] = []
        for number in range(self._search.candidates):
            candidate_BLC = self._candidate(x_BLC, step)
            scores.append(self._score(self._decode(self._walk.latent(self._outlook(candidate_BLC, step)))))
            better = [new > old for new, old in zip(scores[-1], best, strict=True)]
            best_BLC = torch.where(torch.tensor(better, device=x_BLC.device)[:, None, None], candidate_BLC, best_BLC)
            best = [max(pair) for pair in zip(scores[-1], best, strict=True)]
            chosen = [number if is_better else old for is_better, old in zip(better, chosen, strict=True)]
        self.found.scores[step], self.found.chosen[step] = scores, chosen
        assert min(best) > float("-inf"), "a score is a number"
        return best_BLC

    def _candidate(self, x_BLC: Tensor, step: int) -> Tensor:
        drawn = [torch.randn(x.shape, generator=own) for x, own in zip(x_BLC, self._generators, strict=True)]
        fresh = torch.stack(drawn).to(x_BLC.device)
        stirred = x_BLC + self._search.noise * self._walk.length(step).abs() * fresh
        return self._walk.step(stirred, step, self._search.reach)

    def _outlook(self, x_BLC: Tensor, step: int) -> Tensor:
        """Where a candidate would be at t = 0 if its velocity stayed as it is."""
        t = self._walk.times[step + 1]
        return x_BLC if t == 0 else x_BLC - t * self._walk.velocity(x_BLC, t, self._walk.scales(step))
