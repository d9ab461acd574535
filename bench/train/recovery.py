"""How long a run on a cluster stands still after a fault (`bench.train`): the faults of `tests.support.ray_faults`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import ray_faults
from tests.support.ray_faults import AT, SILENCE_S

FAULTS = {
    "nan": "gradients that are not finite, once",
    "killed": "a process is killed",
    "stopped": "a process is stopped",
    "collective": "a collective fails",
    "lying": "a node's products of matrices are wrong; it is left out, another one taken",
}
__all__ = ("FAULTS", "SILENCE_S", "measured")


def measured(place: Path) -> dict[str, Mapping[str, float]]:
    """For each fault: seconds from it to the first time that the step which it met was done, and starts of workers."""
    (place / "toy").mkdir(parents=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", ray_faults.__name__, str(place), *FAULTS]
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    return {kind: _of(place, kind) for kind in FAULTS}


def _of(place: Path, kind: str) -> Mapping[str, float]:
    found = json.loads((place / f"{kind}.json").read_text())
    assert "trained" in found, found
    fired = float((place / f"{kind}.fired").read_text().split()[1])
    done = next(at for step, at in found["times"] if step > AT and at > fired)
    return {"seconds": done - fired, "starts": len(found["began"])}
