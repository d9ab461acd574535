"""Where a service is, and whether a token may go there: over HTTPS anywhere, over plain HTTP to this machine alone."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from curation.errors import UserError

TOKEN_VARIABLE = "ZIGGURAT_TOKEN"
PLAIN_VARIABLE = "ZIGGURAT_PLAIN_HTTP"
"""`1`: a token may cross a network in plain HTTP, as inside a cluster whose network is trusted."""
_EXAMPLE = "give its address, as http://127.0.0.1:8470 or https://films.example"


@dataclass(frozen=True, slots=True)
class Address:
    """A service, and the token for it, which no text of this object shows."""

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def is_https(self) -> bool:
        return self.url.startswith("https:")


def is_address(place: str) -> bool:
    """Whether a place is a service, and no pyramid."""
    return place.lower().startswith(("http://", "https://"))


def address(url: str, token: str | None = None, plain_http: bool | None = None) -> Address:
    """The service at `url`. The token and whether plain HTTP may carry it are the environment's where they are None.

    UserError: it is no address, has a password in it, or the token would cross a network that everybody can read.
    """
    try:
        parts = urlsplit(url.strip())
        name = (parts.hostname or "").encode("idna")
        is_place = parts.scheme in ("http", "https") and name != b"" and parts.port != 0
    except ValueError:
        parts, is_place = urlsplit(""), False
    if not is_place or parts.query or parts.fragment or len(url.split()) != 1:
        raise UserError(f"{_without_password(url)!r} is no address of a service", _EXAMPLE)
    if "@" in parts.netloc:
        raise UserError("a service's address has no password in it", f"put the token into {TOKEN_VARIABLE}")
    held = _clean(os.environ.get(TOKEN_VARIABLE) if token is None else token)
    is_plain = os.environ.get(PLAIN_VARIABLE) == "1" if plain_http is None else plain_http
    if held and parts.scheme == "http" and not is_plain and not is_loopback(host := str(parts.hostname)):
        raise UserError(
            f"the token would cross the network to {host} for everybody to read",
            f"use https://, a tunnel to this machine, or {PLAIN_VARIABLE}=1 where the network is trusted",
        )
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", held)


def is_loopback(host: str) -> bool:
    """Whether a name or number is this machine's own, which no network carries."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _clean(token: str | None) -> str | None:
    """The token without the line's end that a file has. UserError: it cannot be one."""
    if token is None or not (stripped := token.strip()):
        return None
    if not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise UserError("the token has signs that no token has", "take it as `ziggurat tokens PYRAMID --make` shows it")
    return stripped


def _without_password(url: str) -> str:
    """As it may be shown."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://...@{after}" if at else url
