"""The engines by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from curation.errors import UserError
from training.parallel.base import Engine, Precision
from training.parallel.ddp import Ddp
from training.parallel.single import Single


def _fsdp2(device: torch.device, precision: Precision) -> Engine:
    from training.parallel.fsdp2 import Fsdp2

    return Fsdp2(device, precision)


def _colossal_1(device: torch.device, precision: Precision) -> Engine:
    from training.parallel.colossal import Colossal

    return Colossal(device, precision, stage=1)


def _colossal_2(device: torch.device, precision: Precision) -> Engine:
    from training.parallel.colossal import Colossal

    return Colossal(device, precision, stage=2)


# Imported when asked for: what they stand on takes seconds to import, or is not installed.
ENGINES: Mapping[str, Callable[[torch.device, Precision], Engine]] = {
    "single": Single,
    "ddp": Ddp,
    "fsdp2": _fsdp2,
    "colossal-1": _colossal_1,
    "colossal-2": _colossal_2,
}


def default(ranks: int) -> str:
    """The engine of a run that names none: one process has nothing to share, several take the report's."""
    return "single" if ranks == 1 else "colossal-2"


def check_installed(name: str) -> None:
    """UserError: what the engine stands on is not installed here."""
    if name.startswith("colossal"):
        from training.parallel import colossal_compat

        colossal_compat.check_installed()


def engine(name: str, device: torch.device, precision: Precision) -> Engine:
    """The engine of that name. UserError: none of that name, what it stands on is not installed, or it was not started
    as it must be."""
    if name not in ENGINES:
        raise UserError(f"there is no engine {name!r}", f"choose one of {', '.join(ENGINES)}")
    return ENGINES[name](device, precision)
