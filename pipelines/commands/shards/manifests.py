"""`ziggurat manifests`: the manifests of a pyramid, or one of them; and to let go of what one pins."""

from __future__ import annotations

from dataclasses import dataclass

from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened
from curation.shards import folder
from curation.shards.manifest import Frozen, Manifest
from curation.shards.takedown import forgotten


@dataclass(frozen=True, slots=True)
class Shown:
    """A manifest; `forgotten`: how many of its samples were taken down since, `pinned`: whether its versions still are;
    None where nobody looked."""

    manifest: Manifest
    forgotten: int | None = None
    pinned: bool | None = None


def manifests(uri: str, name: str | None = None) -> list[Shown]:
    """All of them by name; or the one named, whose samples are compared with its hash, and with what was taken down."""
    pyramid = opened(uri)
    if name is not None:
        frozen = folder.read(pyramid, folder.checked(name))
        return [_looked_at(pyramid, frozen)]
    heads = (folder.head(pyramid.files, one) for one in folder.listed(pyramid.files))
    return [Shown(head) for head in heads if head is not None]


def unpin(uri: str, name: str) -> Shown:
    """Let go of the versions that a manifest pins, so that `upkeep` and `forget` may remove what only these have. The
    manifest stays, and `encode` reads its clips from the latest version. UserError: there is no such manifest.
    """
    pyramid = opened(uri)
    frozen = folder.read(pyramid, folder.checked(name))
    folder.unpin(pyramid, frozen.manifest.pin)
    return _looked_at(pyramid, frozen)


def _looked_at(pyramid: Pyramid, frozen: Frozen) -> Shown:
    pinned = any(frozen.manifest.pin in pyramid.dataset(name).tags.list() for name in frozen.manifest.versions)
    return Shown(frozen.manifest, len(forgotten(frozen, pyramid)), pinned)
