"""P15, by the service's own document: whatever schemathesis makes of it, no 5xx, no answer that the document does not
know, nothing let in without a token, nothing written by who may only read.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from curation.pyramid.store import Pyramid
from pipelines.api import tokens
from pipelines.api.app import create, described
from pipelines.api.problems import MEDIA_TYPE
from pipelines.api.served import Served
from pipelines.api.tokens import Scope
from tests.support.service import Working

schemathesis: Any = pytest.importorskip("schemathesis")
_SLOW = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.function_scoped_fixture,
)
FEW = settings(max_examples=6, deadline=None, suppress_health_check=_SLOW, phases=[Phase.explicit, Phase.generate])


def cases(served: Served) -> list[tuple[str, Any]]:
    """Each operation with its strategy."""
    app = create(served)
    schema = schemathesis.openapi.from_dict(described(app))
    schema.app = app
    found = [one.ok() for one in schema.get_all_operations()]
    assert len(found) > 15
    return [(f"{one.method.upper()} {one.path}", one.as_strategy()) for one in found]


def state(pyramid: Pyramid) -> Any:
    return [pyramid.dataset(name).version for name in pyramid.names], pyramid.files.read("pyramid.json")


@pytest.mark.parametrize("scope", [None, Scope.READ, Scope.ADMIN])
def test_no_request_makes_it_fall(working: Working, scope: Scope | None) -> None:
    served, pyramid = working.served, working.served.pyramid()
    headers = {"Host": "localhost"}
    if scope is not None:
        headers["Authorization"] = f"Bearer {tokens.make(pyramid, 'a test', [scope])[1]}"
    before = state(pyramid)
    for name, strategy in cases(served):
        _tried(name, strategy, headers, scope)
    if scope is not Scope.ADMIN:
        assert state(pyramid) == before and working.ray.found == {}


def _tried(name: str, strategy: Any, headers: dict[str, str], scope: Scope | None) -> None:
    @FEW
    @given(case=strategy)
    def each(case: Any) -> None:
        case.headers.update(headers)  # what it has made up of its own must not let it in, or keep it out
        answer = case.call()
        assert answer.status_code < 500, (name, answer.text)
        case.validate_response(
            answer,
            checks=[
                schemathesis.checks.not_a_server_error,
                schemathesis.specs.openapi.checks.status_code_conformance,
                schemathesis.specs.openapi.checks.content_type_conformance,
                schemathesis.specs.openapi.checks.response_schema_conformance,
            ],
        )
        if name in ("GET /health", "GET /ready"):
            return
        if scope is None:
            assert answer.status_code == 401, name
        if answer.status_code >= 400 and answer.status_code != 416:
            assert answer.headers["content-type"] == [MEDIA_TYPE] and answer.json()["status"] == answer.status_code

    each()
