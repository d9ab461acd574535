"""What went wrong, as RFC 9457 documents: each with a status, one line of cause, a remedy, and the field it is about.

Every failure of a route becomes one here: what the person can put right (`UserError`) is 422, what is not there 404,
what has to wait for others 429, a store or a cluster that does not answer 503, and anything else 500 without a word of
the inside.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from curation.errors import BusyError, NotThereError, UnansweredError, UserError
from curation.printable import printable
from curation.retry import is_fault, of_the_user

MEDIA_TYPE = "application/problem+json"
_MOST = 600
"""Characters of a text that is given back."""
_log = logging.getLogger(__name__)


class Problem(BaseModel):
    """The document. `field`: the argument that is wrong, where one is; `remedy`: what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    remedy: str | None = None
    field: str | None = None
    instance: str | None = Field(None, description="the path that was asked for")


_USUAL = HTTPStatus.UNPROCESSABLE_ENTITY
_STATUS: dict[type[UserError], HTTPStatus] = {
    NotThereError: HTTPStatus.NOT_FOUND,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    UnansweredError: HTTPStatus.SERVICE_UNAVAILABLE,
}
_LATER = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)


class ProblemError(Exception):
    """A route's way to end with a problem."""

    def __init__(self, status: HTTPStatus, detail: str, remedy: str | None = None, field: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.remedy, self.field = status, detail, remedy, field


def not_found(detail: str, remedy: str | None = None) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_FOUND, detail, remedy)


def of(error: UserError, field: str | None = None) -> ProblemError:
    """What the person can put right, with the argument that it is about."""
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), _USUAL)
    return ProblemError(status, error.cause, error.remedy, field)


CONTENT: dict[str, Any] = {"model": Problem, "content": {MEDIA_TYPE: {}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    int(status): {**CONTENT, "description": status.phrase}
    for status in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.LENGTH_REQUIRED,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
}
"""What every route may answer beside its data."""


def document(request: Request, error: ProblemError) -> Response:
    """The answer."""
    status = HTTPStatus(error.status)
    told = Problem(
        title=status.phrase,
        status=int(status),
        detail=_line(error.detail),
        remedy=None if error.remedy is None else _line(error.remedy),
        field=error.field,
        instance=_line(request.url.path),
    )
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    headers |= {"Retry-After": "5"} if status in _LATER else {}
    return JSONResponse(told.model_dump(), int(status), headers, MEDIA_TYPE)


def handle(app: FastAPI) -> None:
    """Have every failure of `app` end in a document."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(UserError, _user)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _other)


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return document(request, error)


def _user(request: Request, error: Exception) -> Response:
    assert isinstance(error, UserError)
    return document(request, of(error))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where, *names = (str(part) for part in first["loc"])
    field = ".".join(names) or where
    return document(request, ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}: {first['msg']}", field=field))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = document(request, ProblemError(HTTPStatus(error.status_code), str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer


def status_of(error: Exception) -> HTTPStatus:
    """The status by which a failure is answered that no route expects."""
    is_of_the_store = of_the_user(error) is not None or is_fault(error)
    return HTTPStatus.SERVICE_UNAVAILABLE if is_of_the_store else HTTPStatus.INTERNAL_SERVER_ERROR


def _other(request: Request, error: Exception) -> Response:
    """What no route expects. A fault of the store is told; of any other the log has the whole."""
    told = of_the_user(error)
    if status_of(error) is HTTPStatus.SERVICE_UNAVAILABLE:
        _log.warning("%s %s: %s", request.method, printable(request.url.path), error)
        detail = told.cause if told is not None else "the disk or the store fails"
        return document(request, ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, told.remedy if told else None))
    _log.exception("%s %s", request.method, printable(request.url.path), exc_info=error)
    return document(request, ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the service; its log has more"))


def _line(text: str) -> str:
    return printable(" ".join(text.split()))[:_MOST]
