"""An adapter by its path: a folder in peft's format, a checkpoint of a run that trained one, or such a run's folder."""

from __future__ import annotations

from pathlib import Path

from curation.errors import UserError
from training.assemble import CHECKPOINTS
from training.checkpoint.folder import HEAD, Checkpoints, Head
from training.checkpoint.load import tensors
from training.checkpoint.state import AVERAGE, WEIGHT
from training.lora import files
from training.lora.adapter import Adapter, Factors
from training.lora.inject import factor_names


def read(path: Path | str, averages: bool = False) -> Adapter:
    """The adapter; of a run's folder that of its newest checkpoint. `averages`: a checkpoint's averages (EMA).

    UserError: there is none, it does not fit together, or a folder in peft's format has no averages.
    """
    path = Path(path)
    if (path / HEAD).is_file():
        return _of_checkpoint(path, averages)
    if (path / CHECKPOINTS).is_dir():
        return _of_checkpoint(Checkpoints(path / CHECKPOINTS).chosen(None), averages)
    if averages:
        raise UserError(f"{path} is no checkpoint, it has no averages", "leave --averages out")
    return files.load(path)


def _of_checkpoint(path: Path, averages: bool) -> Adapter:
    identity = Head.read(path).identity
    names = factor_names(identity.shapes)
    if identity.alpha is None or not names:
        raise UserError(f"{path} is of a run that trained all weights", "give one of a run with lora.rank")
    found = tensors(path, AVERAGE if averages else WEIGHT)
    layers = {layer: Factors(found[a], found[b]) for layer, (a, b) in names.items()}
    rank = next(iter(layers.values())).a_RI.shape[0]
    return Adapter(rank=rank, alpha=identity.alpha, layers=layers, base=identity.base)
