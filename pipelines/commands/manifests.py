"""`ziggurat manifests`: the manifests of a pyramid, or one of them."""

from __future__ import annotations

from dataclasses import dataclass

from curation.pyramid.tiering.retier import opened
from curation.shards import folder
from curation.shards.manifest import Manifest
from curation.shards.takedown import forgotten


@dataclass(frozen=True, slots=True)
class Shown:
    """A manifest; `forgotten`: how many of its samples were taken down since, None where nobody looked."""

    manifest: Manifest
    forgotten: int | None = None


def manifests(uri: str, name: str | None = None) -> list[Shown]:
    """All of them by name; or the one named, whose samples are compared with its hash, and with what was taken down."""
    pyramid = opened(uri)
    if name is not None:
        frozen = folder.read(pyramid, folder.checked(name))
        return [Shown(frozen.manifest, len(forgotten(frozen, pyramid)))]
    heads = (folder.head(pyramid.files, one) for one in folder.listed(pyramid.files))
    return [Shown(head) for head in heads if head is not None]
