"""What whoever may send jobs over REST may name: the served pyramid, places in the roots, and what ships.

    a request -> its words, each value judged here -> `submit`, whose parser reads them again -> the cluster

A job runs as the cluster's user, so whatever runs code or leads elsewhere is out of reach: a recipe (its filters may be
modules, its captions go to any endpoint) is the pyramid's own; a model file lies in a root, and so does all that it
names; a preset sends its numbers nowhere. What is made goes below a root, and into no pyramid.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from curation.errors import UserError
from curation.inputs import uris
from curation.inputs.roots import Roots
from curation.pyramid.storage import about
from curation.pyramid.store import Pyramid
from curation.shards import folder
from pipelines.config import autoencoder_preset, modelfile, preset

_PRESETS_SENT = "the presets of a service send no numbers elsewhere"
_NO_FILE = ("device", "dtype", "kind", "preset", "name")
"""Texts of a model file that name no file."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`place`: the served pyramid as the person who serves it has named it, with the options of its store."""

    pyramid: Pyramid
    place: str
    roots: Roots

    def sources(self, names: Sequence[str]) -> tuple[list[str], str]:
        """Inputs, and the one root that all of them lie in, which `curate` keeps its links and lists in as well."""
        found = [self.roots.around(name) for name in names]
        if len(lie_in := {root for _, root in found}) > 1:
            raise UserError(f"they lie in {len(lie_in)} roots", "send a job for each of them")
        return [place for place, _ in found], found[0][1]

    def there(self, name: str) -> str:
        """What is read."""
        return self.roots.around(name)[0]

    def new(self, name: str, local: bool = False) -> str:
        """Where something is made: below a root, in no pyramid. `local`: a folder, and no URI."""
        place, root = self.roots.around(name)
        if local and uris.local_path(place) is None:
            raise UserError(f"{uris.redacted(name)} is no folder", "name one in a root that is a folder")
        if _bare(place) == _bare(root):
            raise UserError(f"{uris.redacted(name)} is a root itself", "name a folder below it")
        if _is_in_a_pyramid(place, self.pyramid.uri):
            raise UserError(f"{uris.redacted(name)} lies in a pyramid", "name a folder beside it")
        return place

    def manifest(self, name: str) -> str:
        """The address of a manifest of the served pyramid."""
        if name not in (there := folder.listed(self.pyramid.files)):
            raise UserError(f"the pyramid has no manifest {name!r}", f"it has {', '.join(there) or 'none yet'}")
        return f"{self.place}#{name}"

    def tier(self, name: str) -> str:
        if name not in (there := self.pyramid.tiers.names):
            raise UserError(f"the pyramid has no tier {name[:80]!r}", f"it has {', '.join(there) or 'none'}")
        return name

    def model(self, name: str) -> str:
        """A model file: the name of one that ships, or a file in a root that names nothing outside of the roots."""
        if name in _shipped(modelfile.SHIPPED):
            return name
        place = self._file(name, modelfile.SHIPPED)
        for named in _files(modelfile.load(place)):
            if not os.path.isabs(named):
                raise UserError(f"the model file {name} names {named}", "have it name absolute paths in the roots")
            self.roots.around(named)
        return place

    def preset(self, name: str, changes: Sequence[str]) -> str:
        """A preset: the name of one that ships, or a file in a root; with changes that it understands."""
        place = name if name in _shipped(preset.SHIPPED) else self._file(name, preset.SHIPPED)
        of_autoencoder = preset.method_of(place) == "autoencoder"
        found = (autoencoder_preset if of_autoencoder else preset).load(place, changes)
        if found.log.wandb is not None:
            raise UserError(f"log.wandb = {found.log.wandb!r}: {_PRESETS_SENT}", "leave log.wandb out")
        return place

    def _file(self, name: str, shipped: Path) -> str:
        if os.path.splitext(name)[1] != ".toml":
            there = ", ".join(sorted(_shipped(shipped)))
            raise UserError(f"{name[:80]!r} is not one that ships", f"there are {there}; or a .toml file in a root")
        place = self.there(name)
        if uris.local_path(place) is None or not os.path.isfile(place):
            raise UserError(f"{uris.redacted(name)} is no file that is there", "name a .toml file in a root")
        return place


def _shipped(place: Path) -> set[str]:
    return {path.stem for path in place.glob("*.toml")}


def _files(section: BaseModel) -> Iterator[str]:
    """All texts of a model file that may name a file or a download."""
    for name, value in section:
        if isinstance(value, BaseModel):
            yield from _files(value)
        elif isinstance(value, str | Path) and name not in _NO_FILE:
            yield os.fspath(value)


def _is_in_a_pyramid(place: str, served: str) -> bool:
    """Of a local place also another pyramid than the served one; of a remote one that alone is known."""
    local = uris.local_path(place)
    if local is None:
        return f"{_bare(place)}/".startswith(f"{served.rstrip('/')}/")
    real = Path(os.path.realpath(local))
    return any((one / about.FILE).exists() for one in (real, *real.parents))


def _bare(place: Any) -> str:
    local = uris.local_path(place)
    return place.partition("?")[0].rstrip("/") if local is None else os.path.realpath(local)
