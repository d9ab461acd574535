"""The command line: every mistake of a person is one line with a remedy and exit code 2, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from curation.pyramid.commits.commit import Committer
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers
from pipelines.cli import main
from pipelines.commands.pyramid.conditions import conditions
from pipelines.config.recipe import load
from tests.curation.pyramid.build import whole_video
from tests.support import jobs, media


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test")
    return tmp_path / "p"


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("ziggurat: ")
    assert "\n" not in said
    assert "Traceback" not in said
    return said


def test_an_option_that_is_not_there_leads_to_the_help_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["sheet", "p", "--colour"], ["sheet", "p", "--clips", "many"], ["sheet"], ["sheet", "p", "--to"]):
        assert fails(capsys, *arguments).endswith("; see `ziggurat sheet --help`")
    assert fails(capsys, "sample", "fox", "--frames").endswith("; see `ziggurat sample --help`")
    assert "see `ziggurat --help`" in fails(capsys, "sheets")


def test_help_and_version_by_their_usual_names(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["-h"], ["sheet", "-h"]):
        assert main(arguments) == 0
        assert "Usage: ziggurat" in capsys.readouterr().out
    assert main([]) == 2  # asked for nothing
    printed = capsys.readouterr()
    assert "Usage: ziggurat" in printed.out and not printed.err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ziggurat {metadata.version('ziggurat')}\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("query", "p", "--count", "--output", "a.jsonl"), "--output has no effect beside --count"),
        (("query", "p", "--videos", "--count", "--output", "a.jsonl"), "--output has no effect beside --count"),
        (("tiers", "p", "--move", "low"), "no threshold of low is given"),
        (("cost", "--frames", "5", "--dit-seconds", "3"), "--dit-seconds has no effect without --step-seconds"),
    ],
)
def test_what_would_be_ignored_is_refused(
    pyramid: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    assert why in fails(capsys, *(str(pyramid) if one == "p" else one for one in arguments))


def test_an_empty_table_says_that_it_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid = Pyramid.create(tmp_path / "p", Tiers(()), "test")
    assert main(["query", pyramid.uri, "--videos"]) == 0
    assert capsys.readouterr().err == "no video is found\n"
    assert main(["tiers", pyramid.uri]) == 0
    assert "no tiers; add [[tiers]]" in capsys.readouterr().err
    assert "add [[tiers]]" in fails(capsys, "cut", pyramid.uri, "--tier", "low")


def test_mistakes_about_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = ("--to", str(tmp_path / "p"))
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(capsys, "curate", str(tmp_path / "empty"), *to)
    assert "nowhere" in fails(capsys, "curate", str(tmp_path / "nowhere"), *to)
    assert "http" in fails(capsys, "curate", "http://example.com/a.mp4", *to)
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    assert "list.csv" in fails(capsys, "curate", str(tmp_path / "list.csv"), *to)
    assert not (tmp_path / "p").exists(), "a pyramid was made for nothing"


def test_mistakes_about_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = str(media.sample("plain.mp4"))
    (tmp_path / "file").write_text("")
    assert "file" in fails(capsys, "curate", video, "--to", str(tmp_path / "file" / "p"))
    Pyramid.create(tmp_path / "new", Tiers(()), "x")
    about = json.loads((tmp_path / "new" / "pyramid.json").read_text())
    version = next(key for key in about if isinstance(about[key], int))
    (tmp_path / "new" / "pyramid.json").write_text(json.dumps({**about, version: 99}))
    for command in (("curate", video, "--to"), ("tiers",), ("query",)):
        said = fails(capsys, *command, str(tmp_path / "new"))
        assert "newer" in said


def test_mistakes_about_a_pyramid(pyramid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in fails(capsys, "query", str(tmp_path / "none"))
    assert "not a pyramid" in fails(capsys, "tiers", str(tmp_path))
    assert "gold" in fails(capsys, "query", str(pyramid), "--tier", "gold")
    small = Pyramid.create(tmp_path / "small", load("small").pyramid_tiers, "small")
    assert "gold" in fails(capsys, "cut", small.uri, "--tier", "gold")
    assert "low must not be above high" in fails(capsys, "tiers", str(pyramid), "--move", "256px", "--motion", "3..1")
    assert "nothing is known" in fails(capsys, "why", str(pyramid), "unheard-of.mp4")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--motoin", "1.."),
        ("--motion", "fast"),
        ("--motion", "8..1"),
        ("--motion",),
        ("--motion", "1..", "--motion", "2.."),
        ("--motion", "1.. OR 1=1"),
        ("--columns", "motion,speed"),
        ("--order", "speed"),
        ("--limit", "-3"),
        ("--version", "999"),
        ("--output", "clips.xlsx"),
        ("--output", "http://host/clips.csv"),
        ("--output", "nowhere/clips.csv"),
        ("--output", "s3://bucket/clips.csv?secret_key=1"),
        ("--output", "clips.csv", "--names", "{clip_id}"),
        ("--output", "clips", "--names", "{title}"),
        ("--names", "{clip_id}"),
        ("--source",),
        ("--extra.label", "cat"),
        ("--columns", "clip_id,label"),
        ("stray",),
    ],
)
def test_mistakes_in_a_query(pyramid: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    fails(capsys, "query", str(pyramid), *arguments)


def test_a_wrong_recipe_and_missing_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, to = str(media.sample("plain.mp4")), ("--to", str(tmp_path / "p"))
    assert "small" in fails(capsys, "curate", video, *to, "--recipe", "nosuch")
    said = fails(capsys, "curate", video, *to, "--recipe", "opensora2")
    assert "missing" in said
    assert "skip" in said
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("command", [("query", "--json"), ("query", "--videos", "--json"), ("tiers",), ("runs",)])
def test_a_full_standard_output_is_one_line(pyramid: Path, command: tuple[str, ...]) -> None:
    made = Pyramid.open(pyramid)
    Committer(made).commit(whole_video(made, "v1", 300))
    arguments = [sys.executable, "-m", "pipelines.cli", command[0], str(pyramid), *command[1:]]
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, cwd=jobs.ROOT)
    assert done.returncode == 2
    assert "no space left" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [("query", "--json"), ("query", "--videos", "--json"), ("tiers",), ("runs",)])
def test_a_reader_that_has_gone_is_no_loss(pyramid: Path, command: tuple[str, ...]) -> None:
    """As `query | head`: code 1 would mean that something was lost."""
    made = Pyramid.open(pyramid)
    Committer(made).commit(whole_video(made, "v1", 300))
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "pipelines.cli", command[0], str(pyramid), *command[1:]]
    try:
        done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=jobs.ROOT)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_errors_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", str(tmp_path / "none"), "--json"]) == 2
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], bool(event["remedy"])) == ("error", True)


def test_conditions_are_typed_values() -> None:
    assert conditions(["--motion", "1..8", "--width", "1280..", "--jitter", "..3", "--frames", "48"]) == {
        "motion": (1.0, 8.0),
        "width": (1280.0, None),
        "jitter": (None, 3.0),
        "frames": 48.0,
    }
    assert conditions(["--tier=a", "--media", "null"]) == {"tier": "a", "media": None}
    assert conditions(["--motion", "null", "--fps", "null", "--duration-s", "null"]) == dict.fromkeys(
        ("motion", "fps", "duration_s")
    )


@pytest.mark.parametrize(
    ("written", "rate"), [("23.976", 24000 / 1001), ("29.97", 30000 / 1001), ("59.94", 60000 / 1001)]
)
def test_a_rate_is_what_people_write_for_it(written: str, rate: float) -> None:
    low, high = conditions(["--fps", written])["fps"]
    assert low <= rate <= high and not low <= round(rate) <= high
    assert conditions(["--fps", "24..30"]) == {"fps": (24.0, 30.0)}


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = "import sys, pipelines.cli; print([m for m in ('ray', 'lance', 'torch', 'cv2', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=jobs.ROOT, check=True)
    assert done.stdout.strip() == "[]"
