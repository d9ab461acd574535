"""What a service refuses, as it says so: an RFC 9457 document becomes an exception of one line, with the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from curation.errors import UserError
from curation.printable import printable
from pipelines.client.address import TOKEN_VARIABLE

_MOST = 600
_NAMED = "see that it is named right, and that the service is as new as this client"
_LOG = "see its log, or give the command the pyramid itself"


class ServiceError(UserError):
    """What the service answered in the place of data. `status`: of HTTP; `field`: the argument that is wrong, where the
    service names one.
    """

    def __init__(self, cause: str, remedy: str, status: int, field: str | None = None) -> None:
        super().__init__(cause, remedy)
        self.status, self.field = status, field

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cause, self.remedy, self.status, self.field)


class UnreachableError(UserError):
    """The service did not answer, as often as it was asked."""


def refusal(status: int, content: bytes, location: str | None = None) -> ServiceError:
    """Of an answer that is none of 2xx."""
    if status == HTTPStatus.UNAUTHORIZED:
        remedy = f"put a token into {TOKEN_VARIABLE}; `ziggurat tokens PYRAMID --make NAME` makes one"
        return ServiceError("the service asks for a token that it knows", remedy, status)
    if 300 <= status < 400:
        told = f"the service is elsewhere ({_line(location or 'it does not say where')})"
        return ServiceError(told, "give that address, if you trust it: a token is not sent on", status)
    problem = _problem(content)
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "an unknown status"
    cause = problem.get("detail") or f"the service answers {status} ({phrase})"
    field = problem.get("field")
    remedy = problem.get("remedy") or (_LOG if status >= 500 else _of_field(field))
    return ServiceError(_line(cause), _line(remedy), status, None if field is None else _line(field))


def _problem(content: bytes) -> Mapping[str, str]:
    """The texts of a problem document; none where it is no such document, as a proxy's page of HTML."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return {key: one for key, one in found.items() if isinstance(one, str)} if isinstance(found, dict) else {}


def _of_field(field: str | None) -> str:
    return _NAMED if field is None else f"put {field} right"


def _line(text: str) -> str:
    return printable(" ".join(text.split()))[:_MOST]
