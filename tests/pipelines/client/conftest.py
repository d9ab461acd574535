from __future__ import annotations

from collections.abc import Iterator

import pytest

from curation.pyramid.store import Pyramid
from pipelines.client.client import Client
from tests.pipelines.client import made
from tests.support import live


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    return made.pyramid(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def address(pyramid: Pyramid) -> Iterator[str]:
    """Where its service listens."""
    with live.served(pyramid) as address:
        yield address


@pytest.fixture(scope="module")
def token(pyramid: Pyramid) -> str:
    return live.token(pyramid)


@pytest.fixture
def client(address: str, token: str) -> Iterator[Client]:
    with Client(address, token) as client:
        yield client
