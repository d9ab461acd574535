"""A service of a small curated pyramid, for the tests of its routes and pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from curation.pyramid.store import Pyramid
from pipelines.api import tokens
from pipelines.api.app import create
from pipelines.api.served import Served, Settings
from pipelines.api.tokens import Scope
from pipelines.web import pages
from tests.support import jobs, without_ray


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid of the small corpus and one broken video, made once; read it, or copy it."""
    folder = tmp_path_factory.mktemp("served")
    videos = jobs.corpus(folder / "videos")
    (videos / "broken.mp4").write_bytes(b"no film at all")
    done = without_ray.run(
        "curate", str(videos), "--to", str(folder / "p"), "--recipe", jobs.recipe(folder, jobs.WITHOUT_TEXT), "--json"
    )
    assert done.code == 0, done.error
    return folder / "p"


@pytest.fixture
def place(curated: Path, tmp_path: Path) -> Path:
    """The same, the test's own."""
    return Path(shutil.copytree(curated, tmp_path / "p"))


@pytest.fixture
def pyramid(place: Path) -> Pyramid:
    return Pyramid.open(place)


@pytest.fixture
def served(pyramid: Pyramid) -> Served:
    return Served(pyramid, Settings(hosts=("localhost", "testserver")))


@pytest.fixture
def stranger(served: Served) -> Iterator[TestClient]:
    """A client without a token."""
    app = create(served)
    pages.mount(app)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(stranger: TestClient, pyramid: Pyramid) -> TestClient:
    """A client that may do everything."""
    stranger.headers["Authorization"] = f"Bearer {tokens.make(pyramid, 'a test', [Scope.ADMIN])[1]}"
    return stranger
