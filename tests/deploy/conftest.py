"""The manifests of deploy/kubernetes, and the chart rendered under each of some values, one after another."""

from __future__ import annotations

from functools import cache

import pytest

from tests.deploy.manifests import VALUES, Document, plain, rendered

_rendered = cache(lambda name: rendered(VALUES[name]))


@pytest.fixture(params=["plain", *VALUES])
def made(request: pytest.FixtureRequest) -> list[Document]:
    """Documents of one way to make them."""
    return plain() if request.param == "plain" else _rendered(request.param)
