"""`ziggurat weights`: the network of a checkpoint as one file of weights that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.errors import UserError
from pipelines.sampling.networks import need_torch

AUTOENCODER_LAYOUT = "opensora_v2"
"""The public names, which `VideoDcAe` has."""


@dataclass(frozen=True, slots=True)
class Written:
    """The files, and the step that they are of. `averages`: whether they hold the EMA. `left_out`: parts of what was
    trained that are not in them."""

    files: Sequence[str]
    step: int
    layout: str
    averages: bool
    left_out: Sequence[str] = ()


def weights(
    run: str,
    output: str,
    layout: str,
    step: int | None,
    averages: bool | None,
    dtype: Literal["float32", "bfloat16"] | None,
) -> Written:
    """Of the run's newest whole checkpoint, or of that of `step`. `averages` None: of an autoencoder that has them,
    as they are what its validation looks at; `dtype` None: float32 of an autoencoder, bfloat16 else. UserError: there
    is no such checkpoint, or no such layout."""
    need_torch()
    from training.assemble import CHECKPOINTS
    from training.checkpoint.export import export, export_autoencoder
    from training.checkpoint.folder import Checkpoints, Head, step_of
    from training.checkpoint.state import AVERAGE

    chosen = Checkpoints(Path(run, CHECKPOINTS)).chosen(step)
    head = Head.read(chosen)
    if head.method == "autoencoder":
        if layout != AUTOENCODER_LAYOUT:
            raise UserError(f"an autoencoder has no layout {layout!r}", "leave --layout out")
        averages = AVERAGE in head.parts if averages is None else averages
        left_out = export_autoencoder(chosen, Path(output), averages, dtype or "float32")
        files = [Path(output)]
    else:
        averages = bool(averages)
        files, left_out = export(chosen, Path(output), layout, averages, dtype or "bfloat16")
    return Written([str(path) for path in files], step_of(chosen), layout, averages, left_out)
