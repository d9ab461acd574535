"""Environments of their own have our version of what must be the same: Ray above all, and what reads a pyramid."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ("ray", "pyarrow", "pylance", "psutil")
FILES = sorted((ROOT / "deploy" / "envs").glob("*.txt"))


def pins(path: Path) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    pairs = (line.split("==") for line in lines if "==" in line)
    return {name.partition("[")[0].lower(): version for name, version in pairs}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_environment_has_our_version_of_what_is_shared(path: Path) -> None:
    ours, theirs = pins(ROOT / "constraints.txt"), pins(path)
    assert "ray" in theirs
    assert {name: theirs[name] for name in SHARED if name in theirs} == {
        name: ours[name] for name in SHARED if name in theirs
    }
