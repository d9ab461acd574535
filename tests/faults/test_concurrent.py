"""P1 and P8: the same bytes under three names in two jobs at once, with different filters: one row each, all scores."""

from __future__ import annotations

import shutil
from pathlib import Path

from curation.pyramid.store import Pyramid
from tests.support import jobs


def test_two_jobs_with_different_filters_and_the_same_bytes(tmp_path: Path) -> None:
    videos = jobs.corpus(tmp_path / "a")
    for name in ("b", "c"):
        shutil.copytree(videos, tmp_path / name)
    folders = [str(tmp_path / name) for name in "abc"]
    to = ("--to", str(tmp_path / "p"), "--cpus", jobs.CPUS, "--replace-recipe", "--json")
    both = [
        jobs.start("curate", *some, *to, "--recipe", jobs.recipe(tmp_path, text))
        for some, text in ((folders[:2], jobs.RECIPE), (folders[1:], jobs.WITHOUT_TEXT))
    ]
    done = [jobs.finish(process) for process in both]
    assert [d.code for d in done] == [0, 0], [d.error for d in done]

    found_videos, found_clips, media = jobs.rows(tmp_path / "p")  # fails where a key is there twice
    assert len(found_videos) == len(jobs.LENGTHS)
    assert len(found_clips) == len(media) == sum(len(lengths) for lengths in jobs.LENGTHS)
    table = Pyramid.open(tmp_path / "p").dataset("videos").to_table(columns=["uris"]).to_pylist()
    assert all(sorted(Path(uri).parent.name for uri in row["uris"]) == ["a", "b", "c"] for row in table)
    # P8: the job with text detection has filled its column, though the other one wrote the same rows without it.
    assert all(row[7] is not None for row in found_clips)
    # The 12 names of each job are accounted for, and what one job had done the other did not decode.
    for finished in done:
        outcomes = ("done", "same_content", "settled_before")
        assert sum(finished.summary[name] for name in outcomes) == 12
        assert finished.summary["done"] <= len(jobs.LENGTHS)
