from __future__ import annotations

from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    return Pyramid.create(tmp_path / "pyramid", TIERS, "test")
