"""`ziggurat query`: what reaches a screen, standard output and a file, and what is said of what does not."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.contract import CLIPS, SCORES, VIDEOS
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers
from pipelines.cli import main
from tests.curation.pyramid.build import JPEG, TIERS, table, whole_image, whole_video
from tests.curation.shards.build import filled

ROWS = 125
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> str:
    """125 clips of 2 videos with own columns; 5 have no sharpness, none has an aesthetic score."""
    tiers = Tiers((Tier("all"), Tier("fine", {"aesthetic": Range(4.5)})))
    made = Pyramid.create(tmp_path_factory.mktemp("querying") / "p", tiers, "test")
    clips = [
        {
            "clip_id": f"{index:032x}",
            "video_id": f"v{index % 2}",
            "shot": index,
            "motion": float(index * 7 % ROWS),
            "sharpness": None if index % 25 == 3 else 1.0,
            "aesthetic_why": "weights missing" if index < 100 else "filter off",
        }
        for index in range(ROWS)
    ]
    videos = [
        {"video_id": f"v{i}", "uris": [f"/in/{name}.mp4"], "modified": [0.0], "extra": json.dumps(own)}
        for i, (name, own) in enumerate(
            {
                "day": {"label": "cat", "seen-at": 3, "self": "x", "grade": " 4.5", "sure": True},
                "night": {"label": "dog", "grade": "n/a"},
            }.items()
        )
    ]
    made.dataset("clips").insert(table(clips, CLIPS, *CLIPS.names))
    made.dataset("videos").insert(table(videos, VIDEOS, *VIDEOS.names))
    return made.uri


def ask(capsys: Captured, *arguments: object) -> tuple[list[str], list[str]]:
    """Lines of standard output and standard error."""
    assert main(["query", *map(str, arguments)]) == 0
    said = capsys.readouterr()
    return said.out.splitlines(), said.err.splitlines()


def rows_of(place: Path) -> list[dict[str, Any]]:
    if place.suffix == ".parquet":
        return pq.read_table(place).to_pylist()
    if place.suffix == ".csv":
        return list(csv.DictReader(place.open(newline="")))
    return [json.loads(line) for line in place.read_text().splitlines()]


def test_a_list_may_call_its_columns_what_it_likes(pyramid: str, capsys: Captured) -> None:
    assert ask(capsys, pyramid, "--self", "x", "--count") == (["63"], [])


@pytest.mark.parametrize("order", [(), ("--order", "-motion"), ("--order", "motion")])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_file_has_every_row(pyramid: str, tmp_path: Path, capsys: Captured, kind: str, order: Sequence[str]) -> None:
    place = tmp_path / f"all.{kind}"
    assert ask(capsys, pyramid, *order, "-o", place) == ([f"{place}: {ROWS} clips"], [])
    motion = [float(row["motion"]) for row in rows_of(place)]
    assert sorted(motion) == [float(n) for n in range(ROWS)]
    assert not order or motion == sorted(motion, reverse=order[1].startswith("-"))


def test_json_has_every_row_and_a_screen_says_how_many_there_are(pyramid: str, capsys: Captured) -> None:
    for order in ((), ("--order", "-motion")):
        assert len(ask(capsys, pyramid, *order, "--json")[0]) == ROWS
        shown, said = ask(capsys, pyramid, *order)
        assert len(shown) == 101, "a header and 100 rows"
        assert said == ["100 of 125 clips shown; more with --limit, all with --output"]


@pytest.mark.parametrize("limit", [0, 1, 110])
def test_a_limit_that_is_given_holds_everywhere_and_says_so(
    pyramid: str, tmp_path: Path, capsys: Captured, limit: int
) -> None:
    note = [f"note: --limit {limit}: {limit} of 125 clips"]
    for order in ((), ("--order", "-motion")):
        shown, said = ask(capsys, pyramid, *order, "--limit", limit)
        assert (len(shown), said) == (limit + 1 if limit else 0, note)
        shown, said = ask(capsys, pyramid, *order, "--limit", limit, "--json")
        assert (len(shown), said) == (limit, note)
        assert ask(capsys, pyramid, *order, "--limit", limit, "-o", tmp_path / "x.csv")[1] == note
        assert len(rows_of(tmp_path / "x.csv")) == limit
    assert ask(capsys, pyramid, "--limit", limit, "--count") == ([str(limit)], note)


def test_clips_without_a_value_in_the_order_are_counted(pyramid: str, tmp_path: Path, capsys: Captured) -> None:
    shown, said = ask(capsys, pyramid, "--order", "sharpness", "-o", tmp_path / "x.csv")
    assert shown == [f"{tmp_path}/x.csv: 120 clips"]
    assert said == ["note: 5 clips without sharpness have no place in the order and are left out"]


@pytest.mark.parametrize("asked", [("--aesthetic", "4.5.."), ("--order", "-aesthetic"), ("--tier", "fine")])
@pytest.mark.parametrize("way", [(), ("--json",), ("-o", "x.csv")])
def test_a_score_that_no_clip_has_is_said_with_its_reasons(
    pyramid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, asked: Any, way: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    shown, said = ask(capsys, pyramid, *asked, *way)
    assert shown == (["x.csv: 0 clips"] if "-o" in way else [])
    told = "weights missing: 100, filter off: 25 clips"
    assert said == [f"note: no clip of this pyramid has the score aesthetic ({told})"]


def test_a_score_that_some_clip_has_is_not_said_to_be_missing(pyramid: str, capsys: Captured) -> None:
    assert ask(capsys, pyramid, "--motion", "500..") == ([], ["no clip is found"])
    assert "aesthetic" in SCORES


def test_where_a_clip_comes_from_is_a_column_and_a_condition(pyramid: str, tmp_path: Path, capsys: Captured) -> None:
    shown, _ = ask(capsys, pyramid, "--source", "night.mp4", "--json", "--limit", "1")
    (row,) = map(json.loads, shown)
    assert (row["uri"], row["source"], row["label"]) == ("/in/night.mp4", "night.mp4", "dog")
    for wanted in (("--label", "dog"), ("--extra.label=dog",), ("--uri", "/in/night.mp4")):
        assert ask(capsys, pyramid, *wanted, "--count")[0] == ["62"]
    slow = sum(index * 7 % ROWS <= 9 for index in range(0, ROWS, 2))
    assert ask(capsys, pyramid, "--seen-at", "2..", "--motion", "..9", "--count")[0] == [str(slow)]
    ask(capsys, pyramid, "--columns", "clip_id,extra.label,source,seen-at", "-o", tmp_path / "x.csv")
    rows = rows_of(tmp_path / "x.csv")
    assert list(rows[0]) == ["clip_id", "extra.label", "source", "seen-at"]
    assert {(row["extra.label"], row["source"], row["seen-at"]) for row in rows} == {
        ("cat", "day.mp4", "3"),
        ("dog", "night.mp4", ""),
    }


@pytest.mark.parametrize(
    ("grade", "clips"), [("4..", 63), ("..4.5", 63), ("4.6..", 0), ("n/a", 62), (" 4.5", 63), ("4.5", 0)]
)
def test_a_range_over_a_column_of_texts_takes_those_that_are_numbers(
    pyramid: str, capsys: Captured, grade: str, clips: int
) -> None:
    assert ask(capsys, pyramid, "--grade", grade, "--count")[0] == [str(clips)]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--label", "4.."), "no value of label is a number, so none is in a range; give a text of the column"),
        (("--grade", "9..1"), "--grade: range 9.0..1.0: low must not be above high"),
        (("--sure", "1.."), "--sure '1..' is no truth value; write true, false or null"),
        (("--motoin", "1.."), "no option --motoin and no column 'motoin'; did you mean motion? there are "),
        (("--laabel", "cat"), "did you mean label? there are "),
    ],
)
def test_what_finds_nothing_by_a_mistake_says_which(pyramid: str, capsys: Captured, asked: Any, told: str) -> None:
    assert main(["query", pyramid, *asked]) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.splitlines()) == 1
    if "There are" in told:
        listed = said.rstrip().partition("there are ")[2].split(", ")
        assert {"uri", "source", "label", "seen-at", "motion"} <= {*listed} and len(listed) == len({*listed})


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_own_columns_come_out_of_every_file(pyramid: str, tmp_path: Path, capsys: Captured, kind: str) -> None:
    ask(capsys, pyramid, "-o", tmp_path / f"x.{kind}")
    rows = rows_of(tmp_path / f"x.{kind}")
    assert [row["label"] for row in rows[:2]] == ["cat", "dog"]
    assert {*CLIPS.names, "uri", "source", "seen-at"} - set(rows[0]) == {"laplacian"}


def test_the_kinds_of_files_are_told_apart_by_their_names(pyramid: str, tmp_path: Path, capsys: Captured) -> None:
    ask(capsys, pyramid, "-o", f"{tmp_path}/a.v2/", "--limit", "0")
    assert (tmp_path / "a.v2" / "metadata.jsonl").read_text() == ""
    assert ask(capsys, pyramid, "-o", tmp_path / "B.CSV")[0] == [f"{tmp_path}/B.CSV: 125 clips"]
    assert pa.types.is_string(CLIPS.field("caption").type)


def test_own_scores_are_shown_where_they_are_asked_for_and_columns_are_told_once(
    tmp_path: Path, capsys: Captured
) -> None:
    made = Pyramid.create(tmp_path / "p", Tiers((Tier("all"),)), "test", scores=("logo", "other"))
    rows = [{"clip_id": "c", "video_id": "v", "logo": 0.5, "logo_by": "logo-1"}]
    Committer(made).commit(Batch(clips=table(rows, made.schema("clips"))))
    assert main(["query", made.uri, "--logo", "0..1"]) == 0
    head = capsys.readouterr().out.splitlines()[0].split()
    assert head[-2:] == ["logo", "tier"] and "other" not in head
    assert main(["query", made.uri, "--log", "0..1"]) == 2
    there = capsys.readouterr().err.partition("there are ")[2].strip().split(", ")
    assert len(there) == len(set(there)) and {"logo", "other_why", "pixels"} <= {*there}


@pytest.mark.parametrize("name", ["\x1b[31mred.mp4", "new\nline.mp4", "\u202egpm.mp4", "half\udcff.mp4"])
def test_no_name_steers_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    made = Pyramid.create(tmp_path / "p", Tiers((Tier("all"),)), "test")
    place, shown = made.uri, name.encode("utf-8", "replace").decode()
    batch = whole_image(made, "cafe1111")
    assert batch.videos is not None
    uris = pa.array([[f"/in/{shown}"]], batch.videos.schema.field("uris").type)
    named = batch.videos.set_column(batch.videos.schema.get_field_index("uris"), "uris", uris)
    Committer(made).commit(replace(batch, videos=named))
    for command in (
        ("why", place, f"/in/{shown}"),
        ("query", place, "--columns", "source,uri"),
        ("query", place, "--videos", "--columns", "uris"),
        ("why", place, f"no such {shown}"),
        ("forget", place, "cafe1111", "--dry-run"),
        ("forget", place, "cafe1111", "--yes"),
        ("query", f"{place}/{name.replace(chr(10), chr(11))}"),
    ):
        main(list(command))
        said = capsys.readouterr()
        lines = (said.out + said.err).splitlines()
        assert lines and all(line.isprintable() for line in lines), command
        assert any("mp4" in line for line in lines), command


def test_images_are_found_shown_and_told(tmp_path: Path, capsys: Captured) -> None:
    made = Pyramid.create(tmp_path / "p", TIERS, "test")
    Committer(made).commit(whole_image(made, "cafe1111"))
    Committer(made).commit(whole_video(made, "beef1111", 3))
    place = str(tmp_path / "p")
    (head, row), said = ask(capsys, place, "--kind", "image", "--motion", "5..", "--duration_s", "..1")
    assert not said and dict(zip(head.split(), row.split(), strict=True))["duration_s"] == "-"
    assert ask(capsys, place, "--kind=video", "--count")[0] == ["3"]
    assert ask(capsys, place, "--motion", "2..", "--count") == (
        ["2"],
        ["note: 1 of the clips are images, which a range over motion, jitter, fps or length does not drop"],
    )
    assert ask(capsys, place, "--motion", "2..", "--kind", "video", "--count") == (["1"], [])
    assert not ask(capsys, place, "--sharpness", "2..", "--count")[1]
    lines, _ = ask(capsys, place, "--json")
    kinds = [json.loads(line)["kind"] for line in lines]
    assert sorted(kinds) == ["image", "video", "video", "video"]
    notes = ask(capsys, place, "--order", "motion", "--limit", "9")[1]
    assert notes == ["note: 1 clips without motion have no place in the order and are left out"]
    assert main(["query", place, "--kind", "picture"]) == 2
    assert capsys.readouterr().err == "ziggurat: kind='picture' is no kind of clip; there are video, image\n"
    assert ask(capsys, place, "-o", tmp_path / "out", "--kind", "image")[0] == [f"{tmp_path}/out: 1 clips, 0.0 MB"]
    (name,) = made.where(kind="image").ids()
    assert (tmp_path / "out" / f"{name}.jpg").read_bytes() == JPEG
    assert main(["why", place, "cafe1111"]) == 0
    told = capsys.readouterr().out
    assert f"image {name}  801x601\n" in told and "motion" in told and "(image)" in told
    assert "frames" not in told


def test_a_query_that_is_given_up_ends_in_one_line(pyramid: str) -> None:
    """What still runs in native code must not abort the process as it ends."""
    late = (
        "import time; from curation.pyramid.queries.query import Query; from pipelines import cli\n"
        "count = Query._count; Query._count = lambda query: (time.sleep(0.5), count(query))[1]; cli.run()"
    )
    command = [sys.executable, "-c", late, "query", pyramid, "--count", "--timeout", "0.01"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("ziggurat: the query took longer than")
    assert main(["query", pyramid, "--count", "--timeout", "-1"]) == 2


def test_the_captions_of_a_maker_and_the_makers_that_there_are(tmp_path: Path, capsys: Captured) -> None:
    made = Pyramid.create(tmp_path / "p", TIERS, "test")
    name, other = filled(made, "v1", 2, caption="of the list")
    update = {"clip_id": name, "caption": "of the model", "caption_by": "dense/m/0"}
    Committer(made).commit(Batch(clip_updates=[table([update], CLIPS)]))
    wanted = {name: ("of the list", "given"), other: ("of the list", "given")}
    out, _ = ask(capsys, made.uri, "--caption-by", "given", "--json")
    assert {row["clip_id"]: (row["caption"], row["caption_by"]) for row in map(json.loads, out)} == wanted
    ask(capsys, made.uri, "--caption-by", "dense/m, given", "--output", tmp_path / "clips")
    rows = map(json.loads, (tmp_path / "clips" / "metadata.jsonl").read_text().splitlines())
    wanted[name] = ("of the model", "dense/m/0")
    assert {row["clip_id"]: (row["caption"], row["caption_by"]) for row in rows} == wanted
    out, _ = ask(capsys, made.uri, "--caption-by", "dense")
    assert "caption_by" in out[0] and " dense/m/0" in "".join(out), "a screen shows what was asked for"
    out, _ = ask(capsys, made.uri, "--caption_by", "given", "--count")
    assert out == ["1"], "with an underscore it is a condition on the caption in force"
    assert main(["query", made.uri, "--caption-by", "dens"]) == 2
    assert capsys.readouterr().err == "ziggurat: no clip has a caption by 'dens'; there are dense/m/0, given\n"
    assert main(["query", made.uri, "--videos", "--caption-by", "given"]) == 2
