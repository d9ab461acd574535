"""`ziggurat forget` as a person uses it: shown first, then gone, and refused when it comes again."""

from __future__ import annotations

import shutil
from pathlib import Path

from curation.pyramid.store import Pyramid
from tests.support import jobs


def test_a_video_taken_down_stays_away(tmp_path: Path) -> None:
    videos, recipe, pyramid = jobs.corpus(tmp_path / "videos"), jobs.recipe(tmp_path), tmp_path / "p"
    jobs.curate(videos, pyramid, recipe)
    before = jobs.rows(pyramid)
    shown = jobs.run("forget", str(pyramid), "2.mp4", "--json")
    assert shown.code == 0 and "nothing was deleted" in shown.error and jobs.rows(pyramid) == before
    assert [event["clips"] for event in shown.events] == [3]
    (tmp_path / "list.txt").write_text(f"{videos / '2.mp4'}\n\n5.mp4\n")
    done = jobs.run("forget", str(pyramid), "--list", str(tmp_path / "list.txt"), "--yes", "--json")
    assert done.code == 0, done.error
    assert (done.events[-1]["videos"], done.events[-1]["clips"], done.events[-1]["left"]) == (2, 4, [])
    shutil.copy(videos / "2.mp4", videos / "again.mp4")
    again = jobs.curate(videos, pyramid, recipe)
    assert again.summary["reasons"] == {"forgotten": 3} and again.summary["clips"] == 0
    gone = {row[0] for row in before[0]} - {row[0] for row in jobs.rows(pyramid)[0] if row[1] == "done"}
    assert len(gone) == 2 and not gone & {row[1] for row in jobs.rows(pyramid)[1]}
    assert Pyramid.open(pyramid).query().count() == len(before[1]) - 4
    assert jobs.curate(videos, pyramid, recipe).summary["settled_before"] == len(jobs.LENGTHS) + 1
    unknown = jobs.run("forget", str(pyramid), "nowhere.mp4", "--yes")
    assert unknown.code == 2 and unknown.error.startswith("ziggurat: no video is called 'nowhere.mp4'")
