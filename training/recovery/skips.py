"""Steps that are left out of a run because of their data: kept with it, so that a resume leaves them out, too.

`skipped.jsonl` in the run's folder, a line a step: its number, the samples that were blamed, and why. A step counts as
the same one where it still has those samples: another seed or manifest gives other ones. Whoever wants a step back
removes its line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from training.lines import appended

FILE = "skipped.jsonl"


class Skips:
    """`known`: blamed samples by step. Written by rank 0 alone; a line that a kill has torn is passed over."""

    def __init__(self, folder: Path, known: Mapping[int, Collection[int]]) -> None:
        self._place = folder / FILE
        self.known = {step: frozenset(samples) for step, samples in known.items()}

    @classmethod
    def read(cls, folder: Path) -> dict[int, list[int]]:
        """What the folder holds."""
        found: dict[int, list[int]] = {}
        try:
            lines = (folder / FILE).read_text().splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            try:
                read = json.loads(line)
                found[int(read["step"])] = [int(sample) for sample in read["samples"]]
            except (ValueError, TypeError, KeyError):
                continue
        return found

    def has(self, step: int, samples: Collection[int]) -> bool:
        """Whether the step of that number, which has these samples, is left out."""
        blamed = self.known.get(step)
        return blamed is not None and blamed <= set(samples)

    def add(self, step: int, samples: Collection[int], why: str, write: bool) -> None:
        self.known[step] = frozenset(samples)
        if write:
            with appended(self._place) as file:
                file.write(json.dumps({"step": step, "samples": sorted(samples), "why": why}) + "\n")
                file.flush()
                os.fsync(file.fileno())
