"""Every node of a cluster is tried before a run goes on after a hardware fault: alone, and with its neighbour.

Ray tasks that are pinned to a node call `training.recovery.machine`; with GPUs each takes all of its node's. Each first
gives word that it has begun, so that a node on which others compute is not taken for one that does not answer: nothing
is known of it, and it stays.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from training.recovery import machine

BOUND_S = 300.0
MEET_S = 60.0


@dataclass(frozen=True, slots=True)
class Node:
    """`name`: for a person."""

    id: str
    name: str
    gpus: int


def nodes(without: Collection[str], gpu: bool) -> list[Node]:
    """Those on which workers may run."""
    found = [
        Node(one["NodeID"], one["NodeManagerHostname"], int(one["Resources"].get("GPU", 0)))
        for one in ray.nodes()
        if one["Alive"] and one["NodeID"] not in without
    ]
    return sorted((one for one in found if one.gpus or not gpu), key=lambda one: one.id)


def room(without: Collection[str], resources: Mapping[str, float]) -> int:
    """How many workers that take so much each find room on the nodes that are not left out."""
    found = 0
    for one in ray.nodes():
        if one["Alive"] and one["NodeID"] not in without:
            found += int(min(one["Resources"].get(name, 0) // amount for name, amount in resources.items()))
    return found


def faulty(tried: list[Node], gpu: bool) -> Mapping[str, str]:
    """What is wrong, by Ray's id of the node: those that fail alone, and where all are sound alone those that meet none
    of their neighbours."""
    alone = _answers([_task(alone_on_node, node, gpu, begins=True).remote(gpu) for node in tried], BOUND_S)
    found: dict[str, str] = {}
    for node, said in zip(tried, alone, strict=True):
        if isinstance(said, RayError):
            found[node.id] = f"no answer to its checks ({type(said).__name__})"
        elif said:
            found[node.id] = "; ".join(said)
    begun = [node for node, said in zip(tried, alone, strict=True) if said is not None]
    return found or _apart(begun, gpu)


def alone_on_node(gpu: bool) -> Iterator[list[str]]:
    """That it begins, then the faults of this machine."""
    yield []
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())] if gpu else []
    yield [line for device in devices or [torch.device("cpu")] for line in machine.faults(device)]


def meets(rank: int, address: str, port: int, gpu: bool, bound_s: float) -> Iterator[bool]:
    """That it begins, then whether a sum with the other one is right."""
    yield True
    device = torch.device("cuda", 0) if gpu else torch.device("cpu")
    yield machine.meets(rank, address, port, device, bound_s)


def listening() -> tuple[str, int]:
    """An address of this machine that others reach, and a port that is free."""
    with socket.socket() as found:
        found.bind(("", 0))
        return ray.util.get_node_ip_address(), int(found.getsockname()[1])


def _apart(tried: list[Node], gpu: bool) -> dict[str, str]:
    """Nodes that fail with each of their two neighbours. Of two nodes alone neither can be named."""
    if len(tried) < 3:
        return {}
    failed: dict[str, int] = {node.id: 0 for node in tried}
    for first, second in zip(tried, [*tried[1:], tried[0]], strict=True):
        if not _met(first, second, gpu):
            failed[first.id] += 1
            failed[second.id] += 1
    return {name: "a sum with its neighbours fails" for name, count in failed.items() if count == 2}


def _met(first: Node, second: Node, gpu: bool) -> bool:
    """Whether they meet; true as well where one of them was too busy to try."""
    try:
        address, port = ray.get(_task(listening, first, False).remote(), timeout=BOUND_S)
    except RayError:
        return False
    pair = [
        _task(meets, node, gpu, begins=True).remote(rank, address, port, gpu, MEET_S)
        for rank, node in enumerate((first, second))
    ]
    said = _answers(pair, 2 * MEET_S)
    return None in said or all(one is True for one in said)


def _task(function: Any, node: Node, gpu: bool, begins: bool = False) -> Any:
    """`begins`: it gives two answers, the first one as soon as it begins."""
    place = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(function).options(
        num_cpus=0,
        num_gpus=node.gpus if gpu else 0,
        max_retries=0,
        scheduling_strategy=place,
        **({"num_returns": "streaming"} if begins else {}),
    )


def _answers(asked: list[Any], bound_s: float) -> list[Any]:
    """The second answer of each task, all of which run at the same time; the error of one that has begun and gives none
    within so many seconds, and None of one that has not begun within so many."""
    begun, _ = ray.wait(asked, num_returns=len(asked), timeout=bound_s, fetch_local=False)
    found: dict[Any, Any] = {task: _next(task) for task in begun}
    going = [task for task in begun if not isinstance(found[task], RayError)]
    ended, _ = ray.wait(going, num_returns=len(going), timeout=bound_s, fetch_local=False) if going else ([], [])
    found |= {task: _next(task) if task in ended else GetTimeoutError() for task in going}
    for task in asked:
        if task not in ended:
            ray.cancel(task, force=True)
    return [found.get(task) for task in asked]


def _next(task: Any) -> Any:
    """A task's next answer, which is there, or the error that is there in its place."""
    try:
        return ray.get(next(task))
    except RayError as error:
        return error
