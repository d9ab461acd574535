"""Every node of a cluster is tried before a run goes on after a hardware fault: alone, and with its neighbour.

Ray tasks that are pinned to a node call `training.recovery.machine`; with GPUs each takes all of its node's.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayError
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
    alone = {node.id: _answer(_task(alone_on_node, node, gpu).remote(gpu), BOUND_S) for node in tried}
    found = {name: "; ".join(said) for name, said in alone.items() if said}
    return found or _apart(tried, gpu)


def alone_on_node(gpu: bool) -> list[str]:
    """The faults of this machine."""
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())] if gpu else []
    return [line for device in devices or [torch.device("cpu")] for line in machine.faults(device)]


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
    try:
        address, port = ray.get(_task(listening, first, False).remote(), timeout=BOUND_S)
        device = torch.device("cuda", 0) if gpu else torch.device("cpu")
        pair = [
            _task(machine.meets, node, gpu).remote(rank, address, port, device, MEET_S)
            for rank, node in enumerate((first, second))
        ]
        return all(ray.get(pair, timeout=2 * MEET_S))
    except RayError:
        return False


def _task(function: Any, node: Node, gpu: bool) -> Any:
    place = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(function).options(
        num_cpus=0, num_gpus=node.gpus if gpu else 0, max_retries=0, scheduling_strategy=place
    )


def _answer(asked: Any, bound_s: float) -> list[str]:
    try:
        return ray.get(asked, timeout=bound_s)
    except RayError as error:
        return [f"no answer to its checks ({type(error).__name__})"]
