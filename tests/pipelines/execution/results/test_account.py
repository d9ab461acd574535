"""The account of a run: equal captions are counted in bounded memory."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines.execution.results import account
from pipelines.execution.results.account import Account
from pipelines.stages.results import Captioned


def said(*captions: str) -> Captioned:
    rows = [{"clip_id": str(number), "caption": one, "caption_why": None} for number, one in enumerate(captions)]
    return Captioned("dense", pa.Table.from_pylist(rows))


def test_equal_captions_are_counted_and_what_came_once_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "MOST_CAPTIONS", 10)
    found = Account()
    found.add(said("a fox", "the sea", "a fox", "a fox"))
    assert found.captions_equal == {"dense": 3} and found.commonest_caption == 3
    for number in range(100):
        found.add(said(f"clip {number}"))
        assert len(found._captions) <= 10
    found.add(said("a fox", "the sea"))
    assert found.captions_equal == {"dense": 4} and found.commonest_caption == 4
    assert found.captioned == {"dense": 106}
