"""`ziggurat search`: by words, a clip or a picture, with ranges and exports; what is lacking is told, in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.contract import CLIP_SPACE
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.similar import index
from curation.pyramid.storage.fragments import write_media_fragments
from curation.pyramid.store import Pyramid
from pipelines.commands.similar import search
from pipelines.config.recipe import parsed
from pipelines.embedding.blocks import listed
from tests.curation.pyramid import build
from tests.curation.pyramid.similar.build import table
from tests.pipelines.commands.similar import made
from tests.pipelines.commands.similar.made import COLOURS, SHADES, Typed, ids, named

SEEN = [shade for shade in SHADES if shade != "unseen"]


def filled(folder: Path, blocks: str = COLOURS) -> Pyramid:
    """The pyramid with a vector of each clip that has frames: its very colour."""
    pyramid = made.pyramid(folder, blocks)
    (block,) = listed(parsed(made.HEAD + blocks, "test"))
    vectors = np.array([SHADES[shade] for shade in SEEN], np.float32)
    rows = table([ids()[shade] for shade in SEEN], vectors, block.space, block.by)
    Committer(pyramid).commit(Batch(embeddings=[rows]))
    return pyramid


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    return filled(tmp_path_factory.mktemp("search"))


def shades(found: list[dict[str, Any]]) -> list[str]:
    return [named()[row["clip_id"]] for row in found]


def test_words_find_what_they_name(pyramid: Pyramid, ziggurat: Typed) -> None:
    found = ziggurat("search", pyramid.uri, "red", "--space", "colours")
    assert shades(found)[:2] == ["red", "purple"] and len(found) == len(SEEN)
    assert found[0]["similarity"] == pytest.approx(240 / np.linalg.norm([10, 30, 240]), abs=1e-3)
    alike = [row["similarity"] for row in found]
    assert alike == sorted(alike, reverse=True)
    assert "1 of 7 clips have no vector in colours" in ziggurat.error
    assert "space colours, all vectors compared" in ziggurat.error


def test_a_clip_finds_those_like_it_and_not_itself(pyramid: Pyramid, ziggurat: Typed) -> None:
    found = ziggurat("search", pyramid.uri, "--like", ids()["dark blue"], "--limit", 2)
    assert shades(found) == ["blue", "purple"]
    assert shades(ziggurat("search", pyramid.uri, "--like", ids()["dark blue"][:8], "--limit", 2)) == ["blue", "purple"]


def test_a_picture_finds_those_like_it(pyramid: Pyramid, ziggurat: Typed, tmp_path: Path) -> None:
    picture = tmp_path / "teal.jpg"
    picture.write_bytes(made.frame((100, 140, 8), (900, 1200)))
    found = ziggurat("search", pyramid.uri, "--image", picture, "--space", "colours", "--limit", 1)
    assert shades(found) == ["teal"] and found[0]["similarity"] > 0.999


@pytest.mark.parametrize("content", [b"", b"no picture at all", made.frame((1, 2, 3))[:60]])
def test_a_picture_that_is_none_is_told(content: bytes, pyramid: Pyramid, ziggurat: Typed, tmp_path: Path) -> None:
    (tmp_path / "odd.jpg").write_bytes(content)
    ziggurat("search", pyramid.uri, "--image", tmp_path / "odd.jpg", "--space", "colours", code=2)
    assert "odd.jpg is no picture that can be read" in ziggurat.error


def test_a_strangers_picture_is_decoded_in_the_sandbox(
    pyramid: Pyramid, ziggurat: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    decode = search.Sandbox.pictures

    def pictures(self: Any, files: Any, name: str) -> Any:
        asked.extend(files)
        return decode(self, files, name)

    monkeypatch.setattr(search.Sandbox, "pictures", pictures)
    picture = tmp_path / "p.jpg"
    picture.write_bytes(made.frame((9, 9, 200)))
    ziggurat("search", pyramid.uri, "--image", picture, "--space", "colours")
    assert asked == [picture.read_bytes()]


def test_ranges_tiers_and_values_go_with_a_search(pyramid: Pyramid, ziggurat: Typed) -> None:
    of = ("search", pyramid.uri, "--like", ids()["purple"])
    assert shades(ziggurat(*of, "--tier", "moving")) == ["red", "teal"]
    assert shades(ziggurat(*of, "--motion", "..1")) == ["dark blue", "blue"]
    assert shades(ziggurat(*of, "--caption", "a meadow")) == ["green"]
    assert ziggurat(*of, "--motion", "100..") == [] and "no clip" not in ziggurat.error
    mixed = ziggurat("search", pyramid.uri, "--motion=..1", "--space", "colours", "blue")
    assert shades(mixed) == ["blue", "dark blue"] or shades(mixed) == ["dark blue", "blue"]


def test_results_go_into_files_with_their_similarity(pyramid: Pyramid, ziggurat: Typed, tmp_path: Path) -> None:
    of = ("search", pyramid.uri, "--like", ids()["red"], "--limit", 3)
    told = ziggurat(*of)
    for suffix in ("jsonl", "csv", "parquet"):
        assert ziggurat(*of, "-o", tmp_path / f"found.{suffix}")[0]["clips"] == 3
    assert [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()] == told
    rows = pq.read_table(tmp_path / "found.parquet")
    assert rows["similarity"].type == pa.float32() and shades(rows.to_pylist()) == shades(told)
    few = ziggurat(*of, "--columns", "motion,similarity")
    assert few == [{"motion": row["motion"], "similarity": row["similarity"]} for row in told]


def test_results_go_into_a_folder_of_clips(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = filled(tmp_path)
    cut = [ids()["purple"], ids()["blue"]]
    ticket = write_media_fragments(pyramid.uri, ((name, b"\0\0\0\x18ftyp") for name in cut), pyramid.storage_options)
    media = build.clips(*({"clip_id": name, "media": None} for name in cut))
    Committer(pyramid).commit(Batch(media=[ticket], clip_updates=[media]))
    (done,) = ziggurat("search", pyramid.uri, "--like", ids()["red"], "--limit", 2, "-o", f"{tmp_path / 'out'}/")
    assert done["clips"] == 1 and "1 of the clips are not cut" in ziggurat.error
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert named()[row["clip_id"]] == "purple" and 0 < row["similarity"] < 1
    assert (tmp_path / "out" / row["file_name"]).exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "a search needs one thing to search for; write words, --like CLIP, or --image FILE"),
        (("red", "--like", "x"), "a search needs one thing to search for"),
        (("  ",), "there are no words to search for"),
        (("red", "fox"), "'fox' is one word too many; put what you search for in quotes"),
        (("red", "--space", "smells"), "has no space 'smells'; it has clip, colours"),
        (("red", "--space", "text"), "has no space 'text'; it has clip, colours; `ziggurat embed"),
        (("red",), "that can be searched by words holds a vector; run `ziggurat embed"),
        (("ultraviolet", "--space", "colours"), "has no vector in colours (colours: no colour is called ultraviolet)"),
        (("red", "--space", "clip"), "the recipe's aesthetic filter does not run (filter off)"),
        (("--like", "ffff"), "no clip has an id that begins with 'ffff'"),
        (("--image", "/nowhere.jpg", "--space", "colours"), "cannot read /nowhere.jpg (No such file or directory)"),
        (("red", "--space", "colours", "--limit", "20000"), "limit 20000 is not a number of clips to search for"),
        (("red", "--space", "colours", "--tier", "none"), "name one of the pyramid's tiers"),
        (("red", "--space", "colours", "--speed", "1.."), "no option --speed and no column"),
        (("red", "--space", "colours", "-o", "out.docx"), "cannot write .docx files"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: tuple[str, ...], says: str, pyramid: Pyramid, ziggurat: Typed) -> None:
    ziggurat("search", pyramid.uri, *arguments, code=2)
    assert says in ziggurat.error and ziggurat.error.count("\n") == 1


def test_a_clip_without_a_vector_says_why(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = filled(tmp_path)
    ziggurat("search", pyramid.uri, "--like", ids()["unseen"], code=2)
    assert f"the clip {ids()['unseen']} has no vector in clip, colours; run `ziggurat embed" in ziggurat.error
    ziggurat("embed", pyramid.uri)
    ziggurat("search", pyramid.uri, "--like", ids()["unseen"], code=2)
    assert "has no vector in clip, colours (colours: no sample frames)" in ziggurat.error


def test_an_empty_space_and_one_by_another_maker_are_told(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path)
    ziggurat("search", pyramid.uri, "red", "--space", "colours", code=2)
    assert f"the space colours is empty; run `ziggurat embed {pyramid.uri} colours`" in ziggurat.error
    (block,) = listed(parsed(made.HEAD + COLOURS, "test"))
    Committer(pyramid).commit(Batch(embeddings=[table([ids()["red"]], np.ones((1, 3)), block.space, "another")]))
    ziggurat("search", pyramid.uri, "red", "--space", "colours", code=2)
    assert f"the vectors of colours are by another, and cannot be compared with what {block.by} makes" in ziggurat.error
    assert ziggurat("search", pyramid.uri, "--like", ids()["red"]) == []


def test_an_embedder_that_reads_no_text_is_told(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = filled(tmp_path, COLOURS.replace(":Colours", ":Blind"))
    ziggurat("search", pyramid.uri, "red", "--space", "colours", code=2)
    assert "the embedder colours reads no text; search with --like or --image" in ziggurat.error


def test_an_index_that_is_behind_is_told_and_misses_nothing(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = filled(tmp_path)
    index.make(pyramid.dataset("embeddings/colours"))
    (block,) = listed(parsed(made.HEAD + COLOURS, "test"))
    late = table([ids()["unseen"]], np.array([[10, 30, 240]]), block.space, block.by)
    Committer(pyramid).commit(Batch(embeddings=[late]))
    found = ziggurat("search", pyramid.uri, "red", "--space", "colours", "--limit", 2)
    assert sorted(shades(found)) == ["red", "unseen"]
    assert "space colours, by the index" in ziggurat.error
    assert "the index of colours is behind: 1 vectors were compared one by one; see `ziggurat upkeep`" in ziggurat.error


def test_the_space_of_the_aesthetic_filter_is_searched_by_a_clip(tmp_path: Path, ziggurat: Typed) -> None:
    """Nothing here could make its vectors, and nothing needs to."""
    pyramid = made.pyramid(tmp_path, "")
    vectors = np.random.default_rng(0).normal(size=(3, CLIP_SPACE.width))
    vectors[2] = vectors[0] + 0.1
    names = [ids()[shade] for shade in ("red", "green", "blue")]
    Committer(pyramid).commit(Batch(embeddings=[table(names, vectors, CLIP_SPACE, "aesthetic-1")]))
    assert shades(ziggurat("search", pyramid.uri, "--like", ids()["red"])) == ["blue", "green"]
    assert "OpenAI's CLIP" in ziggurat.error


def test_a_person_sees_a_table(pyramid: Pyramid, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.cli import main

    assert main(["search", pyramid.uri, "--like", ids()["red"], "--limit", "2"]) == 0
    out = capsys.readouterr().out
    assert [word in out for word in ("clip_id", "similarity", "a plum", ids()["purple"])] == [True] * 4
