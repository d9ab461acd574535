"""`--server URL`: each command that a service answers prints what it prints of the pyramid itself, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer

from curation.pyramid.store import Pyramid
from pipelines import cli
from pipelines.commands.server import Answered
from tests.pipelines.commands.similar.made import ids
from training.data import bucket_table

Captured = pytest.CaptureFixture[str]
CLIP = ids()["red"]
MARK = "--json"
COMMANDS = (
    ("query",),
    ("query", MARK),
    ("query", "--motion", "3..", "--width=..1", "--aesthetic", "null"),
    ("query", "--tier", "moving", "--order", "-motion", "--limit", "4", MARK),
    ("query", "--aesthetic", "5..", "--order", "aesthetic"),
    ("query", "--limit", "0", "--columns", "clip_id,caption,uri"),
    ("query", "--source", "video2.mp4", "--caption-by", "given"),
    ("query", "--version", "1", "--kind", "video", "--motion", "1..", "--limit", "3"),
    ("query", "--count", "--limit", "3"),
    ("query", "--videos"),
    ("query", "--videos", "--reason", "timed_out", "--columns", "video_id,finished_at", MARK),
    ("query", "--videos", "--status", "rejected", "--count", MARK),
    ("why", CLIP),
    ("why", "lost.mp4", MARK),
    ("why", "image1"),
    ("why", "video2.mp4", MARK),
    ("runs",),
    ("runs", MARK),
    ("runs", "1run"),
    ("tiers",),
    ("tiers", MARK),
    ("stats", "--tier", "moving", "--motion", "..5"),
    ("stats", MARK),
    ("search", "red", "--space", "colours", "--tier", "moving"),
    ("search", "--like", CLIP[:8], "--motion", "..3", "--limit", "2", "--columns", "motion,similarity", MARK),
    ("manifests",),
)
MADE = {"freeze", "manifests"}
"""Tried in `test_a_manifest_is_frozen_and_shown`."""


@pytest.fixture(autouse=True, scope="module")
def commands() -> Iterator[dict[str, Any]]:
    """All commands by name. They are put together once, not for each that is typed."""
    group: Any = typer.main.get_command(cli.app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "app", group)
        yield group.commands


@pytest.fixture(autouse=True)
def with_token(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGGURAT_TOKEN", token)


def printed(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(list(arguments))
    out, error = capsys.readouterr()
    return code, out, error


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_prints_what_the_pyramid_itself_would(
    pyramid: Pyramid, address: str, capsys: Captured, command: tuple[str, ...]
) -> None:
    name, *more = command
    here = printed(capsys, name, pyramid.uri, *more)
    assert here[0] == 0 and here[1] + here[2], here
    assert printed(capsys, name, "--server", address, *more) == here


def test_every_command_that_a_service_answers_is_tried_in_both_faces(commands: dict[str, Any]) -> None:
    answered = {name for name, one in commands.items() if isinstance(one, Answered)}
    for is_json in (False, True):
        tried = {name for name, *more in COMMANDS if (MARK in more) == is_json}
        assert answered - MADE == tried - MADE


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("why", "nothing"), "nothing is known of 'nothing'"),
        (("query", "--motion", "fast"), "is not a range"),
        (("query", "--motion"), "has no value"),
        (("query", "--motion", "1..", "--motion", "2.."), "is given twice"),
        (("query", "--tier", "none"), "none"),
        (("query", "--version", "none"), "none"),
        (("query", "--columns", "nothing"), "nothing"),
        (("query", "--videos", "--tier", "all"), "do not go with --videos"),
        (("query", "--count", "--output", "a.jsonl"), "no effect beside --count"),
        (("query", "--output", "a.pdf"), "cannot write .pdf files"),
        (("runs", "none"), "no run 'none'"),
        (("tiers", "--motion", "1.."), "without a tier"),
        (("tiers", "--move", "all"), "no threshold of all"),
        (("tiers", "--move", "all", "--unset", "jitter"), "no range of its own for jitter"),
        (("tiers", "--move", "all", "--motion", "1..", "--unset", "motion"), "both moved and unset"),
        (("tiers", "--move", "all", "--motion", "null"), "by null"),
        (("search",), "one thing to search for"),
        (("search", "red", "--image", "none.png"), "one thing to search for"),
        (("search", "--image", "none.png"), "cannot read none.png"),
        (("manifests", "none"), "none"),
        (("freeze", "--name", "../out"), "name"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_the_same_mistakes_are_one_line(
    pyramid: Pyramid, address: str, capsys: Captured, command: tuple[str, ...], why: str
) -> None:
    name, *more = command
    for place in ((pyramid.uri,), ("--server", address)):
        code, out, error = printed(capsys, name, *place, *more)
        assert (code, out) == (2, "") and why in error and error.startswith("ziggurat: "), error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("query", "--timeout", "3"), "--timeout"),
        (("query", "--output", "folder"), "a folder of mp4 files"),
        (("query", "--after", "x"), "something else than a column"),
        (("search", "red", "--output", "folder"), "a folder of mp4 files"),
        (("search", "red", "--limit", "201"), "200"),
        (("manifests", "one", "--unpin"), "--unpin"),
        (("freeze", "--name", "one", "--preset", "table.toml"), "there are stage1"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_a_service_has_no_answer_for_is_one_line(
    address: str, capsys: Captured, command: tuple[str, ...], why: str
) -> None:
    name, *more = command
    code, out, error = printed(capsys, name, *more, "--server", address)
    assert (code, out) == (2, "") and why in error and len(error.splitlines()) == 1, error


def test_no_other_command_takes_a_server(commands: dict[str, Any], capsys: Captured) -> None:
    others = [name for name, one in commands.items() if not isinstance(one, Answered)]
    assert len(others) > 20
    for name in others:
        code, _, error = printed(capsys, name, "--server=http://127.0.0.1:9")
        assert code == 2 and f"no service answers `{name}`" in error and len(error.splitlines()) == 1, error


@pytest.mark.parametrize(
    "more", [("--server",), ("--server", "there"), ("--server=",), ("--server", "http://a", "--server", "http://b")]
)
def test_an_address_that_is_none_is_one_line(capsys: Captured, more: tuple[str, ...]) -> None:
    code, _, error = printed(capsys, "runs", *more)
    assert code == 2 and "--server" in error and len(error.splitlines()) == 1, error


def test_files_are_written_here(pyramid: Pyramid, address: str, capsys: Captured, tmp_path: Path) -> None:
    tables = ((".jsonl", "query"), (".csv", "query"), (".parquet", "query"), (".csv", "query", "--videos"))
    for suffix, name, *more in (*tables, (".jsonl", "search", "red", "--space", "colours")):
        here, there = tmp_path / f"here{suffix}", tmp_path / f"there{suffix}"
        assert printed(capsys, name, pyramid.uri, *more, "-o", str(here))[0] == 0
        assert printed(capsys, name, *more, "-o", str(there), f"--server={address}")[0] == 0
        if suffix == ".parquet":
            assert pq.read_table(here).equals(pq.read_table(there))
        else:
            assert here.read_bytes() == there.read_bytes()


def test_a_threshold_is_moved_for_everybody(pyramid: Pyramid, address: str, capsys: Captured) -> None:
    moves = (
        ("--motion", "..4", "--sharpness=20", "--kind=video"),
        ("--unset=sharpness", "--unset=kind", "--motion=3.."),
    )
    before = printed(capsys, "tiers", pyramid.uri)
    told: list[list[tuple[int, str, str]]] = []
    for place in ((pyramid.uri,), ("--server", address)):
        told.append([printed(capsys, "tiers", *place, "--move", "moving", *move) for move in moves])
    assert told[0] == told[1] and all(code == 0 for code, *_ in told[0]) and "moved from" in told[0][0][1]
    assert printed(capsys, "tiers", pyramid.uri) == before


def test_a_manifest_is_frozen_and_shown(
    pyramid: Pyramid, address: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "side_multiple = 32\n[buckets.128px]\n1 = { batch = 2 }\n"
    monkeypatch.setitem(bucket_table.PRESETS, "stage1", bucket_table.from_toml(table))
    conditions = ("--tier", "all", "--kind", "image", "--without-captions", "--seed", "7")
    made = printed(capsys, "freeze", "--server", address, "--name", "one", *conditions)
    assert made[0] == 0 and "one: 1 samples" in made[1], made
    for name in ((), ("one",)):
        for face in ((), (MARK,)):
            here = printed(capsys, "manifests", pyramid.uri, *name, *face)
            assert here[0] == 0 and printed(capsys, "manifests", "--server", address, *name, *face) == here
    again = printed(capsys, "freeze", pyramid.uri, "--name", "two", *conditions)
    passing = r"one|two|made \S+|sha256 \S+"
    assert re.sub(passing, "", again[1]) == re.sub(passing, "", made[1]) and again[0] == 0
