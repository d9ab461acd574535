"""Nodes are tried by a Ray of this machine: one that is sound, one that others use, one that does not answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
import ray

from pipelines.training import nodes


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[None]:
    """As one with a GPU, which no check here touches."""
    ray.init(
        "local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20
    )
    yield
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


def found(check: Any, monkeypatch: pytest.MonkeyPatch, bound_s: float) -> list[str]:
    monkeypatch.setattr(nodes, "alone_on_node", check)
    monkeypatch.setattr(nodes, "BOUND_S", bound_s)
    (node,) = nodes.nodes((), gpu=True)
    return list(nodes.faulty([node], gpu=True).values())


@pytest.mark.slow
def test_a_node_that_fails_or_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(sound, monkeypatch, 60.0) == []
    assert found(wrong, monkeypatch, 60.0) == ["memory does not hold; a product is wrong"]
    assert found(silent, monkeypatch, 10.0) == ["no answer to its checks (GetTimeoutError)"]
    (died,) = found(dies, monkeypatch, 60.0)
    assert died.startswith("no answer to its checks (")


def test_a_node_on_which_others_compute_is_not_faulty_and_no_check_waits_there(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: Any = ray.remote(num_gpus=1, num_cpus=0)(type("Busy", (), {"here": lambda self: True}))
    other = busy.remote()
    assert ray.get(other.here.remote())
    assert found(silent, monkeypatch, 2.0) == []
    ray.kill(other)
    told = found(wrong, monkeypatch, 60.0)
    assert told == ["memory does not hold; a product is wrong"], "the check that came too late still holds the node"


def test_two_processes_of_this_machine_meet() -> None:
    (node,) = nodes.nodes((), gpu=False)
    assert nodes._met(node, node, gpu=False)
