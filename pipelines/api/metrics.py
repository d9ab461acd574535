"""What the service counts of itself: requests by route and status, how long they take, what it has sent of films.

    request -> [Counted] -> the rest of the service            GET /metrics -> `exposed` <- `gauges` (of the pyramid)

Routes are named by their templates, so that no id makes a series of its own, and paths without a route by one word.
All of it is in a registry of this service, and not in the process's.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines import traces
from pipelines.api.counting import Fresh
from pipelines.api.gauges import Counting, PyramidGauges
from pipelines.api.problems import status_of

if TYPE_CHECKING:
    from pipelines.api.served import Served

FILM = "/api/clips/{clip_id}/video"
NO_ROUTE = "(none)"
GONE = "gone"
"""In the place of a status: the client went before it had one."""
_API = "/api"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_NAMED = {"run": "run", "video": "video_id", "clip": "clip_id"}
"""What a line of the log calls a parameter of a path."""
_log = logging.getLogger(__name__)


class Metrics:
    """The registry of a service, and what its requests are counted in."""

    def __init__(self, served: Served) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ziggurat_http_requests",
            "Requests that were answered, by route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "ziggurat_http_request_seconds",
            "Seconds from a request to the last byte of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "ziggurat_http_requests_in_flight", "Requests that are being answered.", registry=registry
        )
        self.film_bytes = Counter(
            "ziggurat_film_sent_bytes", "Bytes of clips' films that were sent.", registry=registry
        )
        self.counted = Fresh(Counting(served.pyramid))
        registry.register(PyramidGauges(self.counted))
        ProcessCollector(registry=registry)

    def exposed(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class Counted:
    """Counts every request, whatever becomes of it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, began, status = self._metrics, time.perf_counter(), GONE

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)
            if message["type"] == "http.response.body" and route_of(scope) == FILM and status in ("200", "206"):
                metrics.film_bytes.inc(len(message.get("body", b"")))

        metrics.in_flight.inc()
        with traces.span(scope["method"], Headers(scope=scope)) as told:
            try:
                await self._app(scope, receive, sent)
            except Exception as error:  # answered outside of all that may be put around an application
                status = str(int(status_of(error))) if status == GONE else status
                raise
            finally:
                metrics.in_flight.dec()
                self._done(scope, status, time.perf_counter() - began)
                _trace(told, scope, status)

    def _done(self, scope: Scope, status: str, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = route_of(scope)
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if _log.isEnabledFor(logging.INFO):  # of structured logs alone; no query, which may hold the key of a link
            named = scope.get("path_params") or {}
            of = {name: named[key] for name, key in _NAMED.items() if key in named}
            told = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4), **of}
            _log.info("request", extra=told)


def _trace(told: traces.Told, scope: Scope, status: str) -> None:
    """What a request's span says; no path, for an id is in it, and no query."""
    route = route_of(scope)
    told.set(f"{scope['method']} {route}", http__request__method=scope["method"], http__route=route)
    if status != GONE:
        told.set(http__response__status_code=int(status))
    if status.startswith("5"):
        told.failed()


def route_of(scope: Scope) -> str:
    """The template of the route that has answered, `NO_ROUTE` where none has."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return NO_ROUTE
    # A route that was taken in under a prefix knows its own part alone.
    return _API + path if scope["path"].startswith(f"{_API}/") and not path.startswith(f"{_API}/") else path
