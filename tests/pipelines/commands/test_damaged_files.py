"""Whatever stands in the place of a pyramid's small files: a command does its work or says in a line why not, and where
it says that it did nothing, nothing has changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.contract import Source
from curation.errors import UserError
from curation.pyramid.commits.commit import Committer
from curation.pyramid.history import names
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from curation.retry import of_the_user
from pipelines.cli import main
from pipelines.config.adoption import choose
from tests.curation.pyramid.build import whole_video

RECIPE = """
name = "mine"
[filters.aesthetic]
enabled = false
[[tiers]]
name = "low"
motion = [1.0, inf]
"""


@pytest.fixture
def pyramid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pyramid:
    (tmp_path / "mine.toml").write_text(RECIPE)
    made, _ = choose(str(tmp_path / "p"), str(tmp_path / "mine.toml")).adopt(str(tmp_path / "p"))
    Committer(made).commit(whole_video(made, "v1", 5))
    monkeypatch.setattr(names, "FEW", 0)
    Ledger(made, remember=True).settled([], "plan-1")
    return made


def bytes_of(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "gone": Path.unlink,
    "empty": bytes_of(b""),
    "no text": bytes_of(b"\xff\xfe\0"),
    "another file": bytes_of(b'{"format": 1e400, "files": [1], "tiers": 7}'),
    "a folder": folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["pyramid.json", "recipes/0001.toml"])
def test_a_command_works_or_says_why_not(
    pyramid: Pyramid, capsys: pytest.CaptureFixture[str], file: str, damage: str
) -> None:
    path, whole = Path(pyramid.uri, file), Path(pyramid.uri, file).read_bytes()
    before = pyramid.where(tier="low").count()
    DAMAGES[damage](path)
    for command in (("tiers",), ("query", "--count"), ("tiers", "--move", "low", "--motion", "2..")):
        code = main([command[0], pyramid.uri, *command[1:]])
        said = capsys.readouterr().err.strip()
        assert code in (0, 2) and "Traceback" not in said
        assert code == 0 or (said.startswith("ziggurat: ") and "\n" not in said)
    if file == "pyramid.json":
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(whole)
    moved = Pyramid.open(pyramid.uri).where(tier="low").count()
    assert (moved < before) == (code == 0)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["index.json", ".bin"])
def test_names_are_right_or_a_line(pyramid: Pyramid, file: str, damage: str) -> None:
    (path,) = [one for one in Path(pyramid.uri, names.FOLDER).iterdir() if one.name.endswith(file)]
    DAMAGES[damage](path)
    asked = Source("/in/v1.mp4", 1000, 1.0)
    try:
        found, error = Ledger(pyramid, remember=True).settled([asked], "plan-1"), None
    except (UserError, IsADirectoryError) as raised:
        found, error = set(), of_the_user(raised)
    if damage == "a folder":
        assert error is not None and f"{path}" in str(error)
    else:
        assert error is None and found == {asked}


def test_a_file_in_the_place_of_a_folder_is_a_line(pyramid: Pyramid) -> None:
    shutil.rmtree(Path(pyramid.uri, names.FOLDER))
    Path(pyramid.uri, names.FOLDER).write_bytes(b"")
    with pytest.raises(UserError, match="a file lies where a folder belongs"):
        Ledger(pyramid, remember=True).settled([], "plan-1")


@pytest.mark.parametrize("dataset", ["media", "samples", "clips", "videos"])
def test_a_data_file_that_is_gone_is_a_line(
    pyramid: Pyramid, tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str
) -> None:
    for path in Path(pyramid.uri, f"{dataset}.lance", "data").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    capsys.readouterr()
    commands = (("query", "-o", str(tmp_path / "out")), ("upkeep",), ("tiers",), ("query", "--json"))
    codes = [main([command[0], pyramid.uri, *command[1:]]) for command in commands]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ziggurat: ")]
    assert set(codes) <= {0, 2} and len(errors) == codes.count(2) >= 1
    assert all(f"{dataset}.lance/data/" in line for line in errors)
