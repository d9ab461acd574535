"""A bad network between a client and a store: an HTTP proxy that refuses, drops and loses what it is told to.

What happens to a request depends on the seed, on its method and path, and on how many times it was asked, not on which
thread came first: a request that is tried again meets another fate, the same one in each run where names are the same.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "date", "server"})


@dataclass(frozen=True)
class Faults:
    """Shares of all requests: answered 503 and cut off before they reach the store; of all PUTs and POSTs, done by the
    store, with the reply lost. `only`: requests whose path holds this text, the others pass.
    """

    unavailable: float = 0.0
    dropped: float = 0.0
    lost: float = 0.0
    seed: int = 0
    only: str = ""


@dataclass
class Proxy:
    """A running proxy. `faults` may be replaced at any time; `counts` says how many of each have happened."""

    port: int
    faults: Faults
    counts: Counter[str] = field(default_factory=Counter)
    _asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: Any = field(default_factory=threading.Lock)

    def fate(self, method: str, path: str) -> str:
        """What is done to the next request: "pass", "unavailable", "dropped" or "lost"."""
        with self._lock:
            self._asked[method, path] += 1
            draw = random.Random(f"{self.faults.seed} {method} {path} {self._asked[method, path]}").random()
            fate = self._drawn(draw, method) if self.faults.only in path else "pass"
            self.counts[fate] += 1
            return fate

    def _drawn(self, draw: float, method: str) -> str:
        shares = {"unavailable": self.faults.unavailable, "dropped": self.faults.dropped}
        if method in ("PUT", "POST"):
            shares["lost"] = self.faults.lost
        for fate, share in shares.items():
            if draw < share:
                return fate
            draw -= share
        return "pass"


@contextlib.contextmanager
def between(port: int, faults: Faults) -> Iterator[Proxy]:
    """A proxy before the store at `port` of this machine."""
    proxy = Proxy(0, faults)

    class Handler(_Handler):
        upstream = port
        judge = proxy

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Takes one connection's requests, asks the judge, and passes them on or does not."""

    protocol_version = "HTTP/1.1"
    upstream: int
    judge: Proxy

    def _serve(self) -> None:
        body = self._body()
        fate = self.judge.fate(self.command, self.path)
        if fate == "unavailable":
            self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
            return
        if fate == "pass":
            self._answer(*self._ask(body))
            return
        if fate == "lost":
            self._ask(body)
        # A reset, and not a polite end: the client must not take it for an empty answer.
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(parts)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The store's own answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        with contextlib.closing(connection):
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            connection.request(self.command, self.path, body, headers)
            reply = connection.getresponse()
            return reply.status, [h for h in reply.getheaders() if h[0].lower() not in _HOP], reply.read()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server gives it
        """Nothing: the counts say what happened."""


_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
