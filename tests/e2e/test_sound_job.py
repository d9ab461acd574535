"""Sound through a whole run, as a user asks for it: measured, cut and exported, in sync with the pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.support import flashes, jobs, without_ray

SILENT = jobs.WITHOUT_TEXT + '[shots]\ndetector = "none"\n'
KEEPS = SILENT.replace("crf = 30", 'crf = 12\nsound = "aac"')


def test_clips_keep_their_sound_up_to_the_exported_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    flashes.write(videos / "film.mp4", layout="stereo", seconds=6)
    pyramid = str(tmp_path / "p")
    to = ("--to", pyramid, "--cpus", jobs.CPUS, "--json")
    done = without_ray.run("curate", str(videos), *to, "--recipe", jobs.recipe(tmp_path, KEEPS))
    assert (done.code, done.summary["cut"]) == (0, 1), done.error
    before = Pyramid.open(pyramid).query().columns("clip_id", "media").to_table().to_pylist()
    assert main(["query", pyramid, "-o", str(tmp_path / "out")]) == 0
    (file,) = (tmp_path / "out").glob("*.mp4")
    heard = flashes.heard(file.read_bytes())
    assert heard is not None and heard.channels == 2 and heard.comment == ""
    assert heard.apart_s == dict.fromkeys(range(6), 0.0)
    capsys.readouterr()
    # Another answer to the question of sound is no other plan: what is cut stays as it is.
    again = without_ray.run("curate", str(videos), *to, "--recipe", jobs.recipe(tmp_path, SILENT), "--replace-recipe")
    assert (again.code, again.summary["cut"]) == (0, 0), again.error
    assert Pyramid.open(pyramid).query().columns("clip_id", "media").to_table().to_pylist() == before
