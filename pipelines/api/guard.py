"""Who is let in: a bearer token or a session's cookie, with the scope that a route asks for.

    request -> [Door: its host, its origin] -> [needs(scope): its token] -> route

A cookie travels with requests that other pages make a browser send, so with one every request that changes something
has to come from a page of this service. Requests under another name than the service's are refused: a stranger's page
cannot reach a service on loopback by a name that it makes point there.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from curation.pyramid.store import Pyramid
from pipelines.api import tokens
from pipelines.api.problems import ProblemError, document
from pipelines.api.served import Served
from pipelines.api.tokens import Token
from pipelines.commands.similar.search import MOST_BYTES

COOKIE = "ziggurat_session"
_BODY = 1 << 20
"""Bytes of a request's body at most, but for that of a picture."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_bearer = HTTPBearer(auto_error=False, description="A token of `ziggurat tokens`.")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # without any, a form of our own is sent with the origin "null"
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every answer: nothing is loaded from elsewhere, and no other page frames or reads it."""


class Door:
    """Refuses requests under a strange name and too large ones, and puts `HEADERS` on all answers."""

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self._app, self._served = app, served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                new = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in new if pair[0] not in there)]
            await send(message)

        request = Request(scope, receive)
        refused = self._refused(request)
        await (self._app if refused is None else document(request, refused))(scope, receive, answer)

    def _refused(self, request: Request) -> ProblemError | None:
        """Why a request goes no further, whoever sends it."""
        hosts = self._served.settings.hosts
        if hosts is not None and _name(request.headers.get("host", "")) not in hosts:
            return ProblemError(HTTPStatus.MISDIRECTED_REQUEST, "the service is not called so", "call it by its name")
        if "transfer-encoding" in request.headers:
            return ProblemError(HTTPStatus.LENGTH_REQUIRED, "how long the body is has to be said before it comes")
        length = request.headers.get("content-length", "0")
        most = MOST_BYTES if request.url.path.endswith("/search/image") else _BODY
        if not length.isdecimal() or int(length) > most:
            return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {most:,} bytes here")
        return None


def _name(host: str) -> str | None:
    """The name in a `Host` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def served(request: Request) -> Served:
    return request.app.state.served


def pyramid(here: Annotated[Served, Depends(served)]) -> Pyramid:
    """The pyramid as it is now."""
    return here.pyramid()


def needs(scope: tokens.Scope) -> Callable[..., Token]:
    """A dependency that lets in who may do `scope`, and says who that is."""

    def checked(
        request: Request,
        here: Annotated[Served, Depends(served)],
        given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> Token:
        token = _who(request, here, given)
        if token is None:
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "a token is needed",
                "send `Authorization: Bearer TOKEN`; `ziggurat tokens PYRAMID --make NAME` makes one",
            )
        if not tokens.allowed(token.scopes, scope):
            raise ProblemError(HTTPStatus.FORBIDDEN, f"this token is not good for {scope}", f"make one with {scope}")
        return token

    return checked


def _who(request: Request, here: Served, given: HTTPAuthorizationCredentials | None) -> Token | None:
    if given is not None:  # who sends a token is judged by it alone
        return tokens.known(here.tokens(), given.credentials)
    cookie = request.cookies.get(COOKIE)
    if here.settings.asks and (cookie is None or not here.sessions.holds(cookie)):
        return None
    if request.method not in _SAFE:
        _check_origin(request)
    return tokens.of_session()


def _check_origin(request: Request) -> None:
    """Of a request without a token that changes something: a page of this service has made it."""
    origin, host = request.headers.get("origin"), request.headers.get("host")
    site = request.headers.get("sec-fetch-site")
    ours = urlsplit(origin).netloc == host if origin is not None else site in ("same-origin", "none")
    if not ours:
        raise ProblemError(HTTPStatus.FORBIDDEN, "this was sent by a page of another origin", "send a token with it")


Reading = Depends(needs(tokens.Scope.READ))
Writing = Depends(needs(tokens.Scope.WRITE))
_submitter = needs(tokens.Scope.SUBMIT)
Submitting = Depends(_submitter)
Governing = Depends(needs(tokens.Scope.ADMIN))
Writer = Annotated[Token, Writing]
"""Who writes."""
Submitter = Annotated[Token, Depends(_submitter)]
Service = Annotated[Served, Depends(served)]
Here = Annotated[Pyramid, Depends(pyramid)]
