"""What a service serves: one pyramid, and who is let in. Made once, and asked by every route.

A request reads the pyramid as it is when it comes: `pyramid.json` is read anew, caches of datasets are kept.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from curation.inputs.roots import Roots
from curation.pyramid.storage.about import ready
from curation.pyramid.store import Pyramid
from pipelines.api import tokens
from pipelines.api.tokens import Token
from pipelines.commands.jobs.bounds import Bounds
from pipelines.commands.jobs.of_pyramid import PyramidJobs
from pipelines.commands.pyramid.exporting import Exports
from pipelines.watching.curves import Logs

if TYPE_CHECKING:
    from pipelines.commands.jobs.server import Server

FRESH_S = 2.0
"""How long tokens are believed that were read from the pyramid: a revoked one is refused after this."""
LINK_S = 600.0
"""How long the link that a service opens with is good; it is good once."""
SESSION_S = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a service is to run. `asks`: whether a token is asked for; without one everybody who reaches it may do
    everything. `hosts`: names that it is called by in requests, None for any. `secure`: it is reached by HTTPS.
    `place`: the pyramid as it was named, with the options of its store. `roots`: where requests may lead. `ray`: its
    Ray job server, None for none; `group`: the command line that reads a job before it is sent.
    """

    asks: bool = True
    hosts: tuple[str, ...] | None = None
    secure: bool = False
    place: str | None = None
    roots: Roots = field(default_factory=Roots)
    ray: Callable[[], Server] | None = None
    group: Any = None


@dataclass
class Sessions:
    """People who came by the link. Only hashes are held; all end with the process."""

    _links: dict[str, float] = field(default_factory=dict)
    _open: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def link(self) -> str:
        """A key that `enter` takes once."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._links[tokens.hashed(key)] = time.monotonic() + LINK_S
        return key

    def enter(self, key: str) -> str | None:
        """The cookie of a new session; None where the key is none, was used, or is too old."""
        with self._lock:
            ends = self._links.pop(tokens.hashed(key), 0.0)
            if time.monotonic() >= ends:
                return None
            cookie = secrets.token_urlsafe(32)
            self._open[tokens.hashed(cookie)] = time.monotonic() + SESSION_S
            return cookie

    def holds(self, cookie: str) -> bool:
        """Whether a cookie is one of an open session."""
        with self._lock:
            now = time.monotonic()
            self._open = {key: ends for key, ends in self._open.items() if ends > now}
            given = tokens.hashed(cookie)
            found = False
            for key in self._open:  # each, so that none is found faster
                found |= hmac.compare_digest(key, given)
            return found


class Served:
    """See the module."""

    def __init__(self, pyramid: Pyramid, settings: Settings) -> None:
        self.settings, self.sessions, self.started = settings, Sessions(), time.monotonic()
        self._pyramid = pyramid
        self._tokens: tuple[float, tuple[Token, ...]] | None = None
        self.exports, self.logs = Exports(), Logs()
        self.jobs = None if settings.ray is None else PyramidJobs(self.place, settings.ray, settings.group)

    @property
    def uri(self) -> str:
        return self._pyramid.uri

    @property
    def place(self) -> str:
        """The pyramid as a command names it."""
        return self.settings.place or self._pyramid.uri

    def bounds(self) -> Bounds:
        """What a request may name, as it is now."""
        return Bounds(self.pyramid(), self.place, self.settings.roots)

    def pyramid(self) -> Pyramid:
        """The pyramid as it is now; UserError where it is gone, or not to be read at the moment."""
        now = self._pyramid.refreshed()
        ready(now.uri, now.about)
        return now

    def tokens(self) -> tuple[Token, ...]:
        """The tokens that are good, at most `FRESH_S` old."""
        held = self._tokens
        if held is None or time.monotonic() - held[0] > FRESH_S:
            held = self._tokens = (time.monotonic(), tokens.listed(self._pyramid))
        return held[1]
