"""Who may ask the service for what: tokens with scopes, kept in the pyramid as hashes alone.

    `ziggurat tokens PYRAMID --make NAME` -> a token, shown once -> `Authorization: Bearer TOKEN` -> [known] -> scopes

A token is 256 random bits, so its hash needs no salt and no slow function: nobody guesses it. Whoever may write to the
pyramid's folder may make one, and needs none.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import TypeAdapter, ValidationError

from curation.errors import UserError
from curation.pyramid.storage.about import changing
from curation.pyramid.store import Pyramid
from curation.retry import retrying
from pipelines.commands.review.who import user

FILE = "service/tokens.json"
PREFIX = "zig_"
"""What a token begins with: scanners for leaked keys look for such."""
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,80}")


class Scope(StrEnum):
    """What a token is good for. `ADMIN` is good for all."""

    READ = "read"
    """Clips, videos, tiers, runs: everything that is looked at."""
    WRITE = "write"
    """Tags, thresholds, manifests: what changes the pyramid and costs little."""
    SUBMIT = "submit"
    """Jobs: what costs processors and money."""
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A token without itself. `id`: what it is revoked by; `made`, `ends`: UTC in ISO 8601."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    made: str
    ends: str | None = None

    def is_good(self, now: datetime) -> bool:
        return self.ends is None or now < datetime.fromisoformat(self.ends)


_TOKENS = TypeAdapter(tuple[Token, ...])


def scopes(text: str) -> tuple[Scope, ...]:
    """`read,write` as scopes; UserError for another word."""
    names = [part.strip() for part in text.split(",")]
    if unknown := [name for name in names if name not in {*Scope}]:
        raise UserError(f"no scope {unknown[0][:40]!r}", f"there are {', '.join(Scope)}")
    return tuple(dict.fromkeys(Scope(name) for name in names))


def make(pyramid: Pyramid, name: str, wanted: Sequence[Scope], ends: datetime | None = None) -> tuple[Token, str]:
    """A new token, and its text, which is kept nowhere."""
    if not _NAME.fullmatch(name) or not name.strip():
        raise UserError(f"a token cannot be called {name[:80]!r}", "give a name of 1 to 80 characters in one line")
    if not wanted:
        raise UserError("a token without a scope is good for nothing", f"there are {', '.join(Scope)}")
    text, now = PREFIX + secrets.token_urlsafe(32), datetime.now(UTC)
    if ends is not None and ends <= now:
        raise UserError("the token would have ended already", "give a later end")
    token = Token(
        secrets.token_hex(4),
        name,
        tuple(wanted),
        hashed(text),
        now.isoformat(timespec="seconds"),
        None if ends is None else ends.isoformat(timespec="seconds"),
    )
    with changing(pyramid.uri):
        _write(pyramid, [*listed(pyramid), token])
    return token, text


def revoke(pyramid: Pyramid, token_id: str) -> Token:
    """Take a token away. A service that runs refuses it within `served.FRESH_S`."""
    with changing(pyramid.uri):
        there = listed(pyramid)
        gone = [token for token in there if token.id == token_id]
        if not gone:
            raise UserError(f"there is no token {token_id[:40]!r}", f"`ziggurat tokens {pyramid.uri}` lists them")
        _write(pyramid, [token for token in there if token.id != token_id])
    return gone[0]


def listed(pyramid: Pyramid) -> tuple[Token, ...]:
    """All tokens. UserError where the file is damaged: then nobody is let in."""
    content = retrying(f"cannot read the tokens of {pyramid.uri}", lambda: pyramid.files.read(FILE))
    if content is None:
        return ()
    try:
        return _TOKENS.validate_json(content)
    except ValidationError as error:
        raise UserError(f"{pyramid.uri}/{FILE} is damaged", "remove it, and make new tokens") from error


def known(tokens: Iterable[Token], text: str, now: datetime | None = None) -> Token | None:
    """The token that a text is, None where it is none or has ended. Every one is compared, each in constant time."""
    given, moment = hashed(text), now or datetime.now(UTC)
    found: Token | None = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, given):
            found = token
    return found if found is not None and found.is_good(moment) else None


def hashed(text: str) -> str:
    """The SHA-256 of a secret, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def allowed(scopes_: Iterable[Scope], wanted: Scope) -> bool:
    """Whether scopes are good for another one."""
    return not {wanted, Scope.ADMIN}.isdisjoint(scopes_)


def _write(pyramid: Pyramid, tokens: Sequence[Token]) -> None:
    data = [
        {name: getattr(token, name) for name in ("id", "name", "scopes", "sha256", "made", "ends")} for token in tokens
    ]
    content = (json.dumps(data, indent=1) + "\n").encode()
    retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.write(FILE, content))


def shown(token: Token) -> dict[str, object]:
    """What may be told of a token: not its hash."""
    return {"id": token.id, "name": token.name, "scopes": list(token.scopes), "made": token.made, "ends": token.ends}


def of_session() -> Token:
    """What the person who started the service may do, by the link that it opens with."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Token("session", user() or "who started the service", (Scope.ADMIN,), "", made)
