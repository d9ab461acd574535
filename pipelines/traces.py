"""OpenTelemetry spans, of the service's requests and of a run with its stages. Off unless an endpoint is named.

    OTEL_EXPORTER_OTLP_ENDPOINT and the extra `otel` -> [span] -> the exporter's thread -> a collector

Without the variable no package of OpenTelemetry is imported. A collector that does not answer costs no request and no
run anything: spans wait in bounded memory, and the oldest are dropped.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, Tracer

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_log = logging.getLogger(__name__)
_tracer: Tracer | None = None
_is_looked_up = False


class Told:
    """What is said of a span while it lasts; without OpenTelemetry it goes nowhere."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def set(self, name: str | None = None, **attributes: Any) -> None:
        """Name the span otherwise, and put attributes on it: `a__b` is `a.b` there, and None is left out."""
        if self._span is None:
            return
        if name is not None:
            self._span.update_name(name)
        for key, value in attributes.items():
            if value is not None:
                self._span.set_attribute(key.replace("__", "."), value)

    def failed(self) -> None:
        """What the span stands for went wrong."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR)


@contextmanager
def span(name: str, headers: Mapping[str, str] | None = None, **attributes: Any) -> Iterator[Told]:
    """A span while the block lasts, within that of the caller. `headers`: of a request that is answered by it, in which
    another service may say which span of its own this one is part of.
    """
    tracer = _set_up()
    if tracer is None:
        yield Told()
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    kind, parent = (SpanKind.INTERNAL, None) if headers is None else (SpanKind.SERVER, extract(headers))
    with tracer.start_as_current_span(name, parent, kind) as begun:
        told = Told(begun)
        told.set(**attributes)
        yield told


def use(processor: SpanProcessor) -> TracerProvider:
    """Hand the spans of this process to `processor` from now on."""
    global _tracer, _is_looked_up
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "ziggurat"), "service.version": version("ziggurat")}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(processor)
    _tracer, _is_looked_up = provider.get_tracer("ziggurat"), True
    return provider


def _set_up() -> Tracer | None:
    """The tracer, None where no endpoint is named or the packages are not there, which is told once."""
    global _is_looked_up
    if _is_looked_up:
        return _tracer
    _is_looked_up = True
    if not any(os.environ.get(name) for name in VARIABLES):
        return None
    if not all(map(_is_there, _NEEDED)):
        _log.warning("%s is set, but no trace is sent: pip install 'ziggurat[otel]'", VARIABLES[0])
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    use(BatchSpanProcessor(OTLPSpanExporter()))
    return _tracer


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package that it would be in
        return False
