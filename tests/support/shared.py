"""The folder of real clips, labels and weights beside the checkout. A test that needs it skips without it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared"
VIDEOS = SHARED / "videos"


def need(path: Path) -> Path:
    """The path, or a skip that names it."""
    if not path.exists():
        pytest.skip(f"needs {path.relative_to(SHARED.parent)} beside the checkout")
    return path


def real_videos() -> list[Path]:
    """All labelled real clips."""
    return sorted(p for p in need(VIDEOS).iterdir() if p.suffix not in (".csv", "") and p.is_file())
