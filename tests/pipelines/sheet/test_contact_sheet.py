"""The contact sheet: what stands on it, where, and why a clip is on it. Pictures are decoded and looked at by pixel."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from curation.contract import CLIPS, SAMPLES, SCORES, VIDEOS, Kind
from curation.errors import UserError
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers
from pipelines.sheet import contact_sheet
from pipelines.sheet.canvas import Canvas, shortened, text_width
from pipelines.sheet.layout import (
    DROPPED,
    EDGE,
    KEPT,
    LARGE_H,
    LARGE_W,
    SEAM,
    SMALL_H,
    SMALL_W,
    TILE_W,
    Box,
    Tile,
    arrange,
    clock,
    columns,
    draw_tile,
    place,
)
from pipelines.sheet.misses import misses, plain, short, span, told_apart

TIERS = Tiers(
    (
        Tier("low", {"motion": Range(0.3, 20), "text_area": Range(0, 0.1)}),
        Tier("high", {"motion": Range(0.5, 12), "aesthetic": Range(5, None), "duration_s": Range(3, None)}),
    )
)
FRAME_COLOURS = ((20, 40, 200), (30, 180, 60), (200, 90, 30))
"""First, middle and last frame of every clip here, as BGR."""


def jpeg(colour: tuple[int, int, int]) -> bytes:
    return cv2.imencode(".jpg", np.full((90, 160, 3), colour, np.uint8))[1].tobytes()


def clip(name: str, **values: Any) -> dict[str, Any]:
    row = {"clip_id": name, "video_id": "v", "shot": 0, "start_s": 0.0, "end_s": 4.0}
    row |= {"width": 160, "height": 90, "fps": 24.0, "frames": 96, "motion": 1.0, "text_area": 0.0}
    return row | {"aesthetic_why": "weights missing"} | values


def pyramid(folder: Path, clips: list[dict[str, Any]], tiers: Tiers = TIERS, unsampled: str = "") -> Pyramid:
    made = Pyramid.create(folder / "p", tiers, "small")
    frames = [jpeg(colour) for colour in FRAME_COLOURS]
    samples = [{"clip_id": row["clip_id"], "frames": frames} for row in clips if row["clip_id"] != unsampled]
    videos = [
        {"video_id": "v", "uris": ["/videos/one%20name.mp4"], "status": "done"},
        *({"video_id": f"s{i}", "status": "rejected", "reason": "too_short"} for i in range(3)),
        {"video_id": "q", "status": "quarantined", "reason": "timed_out"},
    ]
    for name, rows, schema in (("clips", clips, CLIPS), ("samples", samples, SAMPLES), ("videos", videos, VIDEOS)):
        if rows:
            made.dataset(name).insert(pa.Table.from_pylist(rows, schema=schema))
    return made


def some(kept: int, dropped: int) -> list[dict[str, Any]]:
    rows = [clip(f"k{i:04d}", motion=1.0 + i / 100) for i in range(kept)]
    return rows + [clip(f"d{i:04d}", motion=0.1) for i in range(dropped)]


def near(pixel: np.ndarray, colour: tuple[int, int, int], by: int = 6) -> bool:
    return bool((np.abs(pixel.astype(int) - colour) <= by).all())


def told(row: dict[str, Any], tier: str = "high") -> list[tuple[str, str]]:
    return [(miss.tier, miss.text) for miss in misses(TIERS, tier, row)]


def test_a_clip_in_the_tier_misses_nothing() -> None:
    assert told(clip("a"), "low") == []
    assert told(clip("a", aesthetic=5.0, frames=72), "high") == []


def test_each_missed_range_says_its_numbers_and_the_loosest_tier_that_sets_it() -> None:
    assert told(clip("a", motion=0.12, text_area=0.21)) == [
        ("low", "motion 0.12 < 0.3"),
        ("low", "text_area 0.21 > 0.1"),
        ("high", "aesthetic: weights missing"),
    ]
    assert told(clip("a", motion=0.4, aesthetic=4.999, frames=60)) == [
        ("high", "motion 0.4 < 0.5"),
        ("high", "aesthetic 4.999 < 5"),
        ("high", "duration_s 2.5 < 3"),
    ]
    assert told(clip("a", motion=35.357), "low") == [("low", "motion 35.4 > 20")]


def test_missing_values_come_last_and_say_why() -> None:
    row = clip("a", motion=None, motion_why="no two frames", text_area=0.5)
    assert told(row, "low") == [("low", "text_area 0.5 > 0.1"), ("low", "motion: no two frames")]
    assert told(clip("a", text_area=None), "low") == [("low", "text_area: no value and no reason")]
    assert told(clip("a", text_area=math.nan), "low") == [("low", "text_area: not a number")]


def test_misses_agree_with_the_tiers_on_every_side_of_every_bound() -> None:
    values = [None, 0.0, 0.1, np.nextafter(np.float32(0.1), np.float32(1)), 0.3, 0.5, 4.99, 5.0, 12.0, 20.0, 20.1]
    numbers = [value if value is None else float(value) for value in values]
    for motion, text_area, aesthetic in itertools.product(numbers, repeat=3):
        row = clip("a", motion=motion, text_area=text_area, aesthetic=aesthetic, duration_s=4.0)
        for tier in TIERS.names:
            assert (not misses(TIERS, tier, row)) == TIERS.admits(tier, row)


def test_digits_are_as_many_as_the_comparison_needs() -> None:
    assert told_apart(0.29999998211860657, 0.3) == "0.29999998"
    assert told_apart(19.996, 20) == "19.996"
    assert told_apart(20.5, 20) == "20.5"
    assert (short(735.9508), short(0.006770223), short(1234.5), short(0.0), short(3e-7)) == (
        "736", "0.0068", "1234", "0", "3e-07",
    )  # fmt: skip
    assert plain(100.0, 3) == "100"
    assert [span(Range(0.3, 20)), span(Range(10, None)), span(Range(None, 0.1))] == [
        "0.3 to 20",
        "10 or more",
        "0.1 or less",
    ]


def test_the_picture_holds_kept_and_dropped_tiles_where_the_layout_says(tmp_path: Path) -> None:
    made = pyramid(tmp_path, some(5, 3))
    assert contact_sheet.draw(made.uri, tmp_path / "s.png", "low", 48, 0) == 8
    image = cv2.imread(str(tmp_path / "s.png"))
    assert image is not None
    query = made.tier("low").pinned()
    places = arrange(contact_sheet.describe(query, "low", *contact_sheet.chosen(query, 48, 0)))
    assert image.shape == (places.height, places.width, 3)
    for name, box in places.tiles.items():
        edge = KEPT if name.startswith("k") else DROPPED
        assert (image[box.y : box.y + box.height, box.x : box.x + EDGE] == edge).all(), name
        middle = image[box.y + LARGE_H // 2, box.x + EDGE + LARGE_W // 2]
        first = image[box.y + SMALL_H // 2, box.x + EDGE + LARGE_W + SEAM + SMALL_W // 2]
        last = image[box.y + SMALL_H + SEAM + SMALL_H // 2, box.x + EDGE + LARGE_W + SEAM + SMALL_W // 2]
        for pixel, colour in zip((first, middle, last), FRAME_COLOURS, strict=True):
            assert near(pixel, colour), (name, pixel, colour)
    assert all(places.kept_y < places.tiles[f"k{i:04d}"].y < places.dropped_y for i in range(5))
    assert all(places.dropped_y < places.tiles[f"d{i:04d}"].y < places.footer_y for i in range(3))
    assert (image[places.footer_y :] == (255, 255, 255)).sum() == 0
    assert image[places.footer_y :].std() > 5, "the footer has words"


def test_no_tile_lies_on_another(tmp_path: Path) -> None:
    made = pyramid(tmp_path, some(20, 13))
    query = made.tier("low").pinned()
    places = arrange(contact_sheet.describe(query, "low", *contact_sheet.chosen(query, 48, 0)))
    boxes = list(places.tiles.values())
    assert len(boxes) == 33
    for one, two in itertools.combinations(boxes, 2):
        apart = one.x + one.width <= two.x or two.x + two.width <= one.x
        assert apart or one.y + one.height <= two.y or two.y + two.height <= one.y
    assert max(box.x + box.width for box in boxes) <= places.width


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_clips(tmp_path: Path) -> None:
    made = pyramid(tmp_path, some(60, 60))
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert contact_sheet.draw(made.uri, tmp_path / name, "low", 10, seed) == 10
    first, again, other = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("kept", "dropped", "clips", "shown"),
    [(30, 30, 10, (5, 5)), (30, 30, 9, (5, 4)), (30, 2, 10, (8, 2)), (2, 30, 10, (2, 8)), (0, 30, 10, (0, 10)),
     (30, 0, 10, (10, 0)), (3, 2, 10, (3, 2)), (30, 30, 1, (1, 0))],
)  # fmt: skip
def test_both_groups_get_half_and_what_the_other_leaves(
    tmp_path: Path, kept: int, dropped: int, clips: int, shown: tuple[int, int]
) -> None:
    query = pyramid(tmp_path, some(kept, dropped)).tier("low").pinned()
    found = contact_sheet.chosen(query, clips, 7)
    assert tuple(map(len, found)) == shown
    assert all(name.startswith("k") for name in found[0])
    assert all(name.startswith("d") for name in found[1])
    assert len(set(found[0] + found[1])) == sum(shown)


def test_the_choice_follows_from_ids_and_not_from_the_order_of_rows(tmp_path: Path) -> None:
    rows = some(40, 40)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = pyramid(tmp_path / "one", rows).tier("low").pinned()
    two = pyramid(tmp_path / "two", rows[::-1]).tier("low").pinned()
    assert contact_sheet.chosen(one, 12, 3) == contact_sheet.chosen(two, 12, 3)


def test_clips_without_a_score_are_dropped_and_near_misses_stand_first(tmp_path: Path) -> None:
    rows = [
        clip("far", motion=0.01),
        clip("near", motion=0.29),
        clip("text", text_area=0.4),
        clip("null", text_area=None, text_area_why="filter off"),
    ]
    query = pyramid(tmp_path, rows).tier("low").pinned()
    kept, dropped = contact_sheet.chosen(query, 48, 0)
    told = contact_sheet.describe(query, "low", kept, dropped)
    assert kept == []
    assert [tile.row["clip_id"] for tile in told.dropped] == ["near", "far", "text", "null"]
    assert told.clips_kept == 0
    assert told.dropped[3].missed[0].text == "text_area: filter off"


def test_the_sheet_says_tiers_names_and_what_became_of_videos(tmp_path: Path) -> None:
    made = pyramid(tmp_path, [*some(3, 2), clip("top", aesthetic=6.0)])
    query = made.tier("high").pinned()
    told = contact_sheet.describe(query, "high", *contact_sheet.chosen(query, 48, 0))
    assert told.clips == 6
    assert (told.clips_kept, [row.clips for row in told.tiers]) == (1, [4, 1])
    assert [tile.highest for tile in told.kept] == ["high"]
    assert Counter(tile.highest for tile in told.dropped) == {"low": 3, None: 2}
    assert told.videos == {("done", None): 1, ("rejected", "too_short"): 3, ("quarantined", "timed_out"): 1}
    assert told.kept[0].name == "one%20name.mp4", "a path is not a URI: nothing in it is quoted"


def test_names_of_files_cannot_break_the_sheet() -> None:
    assert contact_sheet.file_name("s3://b/k/one%20name.mp4?endpoint_override=h") == "one name.mp4"
    assert contact_sheet.file_name("/a/b\nc\x1b.mp4") == "b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}.mp4"
    cut = shortened("a-very-long-name-of-a-file-that-goes-on-and-on.mp4", 150, 15, keep_end=True)
    assert text_width(cut, 15) <= 150
    assert cut.startswith("a-very")
    assert cut.endswith(".mp4")
    for text in ("猫の動画.mp4", "שלום.mp4", "🎬" * 80, "W" * 5000, ""):
        assert text_width(shortened(text, 100, 15), 15) <= 100
        Canvas(200, 60, (0, 0, 0)).text(10, 30, shortened(text, 100, 15), 15, (255, 255, 255))


def test_a_clip_without_sample_frames_and_a_pyramid_without_tiers_are_drawn(tmp_path: Path) -> None:
    made = pyramid(tmp_path, some(2, 0), Tiers(), unsampled="k0001")
    assert contact_sheet.draw(made.uri, tmp_path / "s.png", None, 48, 0) == 2
    assert cv2.imread(str(tmp_path / "s.png")) is not None


def test_an_image_is_drawn_whole_and_misses_nothing_that_it_does_not_have(tmp_path: Path) -> None:
    still = {"kind": "image", "end_s": None, "fps": None, "frames": 1, "motion": None, "motion_why": "image"}
    rows = [*some(2, 1), clip("i1", **still), clip("i2", **still, text_area=0.5)]
    made = pyramid(tmp_path, rows, unsampled="i1")
    sample = {"clip_id": "i1", "frames": [jpeg((10, 200, 250))]}
    made.dataset("samples").insert(pa.Table.from_pylist([sample], schema=SAMPLES))
    assert contact_sheet.draw(made.uri, tmp_path / "s.png", "low", 48, 0) == 5
    image = cv2.imread(str(tmp_path / "s.png"))
    query = made.tier("low").pinned()
    sheet = contact_sheet.describe(query, "low", *contact_sheet.chosen(query, 48, 0))
    box = arrange(sheet).tiles["i1"]
    assert image is not None
    assert near(image[box.y + LARGE_H // 2, box.x + EDGE + (box.width - EDGE) // 2], (10, 200, 250))
    (kept,) = (tile for tile in sheet.kept if tile.row["clip_id"] == "i1")
    (dropped,) = (tile for tile in sheet.dropped if tile.row["clip_id"] == "i2")
    assert (place(kept.row), kept.missed) == ("image", ()) and place(clip("a")) == "0:00.0\N{EN DASH}0:04.0"
    assert [miss.text for miss in dropped.missed] == ["text_area 0.5 > 0.1"]


def test_a_sheet_of_one_kind_counts_that_kind(tmp_path: Path) -> None:
    still = clip("i1", kind="image", end_s=None, fps=None, motion=None)
    made = pyramid(tmp_path, [*some(2, 1), still], Tiers((Tier("all"), Tier("video", {"kind": Kind.VIDEO}))))
    for kind, shown in (("image", 1), ("video", 3)):
        assert contact_sheet.draw(made.uri, tmp_path / f"{kind}.png", "video", 48, 0, kind) == shown
    query, among = made.tier("video").pinned(), {"kind": "image"}
    chosen = contact_sheet.chosen(query, 48, 0, among)
    sheet = contact_sheet.describe(query, "video", *chosen, among)
    assert (sheet.clips, [row.clips for row in sheet.tiers]) == (1, [1, 0])
    assert [miss.text for miss in sheet.dropped[0].missed] == ["image, not video"]
    with pytest.raises(UserError, match="video, image"):
        contact_sheet.draw(made.uri, tmp_path / "x.png", None, 48, 0, "picture")
    (tmp_path / "videos").mkdir()
    videos = pyramid(tmp_path / "videos", some(1, 0))
    with pytest.raises(UserError, match="has no image clips to show"):
        contact_sheet.draw(videos.uri, tmp_path / "x.png", None, 48, 0, "image")


def test_the_loosest_tier_is_the_default(tmp_path: Path) -> None:
    made = pyramid(tmp_path, some(4, 3))
    contact_sheet.draw(made.uri, tmp_path / "a.png", None, 48, 0)
    contact_sheet.draw(made.uri, tmp_path / "b.png", "low", 48, 0)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_large_sheet_is_wide_and_a_small_one_still_has_room_for_its_header() -> None:
    assert columns(1, 0) == 4
    assert columns(200, 200) == 12
    assert columns(12, 6) == 4
    assert columns(15, 10) == 5
    assert [clock(0), clock(59.96), clock(75.04), clock(3661)] == ["0:00.0", "1:00.0", "1:15.0", "1:01:01.0"]


def test_what_cannot_be_drawn_is_told_with_a_remedy(tmp_path: Path) -> None:
    made = pyramid(tmp_path, [])
    for output, tier, cause in (
        (tmp_path / "no" / "s.png", None, "does not exist"),
        (tmp_path / "s.jpg", None, "not a .png"),
        (tmp_path / "s.png", "none such", "none such"),
        (tmp_path / "s.png", None, "has no clips to show (5 videos: too_short 3"),
    ):
        with pytest.raises(UserError) as caught:
            contact_sheet.draw(made.uri, output, tier, 48, 0)
        assert cause in caught.value.cause
        assert caught.value.remedy
    with pytest.raises(UserError, match="does not exist"):
        contact_sheet.draw(str(tmp_path / "nowhere"), tmp_path / "s.png", None, 48, 0)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        contact_sheet.draw(made.uri, tmp_path / "folder.png", None, 48, 0)


def test_no_half_written_sheet_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pyramid(tmp_path, some(1, 1))
    (tmp_path / "s.png").write_bytes(b"the sheet of yesterday")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("curation.atomic.os.replace", full)
    with pytest.raises(UserError, match="No space left"):
        contact_sheet.draw(made.uri, tmp_path / "s.png", None, 48, 0)
    assert (tmp_path / "s.png").read_bytes() == b"the sheet of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p", "s.png"]


def test_the_command_says_where_the_sheet_is(tmp_path: Path) -> None:
    made = pyramid(tmp_path, some(2, 2))
    command = [sys.executable, "-m", "pipelines.cli", "sheet", made.uri, "-o", str(tmp_path / "s.png")]
    done = subprocess.run([*command, "--clips", "3"], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/s.png: 3 clips\n"), done.stderr


def test_scores_of_a_pyramids_own_stand_in_rows_of_their_own() -> None:
    """Beside the others they would run into each other."""
    drawn: list[tuple[int, int, int, str]] = []

    class Notes(Canvas):
        def text(self, x: int, y: int, text: str, size: int, ink: Any, weight: int = 400, align: Any = "left") -> int:
            drawn.append((x, y, text_width(text, size, weight), text))
            return super().text(x, y, text, size, ink, weight, align)

    own = [f"own_score_{number}" for number in range(7)]
    row = {"clip_id": "c", "start_s": 0.0, "end_s": 2.0}
    row |= {name: value for score in (*SCORES, *own) for name, value in ((score, 0.012345), (f"{score}_why", None))}
    few, many = (Tile(one, "a.mp4", "low", ()) for one in ({k: v for k, v in row.items() if "own" not in k}, row))
    assert many.scores == [*SCORES, *own]
    assert many.text_height > few.text_height
    box = Box(0, 0, TILE_W, LARGE_H + many.text_height)
    draw_tile(Notes(TILE_W, box.height, (0, 0, 0)), box, many, (0, 0, 0))
    lines: dict[int, list[tuple[int, int, str]]] = {}
    for x, y, width, text in drawn:
        assert y < box.height
        lines.setdefault(y, []).append((x, x + width, text))
    rows = [sorted(line) for line in lines.values() if len(line) > 2]
    assert sum(map(len, rows)) == 2 * len(many.scores) - 2 * (len(many.scores) % 5)
    for line in rows:
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(line)), line
