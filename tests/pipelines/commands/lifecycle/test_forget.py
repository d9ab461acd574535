"""`ziggurat forget` as a person uses it: shown, agreed to, carried out, and what is wrong is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.pyramid.commits.commit import Committer
from curation.pyramid.storage.datasets import BESIDE
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import forget as taking_down
from curation.pyramid.takedown import tombstones
from pipelines.cli import main
from pipelines.commands.lifecycle import app as lifecycle
from pipelines.execution.records.notices import of_takedown
from tests.curation.pyramid.build import TIERS, whole_video

IDS = ("a" * 32, "b" * 32, "c" * 32)


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    made = Pyramid.create(tmp_path / "p", TIERS, "test")
    for video_id in IDS:
        Committer(made).commit(whole_video(made, video_id, 2))
    return made


def left(pyramid: Pyramid) -> list[str]:
    return sorted(pyramid.dataset("videos").to_table(columns=["video_id"])["video_id"].to_pylist())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["forget", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("ziggurat: ") and len(said.err.splitlines()) == 1
    return said.err


def test_a_dry_run_shows_what_would_go(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid.pin("training-1")
    assert main(["forget", pyramid.uri, f"{IDS[0]}.mp4", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert (
        f"{IDS[0]}: 2 clips, frames of 2, files of 2" in said and f"/in/{IDS[0]}.mp4" in said and "training-1" in said
    )
    assert main(["forget", pyramid.uri, IDS[0], "--dry-run", "--json"]) == 0
    video, total = map(json.loads, capsys.readouterr().out.splitlines())
    assert (video["kind"], video["video_id"], video["clips"], video["media_bytes"]) == ("video", IDS[0], 2, 6400)
    assert total == {
        "kind": "takedown",
        "videos": 1,
        "already": [],
        "unfinished": 0,
        "pins": ["training-1"],
        "manifests": [],
    }
    assert left(pyramid) == sorted(IDS) and not Path(pyramid.uri, tombstones.FOLDER).exists()


def test_carried_out(pyramid: Pyramid, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text(f"{IDS[1]}\n\n  /in/{IDS[2]}.mp4\n")
    assert main(["forget", pyramid.uri, "--list", str(tmp_path / "list.txt"), "--yes", "--json"]) == 0
    (done,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (done["kind"], done["left"], done["pins"]) == ("forgotten", [], [])
    assert done["rows"] == dict.fromkeys(BESIDE, 0) | {"samples": 4, "media": 4, "clips": 4, "videos": 2}
    assert left(pyramid) == [IDS[0]]
    assert main(["forget", pyramid.uri, IDS[1], "--yes"]) == 0  # again, by an id
    said = capsys.readouterr()
    assert "taken down already: 1" in said.out and "exported" in said.err
    assert main(["why", pyramid.uri, IDS[1]]) == 2
    assert f"{IDS[1]} was taken down" in capsys.readouterr().err
    assert main(["why", pyramid.uri, "d" * 32]) == 2
    assert "nothing is known" in capsys.readouterr().err


def test_it_asks(pyramid: Pyramid, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "add --yes" in refused(capsys, pyramid.uri, IDS[0], "--json")
    assert "add --yes" in refused(capsys, pyramid.uri, IDS[0])  # nobody is at a terminal
    monkeypatch.setattr(lifecycle.sys.stdin, "isatty", lambda: True, raising=False)
    for answer, code in ((False, 2), (True, 0)):
        assert left(pyramid) == sorted(IDS)
        monkeypatch.setattr(lifecycle.typer, "confirm", lambda *_, answer=answer, **__: answer)
        assert main(["forget", pyramid.uri, IDS[0]]) == code
    assert left(pyramid) == sorted(IDS[1:])


def test_what_is_wrong_is_one_line_and_nothing_is_changed(
    pyramid: Pyramid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("\n".join([IDS[0], *(f"{number}.mp4" for number in range(7))]))
    lines = {
        ("nowhere.mp4",): "no video is called 'nowhere.mp4'",
        ("--list", str(tmp_path / "list.txt")): "'3.mp4', '4.mp4' and 2 more",
        ("--list", str(tmp_path / "none.txt")): "none.txt cannot be read",
        (): "no video is named",
        ("d" * 32,): "--ahead",
        ("d" * 31, "--ahead"): "no video is called",
    }
    for arguments, message in lines.items():
        assert message in refused(capsys, pyramid.uri, *arguments, "--yes")
    assert "does not exist" in refused(capsys, str(tmp_path / "other"), IDS[0], "--yes")
    assert left(pyramid) == sorted(IDS) and not Path(pyramid.uri, tombstones.FOLDER).exists()


def test_what_cannot_go_is_told_and_is_no_success(
    pyramid: Pyramid, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(taking_down, "_at_work", lambda _: ["the run r1 is at work"])
        assert main(["forget", pyramid.uri, IDS[0], "--yes"]) == 1
        assert "left: the run r1 is at work" in capsys.readouterr().err
    assert "has not ended" in of_takedown(pyramid)[0]
    assert main(["forget", pyramid.uri, "--yes"]) == 0  # without a name: what is not done
    assert of_takedown(pyramid) == [] and left(pyramid) == sorted(IDS[1:])
