"""A service of a small curated pyramid, for the tests of its routes and pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi.testclient import TestClient

from curation.inputs.roots import Roots
from curation.pyramid.store import Pyramid
from pipelines.api import tokens
from pipelines.api.app import create
from pipelines.api.served import Served, Settings
from pipelines.api.tokens import Scope
from pipelines.cli import app as commands
from pipelines.web import pages
from tests.support import jobs, ray_jobs, without_ray

GROUP: Any = typer.main.get_command(commands)


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


@dataclass
class Working:
    """A service with a root and a Ray job server, which tests of one module share. `data`: the root, with a link that
    leads out of it; the pyramid at `place` has a manifest `first`, as far as its name goes. `client` may do everything.
    """

    place: Path
    data: Path
    ray: ray_jobs.Client
    served: Served
    client: TestClient
    stranger: TestClient


@pytest.fixture(scope="module")
def whole_working(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Working]:
    folder = tmp_path_factory.mktemp("working")
    place, data, ray = folder / "p", folder / "data", ray_jobs.Client()
    shutil.copytree(curated, place)
    (place / "manifests").mkdir()
    (place / "manifests" / "first.json").write_text("{}")
    (data / "videos").mkdir(parents=True)
    (data / "out").symlink_to("/etc")
    pyramid = Pyramid.open(place)
    with pytest.MonkeyPatch.context() as patch:
        settings = Settings(
            hosts=("localhost", "testserver"),
            roots=Roots.of([str(data)]),
            ray=lambda: ray_jobs.server(patch, ray),
            group=GROUP,
        )
        served = Served(pyramid, settings)
        app = create(served)
        pages.mount(app)
        token = tokens.make(pyramid, "a test", [Scope.ADMIN])[1]
        stranger = TestClient(app, raise_server_exceptions=False)
        client = TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {token}"})
        yield Working(place, data, ray, served, client, stranger)


@pytest.fixture
def working(whole_working: Working) -> Working:
    """With a cluster that has no job yet."""
    whole_working.ray.found.clear()
    whole_working.ray.asked.clear()
    return whole_working


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
