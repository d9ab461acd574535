"""Nodes are tried by a Ray of this machine: one that is sound, one that others use, one that does not answer. Each test
in a process of its own, see `tests.support.apart`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("torch")

from pipelines.training import nodes
from tests.support.apart import apart


@contextmanager
def machine() -> Iterator[Any]:
    """As one with a GPU, which no check here touches."""
    import ray

    ray.init(
        "local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20
    )
    try:
        yield ray
    finally:
        ray.shutdown()


def sound(gpu: bool) -> Iterator[list[str]]:
    yield []
    yield []


def silent(gpu: bool) -> Iterator[list[str]]:
    yield []
    time.sleep(600)


def dies(gpu: bool) -> Iterator[list[str]]:
    yield []
    os._exit(1)


def wrong(gpu: bool) -> Iterator[list[str]]:
    yield []
    yield ["memory does not hold", "a product is wrong"]


def found(check: Any, bound_s: float) -> list[str]:
    nodes.alone_on_node, nodes.BOUND_S = check, bound_s
    (node,) = nodes.nodes((), gpu=True)
    return list(nodes.faulty([node], gpu=True).values())


def failing() -> dict[str, list[str]]:
    with machine():
        bounds = {"sound": 60.0, "wrong": 60.0, "silent": 10.0, "dies": 60.0}
        return {check: found(globals()[check], bound_s) for check, bound_s in bounds.items()}


@pytest.mark.slow
def test_a_node_that_fails_or_does_not_answer_is_named() -> None:
    said = apart(failing)
    (died,) = said.pop("dies")
    assert died.startswith("no answer to its checks (")
    assert said == {
        "sound": [],
        "wrong": ["memory does not hold; a product is wrong"],
        "silent": ["no answer to its checks (GetTimeoutError)"],
    }


def used_by_others() -> tuple[list[str], list[str]]:
    """What is found while others compute there, and after."""
    with machine() as ray:
        busy: Any = ray.remote(num_gpus=1, num_cpus=0)(type("Busy", (), {"here": lambda self: True}))
        other = busy.remote()
        assert ray.get(other.here.remote())
        meanwhile = found(silent, 2.0)
        ray.kill(other)
        return meanwhile, found(wrong, 60.0)


def test_a_node_on_which_others_compute_is_not_faulty_and_no_check_waits_there() -> None:
    meanwhile, after = apart(used_by_others)
    assert meanwhile == []
    assert after == ["memory does not hold; a product is wrong"], "the check that came too late still holds the node"


def meet() -> bool:
    nodes.MEET_S = 600.0  # on a machine that others load one may begin minutes after the other
    with machine():
        (node,) = nodes.nodes((), gpu=False)
        return nodes._met(node, node, gpu=False)


def test_two_processes_of_this_machine_meet() -> None:
    assert apart(meet)
