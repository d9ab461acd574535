"""Images among the inputs: named they are taken, from folders where that is asked for, and else counted and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.contract import Source
from curation.errors import UserError
from curation.inputs.kinds import FROM_FOLDERS, IMAGE_EXTENSIONS, PICTURE_EXTENSIONS, VIDEO_EXTENSIONS, named_as_image
from curation.inputs.sources import list_sources

ALL = VIDEO_EXTENSIONS | PICTURE_EXTENSIONS


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.JPG", "c.png", "in/d.heic", "in/e.gif", "in/f.txt", ".g.png"):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"x")
    return tmp_path


def names(*arguments: str, extensions: frozenset[str] = VIDEO_EXTENSIONS) -> list[str]:
    return [Path(one.uri).name for one in list_sources(arguments, extensions=extensions) if isinstance(one, Source)]


def test_folders_and_globs_hold_images_where_that_is_asked_for(tree: Path) -> None:
    assert names(str(tree)) == ["a.mp4"] == names(f"{tree}/**")
    assert names(str(tree), extensions=ALL) == ["a.mp4", "b.JPG", "c.png", "d.heic", "e.gif"]
    assert names(f"{tree}/*", extensions=ALL) == ["a.mp4", "b.JPG", "c.png", "d.heic", "e.gif"]


def test_what_is_named_is_taken(tree: Path) -> None:
    assert names(str(tree / "b.JPG")) == ["b.JPG"]
    assert names(f"{tree}/*.png") == ["c.png"], "a glob that spells it out"
    (tree / "list.txt").write_text("c.png\nin/d.heic\n")
    assert names(str(tree / "list.txt")) == ["c.png", "d.heic"]


def test_images_that_were_passed_over_are_told_with_the_remedy(tree: Path) -> None:
    listing = list_sources([str(tree)])
    assert len(list(listing)) == 1
    (told,) = listing.notices()
    assert told.startswith("4 ") and FROM_FOLDERS in told
    listing = list_sources([str(tree)], extensions=ALL)
    assert len(list(listing)) == 5 and listing.notices() == []
    (tree / "a.mp4").unlink()
    with pytest.raises(UserError) as caught:
        list_sources([str(tree)])
    assert FROM_FOLDERS in caught.value.remedy


def test_a_name_is_an_image_s_by_its_extension_alone() -> None:
    assert all(named_as_image(f"/a/b{one.upper()}") for one in IMAGE_EXTENSIONS)
    assert not any(named_as_image(f"/a/b{one}") for one in (*VIDEO_EXTENSIONS, ".gif", ".apng", ".txt", ""))
    assert named_as_image("s3://bucket/a.png?endpoint_override=http://host/x.mp4")
    assert not named_as_image("s3://bucket/a.mp4?x=a.png") and not IMAGE_EXTENSIONS & VIDEO_EXTENSIONS
