"""`ziggurat weights`: the network of a checkpoint as one file of weights that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.errors import UserError
from pipelines.sampling.networks import need_torch


@dataclass(frozen=True, slots=True)
class Written:
    """The files, and the step that they are of. `left_out`: parts of the network that the layout has no place for."""

    files: Sequence[str]
    step: int
    layout: str
    left_out: Sequence[str] = ()


def weights(
    run: str, output: str, layout: str, step: int | None, averages: bool, dtype: Literal["float32", "bfloat16"]
) -> Written:
    """Of the run's newest whole checkpoint, or of that of `step`. UserError: there is none."""
    need_torch()
    from training.assemble import CHECKPOINTS
    from training.checkpoint.export import export
    from training.checkpoint.folder import Checkpoints, step_of

    checkpoints = Checkpoints(Path(run, CHECKPOINTS))
    whole = checkpoints.whole()
    if not whole:
        raise UserError(f"{run} holds no whole checkpoint", "give the folder that `ziggurat train` was given with --to")
    chosen = whole[-1] if step is None else checkpoints.at(step)
    if chosen not in whole:
        steps = ", ".join(str(step_of(path)) for path in whole)
        raise UserError(f"{run} holds no checkpoint of step {step}", f"choose from {steps}")
    files, left_out = export(chosen, Path(output), layout, averages, dtype)
    return Written([str(path) for path in files], step_of(chosen), layout, left_out)
