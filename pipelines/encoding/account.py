"""The account of an encoding run: what became of each sample of the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.execution.results.flow import Flows


@dataclass
class EncodeAccount:
    """`samples`: of the manifest; `done_before`: they had latents when the run began, `recovered` of them out of the
    journal of a killed one; `taken_down`: left out, for `forget` was given their video; `removed`: rows of such, of
    earlier runs. `truncated`: prompts that lost their end, for the text encoder reads fewer tokens. `frames`, `bytes`:
    decoded, and of the rows written.
    """

    samples: int = 0
    done_before: int = 0
    recovered: int = 0
    taken_down: int = 0
    removed: int = 0
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    frames: int = 0
    bytes: int = 0
    commits: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.flows = Flows()  # no field: it has a place of its own in the run's record

    @property
    def losses(self) -> dict[str, int]:
        """What a fault of Ziggurat, its set-up or the storage has cost: the pyramid's own clips can be decoded."""
        return {f"samples not encoded: {why}": count for why, count in self.failed.items()}

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0

    @property
    def finished(self) -> int:
        return self.done_before + self.taken_down + self.done + self.failed.total()

    def figures(self, seconds: float) -> dict[str, Any]:
        """The live figures after so many seconds of a stage; rates are of what this run has encoded itself."""
        return {
            "samples": self.samples,
            "finished": self.finished,
            "done": self.done,
            "failed": dict(self.failed),
            "samples_per_s": self.done / seconds if seconds else 0.0,
            "frames_per_s": self.frames / seconds if seconds else 0.0,
            "bytes": self.bytes,
        }

    def check(self) -> None:
        """Every sample has ended in exactly one way."""
        assert self.finished == self.samples, f"{self.samples} samples, but {self.finished} outcomes: {self}"

    def failures(self, failed: Mapping[int, str]) -> None:
        """Count samples that could not be encoded, by the reason before the colon."""
        self.failed.update(why.partition(":")[0] for why in failed.values())
