"""`/metrics`: what Prometheus scrapes, for whoever may read. See `pipelines.api.metrics` and docs/observability.md."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from pipelines.api.metrics import Metrics

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> PlainTextResponse:
    """The service, its pyramid and the runs at work, in Prometheus' text format. The pyramid is counted anew every
    30 s at most, and beside the requests.
    """
    held: Metrics = request.app.state.metrics
    return PlainTextResponse(held.exposed(), media_type=CONTENT_TYPE_LATEST)
