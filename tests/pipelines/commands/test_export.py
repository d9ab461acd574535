"""`ziggurat export` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import jobs, without_ray
from tests.support.service import curated, place

__all__ = ["curated", "place"]


def test_a_tier_is_exported_and_a_second_time_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "table.toml").write_text("side_multiple = 32\n[buckets.128px]\n16 = { batch = 2 }\n")
    buckets = ("--buckets", str(tmp_path / "table.toml"))
    to = str(tmp_path / "x")
    asked = ("export", str(place), "--as", "webdataset", "--motion", "0..", *buckets, "-o", to)
    done = without_ray.run(*asked, "--json")
    assert done.code == 0, done.error
    (told,) = done.events
    assert told["total"] == 10 and told["clips"] == sum(json.loads(Path(to, "sizes.json").read_text()).values()) > 0
    assert told["without_caption"] == told["clips"]
    again = jobs.run(*asked)
    assert again.code == 2 and "whole export already" in again.error


@pytest.mark.parametrize(
    "arguments",
    [
        ("--as", "zip", "-o", "{to}"),
        ("--as", "pairs", "-o", "{to}", "--buckets", "stage1"),
        ("--as", "webdataset", "-o", "{to}", "--buckets", "nothing"),
        ("--as", "pairs", "-o", "{to}", "--names", "{source}"),
        ("--as", "pairs", "-o", "{to}", "--tier", "none"),
        ("--as", "pairs", "-o", "{to}", "--motion", "fast"),
        ("--as", "pairs", "-o", "gopher://x/y"),
        ("--as", "pairs", "-o", "{full}"),
        ("--as", "pairs"),
        ("-o", "{to}"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    place: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    names = {"to": str(tmp_path / "new"), "full": str(tmp_path / "full")}
    given = [one.format(**names) if one.strip("{}") in names else one for one in arguments]
    done = jobs.run("export", str(place), *given)
    assert done.code == 2, done
    assert len(done.error.strip().splitlines()) == 1 and done.error.startswith("ziggurat: "), done.error
    assert not (tmp_path / "new").exists() and [one.name for one in (tmp_path / "full").iterdir()] == ["mine.txt"]
