"""Which folders hold a training run: those in the roots of a service, and what may be read of one.

A run is a folder with a log, or with records of runs and no pyramid. The look goes some folders deep and is bounded,
for a root may hold millions of videos; what it did not get to is told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from curation.errors import NotThereError
from curation.inputs import uris
from curation.inputs.roots import Roots
from curation.pyramid.history import runs as records
from curation.pyramid.storage import about
from training.lines import LOG

DEEPEST = 4
"""Folders below a root that are looked into, one in another."""

MOST = 20_000
"""Entries of folders that are looked at in all."""


@dataclass(frozen=True, slots=True)
class Found:
    """`folders` of runs, sorted; `notes`: what was not looked at."""

    folders: tuple[Path, ...]
    notes: tuple[str, ...]


def found(roots: Roots) -> Found:
    """The training runs in the roots that are folders."""
    look = _Look()
    for root in roots.folders:
        look.into(Path(root), DEEPEST)
    notes = ["no root is a folder: `ziggurat serve --root FOLDER` shows the runs in it"] if not roots.folders else []
    if look.left < 0:
        notes.append(f"only the first {MOST:,} entries of the roots were looked at: name a root of fewer")
    return Found(tuple(sorted(set(look.folders))), tuple(notes))


def opened(roots: Roots, name: str) -> Path:
    """The folder of a run that a request names. UserError: it is out of bounds. NotThereError: it holds no run."""
    place, _ = roots.around(name)
    local = uris.local_path(place)
    if local is None or not is_run(Path(local)):
        raise NotThereError(f"{uris.redacted(name)[:200]} holds no training run", "GET /api/training lists them")
    return Path(local)


def is_run(folder: Path) -> bool:
    if (folder / about.FILE).exists():
        return False
    return (folder / LOG).is_file() or any((folder / records.FOLDER).glob("*.json"))


def within(folder: Path, *parts: str) -> Path | None:
    """A file of a run; None where there is none, or where a link leads out of the run's folder."""
    path = folder.joinpath(*parts)
    return path if path.is_file() and uris.inside(str(path), str(folder)) else None


class _Look:
    """A bounded walk. Links are not followed."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.left = MOST

    def into(self, folder: Path, deep: int) -> None:
        if is_run(folder):
            self.folders.append(folder)
            return
        if (folder / about.FILE).exists() or not deep:
            return
        for below in self._below(folder):
            self.into(below, deep - 1)

    def _below(self, folder: Path) -> list[Path]:
        kept: list[Path] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.left -= 1
                    if self.left < 0:
                        break
                    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        kept.append(Path(entry.path))
        except OSError:  # no permission, or gone meanwhile
            return []
        return sorted(kept)
