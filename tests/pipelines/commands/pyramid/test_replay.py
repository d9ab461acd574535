"""`ziggurat replay`: each stage alone, beside what is stored; nothing of it stays; what it cannot do is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.support import chat, jobs, media, without_ray

BLOCKS = """
[[captions]]
name = "dense"
tier = "all"
model = "tiny-vlm"
endpoint = "{url}"
key_env = "TEST_VLM_KEY"
[[captions]]
name = "apart"
tier = "all"
engine = "vllm"
model = "nobody/here"
python = "{python}"
[[embeddings]]
name = "picture"
kind = "picture"
"""
OCR = '[filters.ocr]\nenabled = true\nengine = "rapid"\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, and a pyramid whose recipe has blocks since; its only run had none."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "videos").mkdir()
    media.scenes(folder / "videos" / "a.mp4", (2.5, 3), sources=("testsrc2", "mandelbrot"), crf=28)
    media.make(folder / "videos" / "b.mp4", seconds=2.5, fps=25, source="gradients")
    without_ray.curate(folder / "videos", folder / "p", jobs.recipe(folder, jobs.RECIPE))
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[dict[str, Any], dict[Any, Any]]:
    """What a replay tells of itself, and its values: (stored, now) by (of, column)."""
    assert main(["replay", *arguments, "--json"]) == code
    head, *rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return head, {(row["of"], row["column"]): (row["stored"], row["now"]) for row in rows}


def first(place: Path) -> str:
    return str(Pyramid.open(place / "p").query().ids()[0])


def versions(place: Path) -> list[int]:
    pyramid = Pyramid.open(place / "p")
    return [pyramid.dataset(name).version for name in ("videos", "clips", "samples", "media")]


@pytest.mark.parametrize(
    ("stage", "name", "columns"),
    [
        (
            "measure",
            "a.mp4",
            {"status", "clips", "start_frame", "end_frame", "first_check", "motion", "sharpness", "jitter"},
        ),
        ("ocr", None, {"text_area"}),
        ("cut", None, {"media_why"}),
    ],
)
def test_the_same_stage_gives_the_same_values_and_writes_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], stage: str, name: str | None, columns: set[str]
) -> None:
    before = versions(place)
    head, values = said(capsys, str(place / "p"), name or first(place), "--stage", stage)
    assert columns <= {column for _, column in values}
    assert [key for key, (stored, now) in values.items() if stored != now] == []
    assert (head["stage"], head["fault"], head["recipe"]) == (stage, None, "test")
    assert versions(place) == before


def test_a_value_that_differs_is_shown_beside_the_stored_one(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import pyarrow as pa

    clip, pyramid = first(place), Pyramid.open(place / "p")
    table = pa.table(
        {"clip_id": [clip], "text_area": pa.array([0.75], pyramid.dataset("clips").schema.field("text_area").type)}
    )
    Committer(pyramid).commit(Batch(clip_updates=[table]))
    _, values = said(capsys, str(place / "p"), clip, "--stage", "ocr")
    stored, now = values[clip, "text_area"]
    assert (stored, now) == (0.75, pytest.approx(now)) and now < 0.75
    assert main(["replay", str(place / "p"), clip, "--stage", "ocr"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " text_area " in line]
    assert line.split()[2] == "0.75" and line.split()[-1] == "differs"


def test_captions_and_vectors_by_the_recipe_that_the_pyramid_has_now(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_VLM_KEY", chat.KEY)
    pyramid, clip = Pyramid.open(place / "p"), first(place)
    (run,) = (one.stem for one in (place / "p" / "runs").glob("*.json"))
    with chat.served() as endpoint:
        text = jobs.RECIPE + BLOCKS.format(url=endpoint.url, python=place)
        pyramid.with_recipe("test", text, pyramid.tiers)
        _, values = said(capsys, str(place / "p"), clip, "--stage", "caption dense")
        stored, now = values[clip, "caption"]
        assert stored is None and now
        _, values = said(capsys, str(place / "p"), clip, "--stage", "embed picture")
        assert values[clip, "picture"][1].endswith(" numbers")
        for arguments, told in (
            (("--stage", "caption apart"), "has an environment of its own"),
            (("--stage", "caption dense", "--run", run), "no stage 'caption dense'; it has measure, ocr, cut"),
            (("--stage", "smell"), "no stage 'smell'"),
            (("--stage", "cut", "--run", "ffff"), "no run 'ffff'"),
        ):
            assert main(["replay", str(place / "p"), clip, *arguments]) == 2
            error = capsys.readouterr().err
            assert told in error and len(error.splitlines()) == 1
    assert main(["replay", str(place / "p"), "a.mp4", "--stage", "cut"]) == 2
    assert "'a.mp4' means 2 clips, and this stage takes one" in capsys.readouterr().err


def test_a_video_that_is_gone_tells_its_reason_beside_what_it_was(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "videos" / "b.mp4").unlink()
    _, values = said(capsys, str(place / "p"), "b.mp4", "--stage", "measure")
    assert {key[1]: value for key, value in values.items()}["status"] == ("done", "quarantined")
    (place / "videos" / "b.mp4").write_bytes((place / "videos" / "a.mp4").read_bytes())
    assert main(["replay", str(place / "p"), "b.mp4", "--stage", "measure"]) == 2
    assert "leads to it any more" in capsys.readouterr().err
