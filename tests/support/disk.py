"""A disk of its own, as small as a test wants it, that can grow: a tmpfs."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A mounted disk."""

    path: Path

    def grow(self, kilobytes: int) -> None:
        _mount("-o", f"remount,size={kilobytes}k", str(self.path))


@contextlib.contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[Disk]:
    """A disk of this size at `folder`; the test is skipped where mounting is not allowed."""
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the right to mount a tmpfs: {getattr(error, 'stderr', error)}")
    try:
        yield Disk(folder)
    finally:
        # Lazily: a process that ends just now may still have its log there.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
