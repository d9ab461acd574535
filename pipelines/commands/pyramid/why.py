"""`ziggurat why`: the whole history of a video or a clip."""

from __future__ import annotations

from curation.errors import UserError
from curation.pyramid.history.ledger import History, Ledger
from curation.pyramid.takedown import tombstones
from curation.pyramid.tiering.retier import opened


def why(pyramid: str, name: str) -> History:
    """What is known of an id, the beginning of one, a URI or a file name. UserError where nothing is."""
    place = opened(pyramid)
    found = Ledger(place).history(name)
    if not found.videos and not found.clips:
        if name in tombstones.read(place.files):
            raise UserError(f"{name} was taken down, and nothing of it is kept", "its content never comes in again")
        raise UserError(
            f"nothing is known of {name!r}", "give an id, its first four digits or more, a URI or a file name"
        )
    return found
