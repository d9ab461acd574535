"""How every page is drawn, and what its routes are given: what is looked at, and what a form has sent."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from fastapi.responses import Response
from fastapi.templating import Jinja2Templates

from curation.pyramid.store import Pyramid
from pipelines.api.guard import Here
from pipelines.api.problems import ProblemError
from pipelines.web import views
from pipelines.web.state import State

HOME = Path(__file__).parent
_FORM = 16 << 10
"""Bytes of a form at most."""
templates = Jinja2Templates(HOME / "templates")
templates.env.globals["length"] = views.length


def state(request: Request, pyramid: Here) -> State:
    return State.of(pyramid, request.query_params.multi_items())


async def sent(request: Request) -> dict[str, str]:
    """The fields of a form."""
    content = bytearray()
    async for some in request.stream():
        content += some
        if len(content) > _FORM:
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this is no form of a page")
    return dict(parse_qsl(content.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=100))


Looking = Annotated[State, Depends(state)]
Sent = Annotated[dict[str, str], Depends(sent)]


def drawn(request: Request, pyramid: Pyramid, name: str, answer: HTTPStatus = HTTPStatus.OK, **shown: Any) -> Response:
    """A page of a template. `answer`: 422 of one that shows again what was filled in wrongly."""
    title = pyramid.uri.rstrip("/").rpartition("/")[2]
    shown = {"title": title, "tiers": pyramid.tiers.names, **shown}
    return templates.TemplateResponse(request, name, shown, int(answer))
