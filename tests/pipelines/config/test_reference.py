"""docs/recipe.md says what the code reads: every key, with what it means."""

from __future__ import annotations

import re

from curation.contract import Reason
from pipelines.config.reference import page
from tests.support import jobs


def test_the_page_is_the_code_s() -> None:
    written = (jobs.ROOT / "docs" / "recipe.md").read_text()
    assert page() == written, "run `python -m pipelines.config.reference > docs/recipe.md`"


def test_every_key_is_explained() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(row[-1].strip(" |") for row in rows)


def test_reasons_that_keys_name_are_reasons() -> None:
    """What a key's text says that a source is: "below it a source is `low_fps`"."""
    named = re.findall(r"(?:source|image)[^.|]* is `([a-z_]+)`", page())
    assert len(named) >= 5 and {*named} <= {str(reason) for reason in Reason}
