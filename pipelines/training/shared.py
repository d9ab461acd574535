"""Whether every node of a cluster sees the folders of a run: asked before it starts, where there is more than one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curation.errors import UserError

_BOUND_S = 120.0


def check_shared(folder: Path, reads: Collection[Path] = ()) -> None:
    """UserError: a node does not see the run's `folder`, into which every worker writes, or one that workers read."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    token = folder / f".shared-{uuid.uuid4().hex}"
    token.write_text("")
    try:
        asked = [(node, _missed_on(node["NodeID"], [token, *reads])) for node in nodes]
        for node, answer in asked:
            name = node["NodeManagerHostname"] or node["NodeManagerAddress"]  # which several may share
            try:
                lacking = ray.get(answer, timeout=_BOUND_S)
            except RayError as error:
                raise UserError(f"node {name} does not answer ({type(error).__name__})", "see `ray status`") from error
            if token in lacking:
                raise UserError(
                    f"node {name} does not see {folder}, into which every worker writes",
                    "name a folder with --to that all nodes share",
                )
            if lacking:
                raise UserError(f"node {name} does not see {lacking[0]}", "put it where all nodes see it")
    finally:
        token.unlink(missing_ok=True)


def _missed_on(node: str, paths: Sequence[Path]) -> ray.ObjectRef[list[Path]]:
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(missed).options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(paths)


def missed(paths: Sequence[Path]) -> list[Path]:
    """Those that this machine does not see; a folder that is listed anew, since a share may hand out an old listing."""
    found: list[Path] = []
    for path in paths:
        names = os.listdir(path.parent) if path.parent.is_dir() else []
        if path.name not in names:
            found.append(path)
    return found
