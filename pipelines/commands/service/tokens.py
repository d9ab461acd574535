"""`ziggurat tokens`: the tokens of a pyramid's service, made, listed and revoked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from curation.errors import UserError
from curation.pyramid.tiering.retier import opened

if TYPE_CHECKING:
    from pipelines.api.tokens import Token


@dataclass(frozen=True, slots=True)
class Answer:
    """All tokens now; the one that was `made`, with its `text`, which is shown once; the one `revoked`."""

    tokens: tuple[Token, ...]
    made: Token | None = None
    text: str | None = None
    revoked: Token | None = None


def tokens(
    uri: str, make: str | None = None, scopes: str = "read", days: float | None = None, revoke: str | None = None
) -> Answer:
    """Make a token, or revoke one, or list all."""
    if find_spec("fastapi") is None:
        raise UserError("the service needs fastapi", "pip install 'ziggurat[serve]'")
    from pipelines.api import tokens as store

    if make is not None and revoke is not None:
        raise UserError("a token cannot be made and another revoked at once", "choose one")
    pyramid = opened(uri)
    if revoke is not None:
        gone = store.revoke(pyramid, revoke)
        return Answer(store.listed(pyramid), revoked=gone)
    if make is None:
        return Answer(store.listed(pyramid))
    try:
        ends = None if days is None else datetime.now(UTC) + timedelta(days=days)
    except (OverflowError, ValueError) as error:
        raise UserError(f"{days} days", "give some number of days") from error
    made, text = store.make(pyramid, make, store.scopes(scopes), ends)
    return Answer(store.listed(pyramid), made, text)
