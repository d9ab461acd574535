"""`ziggurat why`: the whole history of a video or a clip."""

from __future__ import annotations

from curation.errors import UserError
from curation.pyramid.ledger import History, Ledger
from curation.pyramid.retier import opened


def why(pyramid: str, name: str) -> History:
    """What is known of an id, the beginning of one, a URI or a file name. UserError where nothing is."""
    found = Ledger(opened(pyramid)).history(name)
    if not found.videos and not found.clips:
        raise UserError(
            f"nothing is known of {name!r}", "give an id, its first four digits or more, a URI or a file name"
        )
    return found
