"""Loading a checkpoint into an engine, at any number of ranks, or refusing it in one line."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load

from curation.errors import UserError
from training.callbacks.averages import Averages
from training.checkpoint.folder import Checkpoints, Head, Identity, step_of
from training.checkpoint.save import any_rank
from training.checkpoint.state import AVERAGE, WEIGHT, state
from training.parallel.base import Engine
from training.trainer import Progress

THREADS = 8
PAUSES_S = (1.0, 4.0, 16.0)
PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ECONNRESET, errno.EHOSTDOWN, errno.ENETDOWN}
"""Errors that a disk or a share gives now and not a moment later."""
SEEN_S = 30.0
"""How long a share may take to show a checkpoint that another machine has found."""
_T = TypeVar("_T")


def resume(
    checkpoints: Checkpoints, identity: Identity, engine: Engine, averages: Averages | None = None
) -> tuple[Progress, Head] | None:
    """Go on from the newest whole checkpoint: how far it was, and what it says; None where there is none.

    Averages that it does not have begin with its weights. UserError: it is of another run, or not as it was saved.
    """
    newest = _agreed(checkpoints, engine)
    if newest is None:
        return None
    head = _on_all(engine, lambda: _head(newest, identity))
    known = averages is not None and AVERAGE in head.parts
    _read(newest, state(engine, averages if known else None), engine)
    progress = Progress(**head.progress)
    engine.loaded(progress.updates)
    if averages is not None and not known:
        masters = engine.masters()
        for name, average in averages.values.items():
            average.copy_(masters[name])
    return progress, head


def _agreed(checkpoints: Checkpoints, engine: Engine) -> Path | None:
    """The newest whole checkpoint as rank 0 sees it, for all ranks: what others list may be old, where it is a share.
    UserError, on all: one of them does not see it."""
    mine = checkpoints.newest() if engine.rank == 0 else None
    told = torch.tensor([0.0 if mine is None else 1.0 + step_of(mine)], dtype=torch.float64, device=engine.device)
    step = int(engine.agree(told).item()) - 1
    if step < 0:
        return None
    place = checkpoints.at(step)
    _on_all(engine, lambda: _seen(place))
    return place


def _seen(place: Path) -> None:
    """UserError where it is not seen here, though another process has found it: a share may take a while."""
    until = time.monotonic() + SEEN_S
    while not (place.parent.is_dir() and place.name in os.listdir(place.parent)):
        if time.monotonic() > until:
            raise UserError(f"this process does not see {place}, which the first one has found", "share the folder")
        time.sleep(0.2)


def _on_all(engine: Engine, action: Callable[[], _T]) -> _T:
    """What `action` gives; UserError on all ranks where it is one on any, or the others would wait for that one."""
    failure, found = None, None
    try:
        found = action()
    except UserError as error:
        failure = error
    if any_rank(engine, failure is not None):
        raise failure or UserError("another process cannot go on from the checkpoint", "see what it says")
    return cast(_T, found)


def _head(path: Path, identity: Identity) -> Head:
    head = Head.read(path)
    identity.check(head.identity, str(path))
    return head


def tensors(path: Path, part: str = WEIGHT, under: str = "") -> dict[str, Tensor]:
    """One part of a whole checkpoint by weight, of weights whose names begin with `under`, in this process alone.

    UserError: it has no such part.
    """
    head = Head.read(path)
    if part not in head.parts:
        raise UserError(f"{path} has no {part} of the weights", f"choose one of {', '.join(head.parts)}")
    shapes = {name: shape for name, shape in head.identity.shapes.items() if name.startswith(under)}
    found = {name: torch.empty(_count(shape)) for name, shape in shapes.items()}
    _read(path, {f"{part}/{name}": tensor for name, tensor in found.items()}, None)
    return {name: tensor.view(head.identity.shapes[name]) for name, tensor in found.items()}


def _read(path: Path, into: Mapping[str, Tensor], engine: Engine | None) -> None:
    """Fill these tensors. A fault of the disk or the share is tried again: DCP tells all ranks of it, so all do."""
    group = engine.group if engine is not None else None
    for pause_s in (*PAUSES_S, None):
        try:
            reader = HuggingFaceStorageReader(str(path), thread_count=THREADS)
            load(dict(into), storage_reader=reader, process_group=group, no_dist=group is None)
            return
        except (SafetensorError, OSError, ValueError, KeyError, CheckpointException) as error:
            causes = _causes(error)
            passes = any(isinstance(one, OSError) and one.errno in PASSING for one in causes)
            if passes and pause_s is not None:
                time.sleep(pause_s)
                continue
            reason = (str(causes[0]).splitlines() or [type(causes[0]).__name__])[0]
            remedy = "give the same command again" if passes else "remove it, an earlier one is then taken"
            raise UserError(f"{path} cannot be read: {reason}", remedy) from error


def _causes(error: BaseException) -> list[BaseException]:
    """What has failed, on whichever ranks; the error itself where DCP has not wrapped it."""
    failures = error.failures.values() if isinstance(error, CheckpointException) else ()
    return [failure[0] for failure in failures] or [error]


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
