"""A command run in the test's own process, as a user types it, and what it prints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.cli import main


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The objects that a command which ends well prints with `--json`."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line with which a command is refused: the last that it says, after notes and progress."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert [line for line in told if line.startswith("ziggurat: ")] == told[-1:], told
    return told[-1]
