"""The cases from other people's bug reports, run against this checkout's command: a line a case, `pass` or `FAIL`.

    python -m tests.cases [PART OF A NAME ...]

Each case makes its own input, runs what a user types, and judges what came out. Exit code 1 where one fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.shared import SHARED

CASES = SHARED / "cases" / "cases.py"


def run(names: Sequence[str]) -> int:
    """Print the table; the exit code."""
    if not CASES.is_file():
        print(f"{CASES} is not here: the cases lie beside the checkout", file=sys.stderr)
        return 2
    command = Path(sys.executable).with_name("ziggurat")
    environment = {**os.environ, "ZIGGURAT": str(command), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, str(CASES), *names], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
