"""The checks of a cluster's nodes, where there is none that could make them yet."""

from __future__ import annotations

import pytest

from pipelines.config.recipe import load
from pipelines.doctor import checks

ALIVE = {"Alive": True, "NodeID": "n", "NodeManagerAddress": "10.0.0.1"}


@pytest.mark.parametrize("nodes", [[], [{**ALIVE, "Resources": {"memory": 1.0}}], [{**ALIVE, "Alive": False}]])
def test_nodes_that_were_not_checked_are_told(monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, object]]) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [{"Resources": {}, **node} for node in nodes])
    (notice,) = checks.of_nodes(checks.of_machine, load("small"))
    assert "no node of the cluster has a CPU yet" in notice
