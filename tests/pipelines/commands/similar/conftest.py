from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipelines.commands.similar import made
from tests.pipelines.commands.similar.made import Typed


@pytest.fixture
def ziggurat(capfd: pytest.CaptureFixture[str]) -> Iterator[Typed]:
    with made.typed(capfd) as typed:
        yield typed
