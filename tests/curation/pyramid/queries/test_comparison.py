"""Two pyramids beside each other: every video and clip is counted once, however they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.contract import CLIPS, VIDEOS
from curation.pyramid.queries import comparison
from curation.pyramid.queries.comparison import Changes, VideoChange, compare, ranges
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers
from tests.curation.pyramid import build

TIERS = Tiers((Tier("all"), Tier("high", {"motion": Range(3.0)})))


def clip(video: str, start: int, end: int, plan: str = "one", **values: Any) -> dict[str, Any]:
    row = {"clip_id": f"{video}-{plan}-{start}-{end}", "video_id": video, "start_frame": start, "end_frame": end}
    row |= {"start_s": start / 25, "end_s": end / 25, "width": 160, "height": 90, "fps": 25.0, "tier": "all"}
    return row | values


def video(name: str, status: str = "done", reason: str | None = None) -> dict[str, Any]:
    return {"video_id": name, "uris": [f"/in/{name}.mp4"], "status": status, "reason": reason}


def pyramid(place: Path, videos: list[dict[str, Any]], clips: list[dict[str, Any]]) -> Pyramid:
    made = Pyramid.create(place, TIERS, "small")
    for name, rows, schema in (("clips", clips, CLIPS), ("videos", videos, VIDEOS)):
        if rows:
            made.dataset(name).insert(pa.Table.from_pylist(rows, schema=schema))
    return made


@pytest.fixture
def both(tmp_path: Path) -> tuple[Pyramid, Pyramid]:
    one = pyramid(
        tmp_path / "a",
        [video("0a"), video("4b", "rejected", "low_bpp"), video("8c"), video("fd", "quarantined", "timed_out")],
        [
            clip("0a", 0, 50),
            clip("0a", 50, 100, tier="high"),
            clip("0a", 100, 150),
            clip("8c", 0, 75),
            clip("8c", 75, 150),
        ],
    )
    other = pyramid(
        tmp_path / "b",
        [video("0a"), video("4b"), video("8c", "rejected", "too_short"), video("e0")],
        [
            clip("0a", 0, 50, "two", width=320),
            clip("0a", 50, 100, "two"),
            clip("0a", 100, 140, "two"),
            clip("4b", 0, 60, "two"),
            clip("e0", 0, 60, "two"),
        ],
    )
    return one, other


@pytest.mark.parametrize("rows", [300_000, 1], ids=["at once", "range by range"])
def test_what_differs(both: tuple[Pyramid, Pyramid], rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_ROWS", rows)
    most: list[int] = []
    found = compare(*both, lambda compared: most.append(len(compared.a) + len(compared.b)))
    assert sum(most) == 10 and (max(most) < 10) == (rows == 1), "nothing is read twice, or all at once"
    assert found.clips == Changes(unchanged=2, remade=1, changed_a=1, changed_b=1, only_a=2, only_b=2)
    assert (found.seconds_only_a, found.seconds_only_b) == (pytest.approx(6.0), pytest.approx(4.8))
    assert found.tiers == {("high", "all"): 1}
    assert found.outcomes == {
        ("rejected: low_bpp", "done"): 1,
        ("done", "rejected: too_short"): 1,
        ("quarantined: timed_out", None): 1,
        (None, "done"): 1,
    }
    assert found.listed == [
        VideoChange("4b", "/in/4b.mp4", "rejected: low_bpp", "done"),
        VideoChange("8c", "/in/8c.mp4", "done", "rejected: too_short"),
        VideoChange("e0", "/in/e0.mp4", None, "done"),
        VideoChange("fd", "/in/fd.mp4", "quarantined: timed_out", None),
    ]
    assert dict(found.most) == {
        "8c": Changes(only_a=2),
        "0a": Changes(unchanged=2, changed_a=1, changed_b=1),
        "4b": Changes(only_b=1),
        "e0": Changes(only_b=1),
    }


def test_the_other_way_round_it_is_the_same(both: tuple[Pyramid, Pyramid]) -> None:
    there, back = compare(*both), compare(both[1], both[0])
    assert back.clips == Changes(
        there.clips.unchanged,
        there.clips.remade,
        there.clips.changed_b,
        there.clips.changed_a,
        there.clips.only_b,
        there.clips.only_a,
    )
    assert back.outcomes == {(b, a): count for (a, b), count in there.outcomes.items()}
    assert (back.a, back.b) == (there.b, there.a)


def test_images_are_matched_by_their_one_frame_and_have_no_length(tmp_path: Path) -> None:
    still = {"start_s": 0.0, "end_s": None, "fps": None, "kind": "image"}
    ours = [clip("0a", 0, 1, **still), clip("4b", 0, 1, **still), clip("8c", 0, 75)]
    theirs = [clip("0a", 0, 1, "two", **still), clip("4b", 0, 1, "two", **still | {"width": 320})]
    found = compare(pyramid(tmp_path / "a", [], ours), pyramid(tmp_path / "b", [], theirs))
    assert found.clips == Changes(unchanged=2, remade=1, only_a=1)
    assert (found.a.seconds, found.b.seconds, found.seconds_only_a) == (3.0, 0.0, 3.0)


def test_lists_are_bounded_and_counts_are_not(tmp_path: Path) -> None:
    names = [f"{number:04x}" for number in range(0, 65536, 655)]
    one = pyramid(tmp_path / "a", [video(name) for name in names], [clip(name, 0, 50) for name in names])
    found = compare(one, pyramid(tmp_path / "b", [], []))
    assert found.outcomes == {("done", None): len(names)} and found.clips == Changes(only_a=len(names))
    assert len(found.listed) == len(found.most) == comparison.LISTED < len(names)


def test_empty_pyramids_have_no_difference(tmp_path: Path) -> None:
    found = compare(pyramid(tmp_path / "a", [], []), pyramid(tmp_path / "b", [], []))
    assert found.clips == Changes() and not found.outcomes and not found.most
    assert found.a.clips == found.a.bytes == 0


def test_sizes_count_what_is_cut(tmp_path: Path) -> None:
    made = build.Pyramid.create(tmp_path / "a", build.TIERS, "test")
    build.Committer(made).commit(build.whole_video(made, "v1", 3))
    found = comparison.size(made)
    stored = sum(len(content) for _, content, _ in made.media(build.clip_ids("v1", 3)))
    assert (found.clips, found.cut, found.bytes, found.seconds) == (3, 3, stored, 9.0)
    assert found.videos == {"done": 1} and found.tiers == {"low": 2, "mid": 2, "high": 0}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, 65536, 10**6])
def test_ranges_hold_every_text_once(count: int) -> None:
    found = list(ranges(count))
    assert found[0][0] is None and found[-1][1] is None and len(found) == min(max(1, count), 65536)
    edges = [low for low, _ in found[1:]]
    assert edges == [high for _, high in found[:-1]] == sorted(set(edges), key=str)
