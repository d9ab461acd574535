"""The places that the person who serves a pyramid lets others name: folders of this machine and prefixes of object
stores. What comes over a network leads there or is refused.

    a name in a request -> [Roots.around] -> the place, and the root that it lies in -> a job, an export, a training run

Names are absolute paths or URIs. `..`, links that lead out, other storage, and options of storage that a root does not
have (an endpoint would take a request anywhere) are refused by `uris`, as in a list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from curation.errors import UserError
from curation.inputs import uris


@dataclass(frozen=True, slots=True)
class Roots:
    """`places`: absolute paths of folders, and URIs."""

    places: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """As a person names them. UserError: a folder that is not there, or a URI of no storage."""
        return cls(tuple(dict.fromkeys(map(_root, names))))

    @property
    def folders(self) -> tuple[str, ...]:
        """Those of this machine."""
        return tuple(place for place in self.places if uris.local_path(place) is not None)

    def around(self, name: str) -> tuple[str, str]:
        """The place of this name, and the root that it lies in. UserError: it lies in none."""
        why = "the service was started without a root"
        for root in self.places:
            try:
                uris.check(name)
                local = uris.local_path(name)
                if local is not None and not os.path.isabs(local):
                    raise uris.Forbidden("no absolute path")
                return uris.resolve(name, root), root
            except uris.Forbidden as error:
                why = str(error)
        there = f"name a place in {', '.join(self.places)}" if self.places else "`ziggurat serve --root` names some"
        raise UserError(f"{uris.redacted(name)[:200]!r} is refused: {why}", there)


def _root(name: str) -> str:
    try:
        uris.check(name)
    except uris.Forbidden as error:
        told = f"{uris.redacted(name)[:200]!r} is no root: {error}"
        raise UserError(told, "name a folder, or s3://BUCKET/PREFIX") from None
    local = uris.local_path(name)
    if local is None:
        return name
    if not os.path.isdir(local):
        raise UserError(f"the root {local} is no folder that is there", "make it, or name another --root")
    return os.path.abspath(local)
