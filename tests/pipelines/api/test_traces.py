"""Spans of requests and of a run, read from an exporter in memory; and that nothing is imported where nobody asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from curation.pyramid.store import Pyramid
from pipelines import traces
from pipelines.execution.records.recording import CurationRecording
from pipelines.execution.results.account import Account
from pipelines.progress.display import Display
from tests.support import jobs, without_ray


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What this process has exported."""
    for name in ("_tracer", "_is_looked_up"):
        monkeypatch.setattr(traces, name, getattr(traces, name))
    exporter = InMemorySpanExporter()
    provider = traces.use(SimpleSpanProcessor(exporter))
    yield exporter
    provider.shutdown()


def test_each_request_has_a_span_that_is_part_of_its_callers(
    client: TestClient, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = f"00-{'a' * 32}-{'b' * 16}-01"
    client.get("/api/clips/some-clip?secret=1", headers={"traceparent": caller})

    def falls(*_: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("pipelines.api.routes.runs.records.listed", falls)
    client.get("/api/runs")
    first, second = spans.get_finished_spans()
    assert (first.name, first.kind) == ("GET /api/clips/{clip_id}", SpanKind.SERVER)
    assert first.attributes == {
        "http.request.method": "GET",
        "http.route": "/api/clips/{clip_id}",
        "http.response.status_code": 404,
    }
    assert first.parent is not None and f"{first.parent.trace_id:032x}" == "a" * 32
    assert first.status.status_code is StatusCode.UNSET
    assert second.parent is None and second.status.status_code is StatusCode.ERROR
    assert second.attributes is not None and second.attributes["http.response.status_code"] == 500


def test_a_run_has_a_span_and_its_stages_have_theirs_in_it(
    pyramid: Pyramid, spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    account = Account()
    with (tmp_path / "out").open("w") as out, without_ray.here():
        watch = Display(account, out, True, 60.0)
        with CurationRecording(pyramid, account, watch).kept() as record:
            with record.over("measure", None):
                record.expect(3)
                account.flows.now.count(2, read_or_written=70)
            with pytest.raises(ValueError, match="fell"), record.over("cut", None):
                raise ValueError("fell")
    measure, cut, run = spans.get_finished_spans()
    assert [one.name for one in (measure, cut, run)] == ["stage measure", "stage cut", "run"]
    assert run.context is not None and measure.parent == run.context == cut.parent
    wanted = {"run": record.name, "stage": "measure", "in": 3, "out": 2, "bytes": 70}
    assert measure.attributes == wanted and run.attributes is not None and run.attributes["run"] == record.name
    assert (measure.status.status_code, cut.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)


CODE = """
import sys
{before}
from pipelines import traces
with traces.span("a", x=1) as told:
    told.set("b", y=2)
    told.failed()
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"opentelemetry"}}))
"""


@pytest.mark.parametrize("named", [False, True])
def test_without_an_endpoint_nothing_is_imported_and_without_the_packages_it_is_told(named: bool) -> None:
    before = "sys.modules['opentelemetry.sdk'] = None" if named else ""
    environment: dict[str, Any] = {traces.VARIABLES[0]: "http://127.0.0.1:9" if named else ""}
    process = jobs.start(code=CODE.format(before=before), **environment)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    if named:
        assert error.strip() == "OTEL_EXPORTER_OTLP_ENDPOINT is set, but no trace is sent: pip install 'ziggurat[otel]'"
    else:
        assert out.strip() == "[]" and not error
