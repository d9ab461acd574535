"""`ziggurat retry`: exactly the videos that ended for a reason are tried again, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.support import jobs, media, without_ray


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retry") / "in"
    folder.mkdir()
    media.make(folder / "good.mp4", seconds=3)
    media.make(folder / "short.mp4", seconds=0.5)
    (folder / "empty.mp4").touch()
    return folder


def outcomes(pyramid: Path) -> dict[str, tuple[str, str | None, str, int]]:
    """By the names of its file: what became of each video, in which run, in how many attempts."""
    columns = ["uris", "status", "reason", "job", "attempts"]
    rows = Pyramid.open(pyramid).dataset("videos").to_table(columns=columns).to_pylist()
    return {
        " ".join(sorted(Path(uri).name for uri in row["uris"])): (
            row["status"],
            row["reason"],
            row["job"],
            row["attempts"],
        )
        for row in rows
    }


def test_only_the_videos_with_the_reason_are_tried_and_by_any_name_that_is_left(videos: Path, tmp_path: Path) -> None:
    pyramid, text = tmp_path / "p", jobs.WITHOUT_TEXT
    listed = tmp_path / "list.csv"
    later, twin = tmp_path / "later.mp4", tmp_path / "twin.mp4"
    twin.write_bytes((videos / "short.mp4").read_bytes())
    listed.write_text(f"path,label\n{later},mine\n{twin},\n")
    first = without_ray.curate([videos, listed], pyramid, jobs.recipe(tmp_path, text), code=1)
    assert first.summary["reasons"] == {"too_short": 1, "empty": 1, "unreadable": 1}
    before = outcomes(pyramid)

    twin.unlink()  # one of two names of the same content
    again = without_ray.run("retry", str(pyramid), "--reason", "too_short", "--json")
    assert (again.code, again.summary["inputs"], again.summary["reasons"]) == (0, 1, {"too_short": 1}), again.error
    assert (again.summary["settled_before"], again.summary["same_content"]) == (0, 0)
    after = outcomes(pyramid)
    assert {name for name in before if before[name] != after[name]} == {"short.mp4 twin.mp4"}
    assert after["short.mp4 twin.mp4"][3] == before["short.mp4 twin.mp4"][3] + 1

    later.write_bytes((videos / "good.mp4").read_bytes() + b"\0" * 8)
    mended = without_ray.run("retry", str(pyramid), "--reason", "unreadable", "--json")
    assert (mended.code, mended.summary["inputs"], mended.summary["done"]) == (0, 1, 1), mended.error
    assert mended.summary["cut"] == 1, "its clips go the whole way"
    table = Pyramid.open(pyramid).dataset("videos").to_table(columns=["uris", "extra"]).to_pylist()
    assert [row["extra"] for row in table if row["uris"] == [f"file://{later}"] or row["uris"] == [str(later)]]


def test_a_reason_that_no_video_has_ends_at_once_and_one_that_is_none_is_a_mistake(
    videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pyramid = tmp_path / "p"
    without_ray.curate(videos, pyramid, jobs.recipe(tmp_path, jobs.WITHOUT_TEXT))
    capfd.readouterr()
    assert main(["retry", str(pyramid), "--reason", "low_fps"]) == 0
    assert "nothing is left to be tried again for low_fps" in capfd.readouterr().err
    assert main(["retry", str(pyramid), "--reason", "low_fps", "--json"]) == 0
    (summary,) = map(json.loads, capfd.readouterr().out.splitlines())  # of the descriptor itself
    assert summary["event"] == "summary" and summary["notices"] == ["nothing is left to be tried again for low_fps"]
    assert main(["retry", str(pyramid), "--reason", "ugly"]) == 2
    assert "no reason 'ugly'" in capfd.readouterr().err
