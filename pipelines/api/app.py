"""The REST service of a pyramid, put together: read this first.

    request -> `metrics.Counted` -> `guard.Door` (names, headers) -> `guard.needs` (tokens) -> a route of `routes`
        what a route asks: commands, the pyramid; what fails: `problems`

Routes hold no logic: what they answer is what a command answers. They are plain functions, which run in threads: Lance
reads outside Python's lock.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from pipelines.api import problems
from pipelines.api.guard import Door, Reading, Submitting
from pipelines.api.metrics import Counted, Metrics
from pipelines.api.routes import (
    clips,
    exports,
    health,
    jobs,
    media,
    metrics,
    review,
    runs,
    scores,
    search,
    shards,
    tiers,
    training,
    videos,
)
from pipelines.api.served import Served

ABOUT = """What a pyramid holds, by ranges of its scores, and what may be done with it.

Every route but `/health` and `/ready` asks for a token: `Authorization: Bearer TOKEN`, made by `ziggurat tokens`.
Errors are RFC 9457 documents (`application/problem+json`) that name the field and the remedy.
"""
API = "/api"


def create(served: Served) -> FastAPI:
    """The service, to be run by an ASGI server."""
    app = FastAPI(
        title="Ziggurat",
        version=version("ziggurat"),
        description=ABOUT,
        openapi_url=None,  # it is a route like the others, and asks for a token
        docs_url=None,
        redoc_url=None,
        responses=problems.RESPONSES,
        separate_input_output_schemas=False,
    )
    app.state.served, app.state.metrics = served, Metrics(served)
    app.include_router(health.router)
    app.include_router(metrics.router, dependencies=[Reading])
    for module in (clips, review, media, scores, search, tiers, videos, shards, runs, training):
        app.include_router(module.router, prefix=API, dependencies=[Reading])
    for module in (jobs, exports):
        app.include_router(module.router, prefix=API, dependencies=[Submitting])
    app.add_api_route(
        f"{API}/openapi.json",
        lambda: described(app),
        dependencies=[Reading],
        include_in_schema=False,
        response_model=None,
    )
    problems.handle(app)
    app.add_middleware(Door, served=served)
    app.add_middleware(Counted, metrics=app.state.metrics)  # outermost: what the door refuses counts, too
    return app


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
    return app.openapi_schema
