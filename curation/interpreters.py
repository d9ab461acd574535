"""Asking the Python of another environment: whether Ray could start a worker with it, and what it answers in a process.

Stages whose packages clash with ours run in environments of their own (`.envs/`). What they need is tried out there
before the first video, by `filters.trial` and `caption.offline.trial`: in a process, because what crashes must not take
the driver with it, and within a bounded time.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from typing import Any

from curation.errors import UserError

WITHIN_S = 300.0
"""Until such a process must have ended; a cold disk needs a minute for CLIP's weights."""

_ASK = (
    "import json, platform\nfrom importlib import metadata\ntry:\n    ray = metadata.version('ray')\n"
    "except metadata.PackageNotFoundError:\n    ray = ''\nprint(json.dumps([platform.python_version(), ray]))"
)


def check(python: str, get: str, within_s: float = WITHIN_S) -> None:
    """`UserError` where Ray could start no worker with the interpreter: it would wait for one without a word. `get`:
    what makes a right environment.
    """
    remedy = f"make the environment with the Python and the Ray of this one ({get})"
    if not os.access(python, os.X_OK) or os.path.isdir(python):
        raise UserError(f"{python} is not there, or no program", remedy)
    done = _run([python, "-c", _ASK], python, within_s)
    try:
        theirs, ray = json.loads(done.stdout)
    except ValueError:
        raise UserError(f"{python} is no Python: {_died('it', done)}", remedy) from None
    if not ray:
        raise UserError(f"{python} is of an environment without Ray", remedy)
    for what, there, here in (
        ("Python", theirs, platform.python_version()),
        ("Ray", ray, metadata.version("ray")),
    ):
        if there != here:
            raise UserError(f"{python} has {what} {there}, this is {what} {here}: they must be the same", remedy)


def answer(command: list[str], what: str, within_s: float = WITHIN_S, environment: dict[str, str] | None = None) -> Any:
    """The JSON that is the last line of what a process prints. `what`: that runs there, in messages. `environment`:
    variables beside ours.

    `UserError` where it ends without one, and where it is an object with `cause` and `remedy`.
    """
    done = _run(command, what, within_s, environment)
    try:
        found = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    except ValueError:
        raise UserError(_died(what, done), "see `ziggurat doctor`") from None
    if isinstance(found, dict) and "cause" in found:
        raise UserError(found["cause"], found["remedy"])
    return found


def _run(
    command: list[str], what: str, within_s: float, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=within_s,
            stdin=subprocess.DEVNULL,
            # No module comes from the folder in which the command was typed, for a worker has another one.
            env={**os.environ, **(environment or {}), "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{what} gave no answer in {within_s:.0f} s", "see whether the machine is overloaded") from None
    except OSError as error:
        raise UserError(f"{command[0]} does not run ({error.strerror})", "name a Python interpreter") from error


def _died(what: str, done: subprocess.CompletedProcess[str]) -> str:
    """The last thing that a process said before it ended without an answer."""
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "nothing was said")
    how = f"died of signal {-done.returncode}" if done.returncode < 0 else f"ended with code {done.returncode}"
    return f"{what} {how} ({last.strip()[:200]})"
