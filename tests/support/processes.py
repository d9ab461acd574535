"""Processes that a test starts together, and what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PATIENCE_S = 1500


def together(module: str, ranks: int, folder: Path, *arguments: str) -> None:
    """Run `python -m MODULE RANK RANKS FOLDER ...` once for each rank. AssertionError: one of them failed."""
    command = [sys.executable, "-m", module]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [*command, str(rank), str(ranks), str(folder), *arguments], stderr=subprocess.PIPE, env=environment
        )
        for rank in range(ranks)
    ]
    try:
        ends = [process.communicate(timeout=PATIENCE_S)[1].decode() for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * ranks, "\n".join(end[-3000:] for end in ends)
