"""Freezing in an object store, which has no locks: a name is given once, and of two at a time one is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from curation.errors import UserError
from curation.pyramid.store import Pyramid
from curation.shards import folder
from curation.shards.freezing import freeze
from tests.curation.pyramid.build import TIERS
from tests.curation.shards.build import assign, filled, order
from tests.support import store


@pytest.fixture(scope="module")
def server() -> Iterator[store.Store]:
    with store.served() as made:
        yield made


@pytest.fixture
def pyramid(server: store.Store, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Pyramid:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    made = Pyramid.create(f"s3://{store.BUCKET}/{request.node.name}", TIERS, "test")
    filled(made, "v1")
    return made


def test_frozen_once_and_opened(pyramid: Pyramid) -> None:
    made = freeze(pyramid, pyramid.query(), assign, order("n"))
    _, found = folder.opened(f"{pyramid.uri}/manifests/n.json")
    assert found.manifest == made.manifest and found.samples.equals(made.samples)
    with pytest.raises(UserError, match="there is a manifest n already"):
        freeze(pyramid, pyramid.query(), assign, order("n"))
    assert folder.open_manifest(pyramid.uri, "n").manifest == made.manifest


def test_a_killed_one_leaves_room_and_others_are_let_be(pyramid: Pyramid) -> None:
    for name in ("n", "other"):
        pyramid.dataset("clips").tags.create(f"manifest-{name}", 1)
    freeze(pyramid, pyramid.query(), assign, order("n"))
    assert sorted(pyramid.dataset("clips").tags.list()) == ["manifest-n", "manifest-other"]  # it may be at work


def test_of_two_at_a_time_one_is_refused(pyramid: Pyramid) -> None:
    made: list[Any] = []

    def slow(number: int, clip: Any) -> Any:
        if not made:  # in the midst of one, another one of the same name comes, and ends
            made.append(None)
            filled(pyramid, "v2")
            made[0] = freeze(pyramid, pyramid.query(), assign, order("n"))
        return assign(number, clip)

    with pytest.raises(UserError, match="another freeze under the name of manifest-n is at work"):
        freeze(pyramid, pyramid.query(), slow, order("n"))
    found = folder.open_manifest(pyramid.uri, "n")
    assert found.manifest == made[0].manifest and found.manifest.samples == 6
    assert pyramid.dataset("clips", "manifest-n").version == found.manifest.versions["clips"]
