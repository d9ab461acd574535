"""The performance page: of the newest tables of each part, each of which can be measured by itself."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bench import __main__ as bench
from tests.support import jobs

OPTIONS = argparse.Namespace(videos=Path("V"), rows=10, vectors=10, copies=["1"], presets=["medium"])


def test_the_page_has_every_part_as_it_was_measured_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    bench.keep("query", "2026-01-02", "| a table |")
    bench.keep("query", "2026-01-03", "| another |")
    bench.keep("train", "2026-01-04", "| steps |")
    page = bench.page()
    parts = page.split("\n## ")
    assert [part.splitlines()[0] for part in parts[1:]] == [*bench.TITLES.values(), "Kernels"]
    query = next(part for part in parts if part.startswith("Queries"))
    assert "Measured on 2026-01-03: " in query and "| another |" in query and "| a table |" not in page
    assert "Not measured." in next(part for part in parts if part.startswith("Growth"))
    assert page.count("\n\n\n") == 0 and page.endswith("\n") and not page.endswith("\n\n")


def test_the_page_in_the_tree_is_that_of_the_results_in_the_tree() -> None:
    assert bench.PAGE.read_text() == bench.page()


@pytest.mark.parametrize("part", [bench.SHOTS, *bench.TITLES])
def test_every_part_starts_and_knows_what_it_is_given(
    part: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if part in ("models", "train"):
        pytest.importorskip("torch")
    name = f"bench.{part}.__main__" if (jobs.ROOT / "bench" / part).is_dir() else f"bench.{part}"
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        import_module(name).main()
    assert ended.value.code == 0
    told, given = capsys.readouterr().out, bench.commands(OPTIONS, "2026-01-02")[part]
    assert given and all(one in told for one in given if one.startswith("--"))
