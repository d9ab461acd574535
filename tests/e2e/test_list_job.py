"""A list as a user gives it: its columns come out again, and a second run with more of them decodes nothing; nor does a
third one with captions in files beside the videos.
"""

from __future__ import annotations

import json
from pathlib import Path

from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from tests.support import jobs, media, without_ray


def test_a_lists_columns_are_kept_and_brought_up_to_date(tmp_path: Path) -> None:
    videos = tmp_path / "in"
    videos.mkdir()
    for number, source in enumerate(("mandelbrot", "testsrc2")):
        media.make(videos / f"{number}.mp4", source=source, seconds=3)
    (videos / "notes.md").write_text("not taken")
    table, recipe = (
        videos / "list.csv",
        jobs.recipe(tmp_path, jobs.WITHOUT_TEXT),
    )
    table.write_text("id;path;caption\n7;0.mp4;a fractal\n8;1.mp4;\n9;../2.mp4;gone\n")
    first = without_ray.curate(table, tmp_path / "p", recipe)
    assert (first.summary["done"], first.summary["reasons"], first.summary["passed_over"]) == (2, {"outside": 1}, {})
    assert told(tmp_path / "p") == {
        "0.mp4": ({"id": "7", "caption": "a fractal"}, "a fractal"),
        "1.mp4": ({"id": "8"}, None),
    }
    table.write_text("path;caption;label\n0.mp4;;fractal\n1.mp4;a test card;\n")
    second = without_ray.curate([table, videos], tmp_path / "p", recipe)
    assert (second.summary["settled_before"], second.summary["frames_decoded"]) == (2, 0)
    assert second.summary["passed_over"] == {".csv": 1, ".md": 1}
    assert told(tmp_path / "p") == {
        "0.mp4": ({"id": "7", "caption": "a fractal", "label": "fractal"}, "a fractal"),
        "1.mp4": ({"id": "8", "caption": "a test card"}, "a test card"),
    }
    (videos / "0.txt").write_bytes(b"\xff")
    (videos / "1.txt").write_text("beside the video")
    arguments = ("curate", str(videos), "--to", str(tmp_path / "p"), "--sidecars", "txt,json", "--json")
    third = without_ray.run(*arguments)
    assert (third.code, third.summary["settled_before"], third.summary["frames_decoded"]) == (0, 2, 0), third.error
    assert {name: caption for name, (_, caption) in told(tmp_path / "p").items()} == {
        "0.mp4": "a fractal",
        "1.mp4": "beside the video",
    }
    assert any(f"no UTF-8): {videos}/0.txt" in one for one in third.summary["notices"])
    earlier = Pyramid.open(tmp_path / "p").dataset("captions").to_table(columns=["by", "caption"]).to_pylist()
    assert earlier == [{"by": "given", "caption": "a test card"}]


def told(place: Path) -> dict[str, tuple[dict[str, str], str | None]]:
    """By file name: the columns of each video that has clips, and the caption of its clips."""
    pyramid = Pyramid.open(place)
    rows = pyramid.query().columns("video_id", "caption").to_table().to_pylist()
    captions = {row["video_id"]: row["caption"] for row in rows}
    known = Ledger(pyramid).lookup(captions)
    return {Path(known[key].uris[0]).name: (json.loads(known[key].extra or "{}"), captions[key]) for key in captions}
