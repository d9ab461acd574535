"""The timeline and the pictures handed out by it: where a decoder can start, what breaks, which way is up."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import Ending
from curation.media.frames import Decoder, Picture
from curation.media.pictures.geometry import UPRIGHT, Orientation, orientation, upright
from curation.media.plan import ClipPlan, MediaPlan, Rules
from curation.media.probe import open_media, timeline_of
from curation.media.stream.recovery import pictures_until_clean
from curation.media.stream.timeline import Part, Timeline
from tests.support import numbered
from tests.support.measuring import as_clips, cuts, measured
from tests.support.numbered import KINDS, Kind

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
PLAN = MediaPlan(
    rules=Rules(banned_profiles=(), min_fps=5, min_bpp=0, min_duration_s=0.2), clips=ClipPlan(min_s=0.4, max_s=8)
)


def opened(path: Path) -> tuple[Timeline, list[Picture]]:
    with open_media(path) as (container, stream):
        timeline = timeline_of(path, container, stream, lambda packets: None)
    with open_media(path) as (container, stream):
        return timeline, list(Decoder(container, stream, timeline))


def run(*arguments: object) -> None:
    subprocess.run([FFMPEG, "-y", "-v", "error", *map(str, arguments)], check=True)


@pytest.mark.parametrize(
    ("name", "starts"),
    [("mp4", 3), ("mp4 open gop", 3), ("mkv open gop", 3), ("ts open gop", 3), ("mp4 intra refresh", 1)],
)
def test_intra_refresh_is_no_place_to_start_and_an_open_gop_is(name: str, starts: int, tmp_path: Path) -> None:
    path = numbered.write(tmp_path / "source", KINDS[name], 120, ())
    timeline, pictures = opened(path)
    assert timeline.starts[0] == 0
    assert len(timeline.starts) == starts
    assert len(timeline.refreshes) == (3 if "refresh" in name else 0)
    assert [picture.index for picture in pictures] == list(range(120))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_any_bytes_are_read_as_units_without_a_fault(codec: str) -> None:
    random_ = random.Random(3)
    for _ in range(300):
        data = random_.choice([b"\0\0\0\1", b"\0\0\1", b"\0\0\0\x40"]) + random_.randbytes(random_.randint(0, 60))
        extradata = random_.choice([None, b"", b"\1" + random_.randbytes(random_.randint(0, 30))])
        found = pictures_until_clean(codec, data, extradata)
        assert found is None or found >= 0


def test_a_stream_that_starts_in_mid_gop_keeps_what_is_whole(tmp_path: Path) -> None:
    whole = numbered.write(tmp_path / "whole", KINDS["ts"], 160, ())
    data = whole.read_bytes()
    path = tmp_path / "late.ts"
    path.write_bytes(data[len(data) // 188 // 6 * 188 :])
    result = measured(path, PLAN)
    clips = as_clips(result)
    made, _ = cuts(path, clips, PLAN)
    numbers = [number for data in made for number in numbered.numbers(data)]
    assert numbers == list(range(numbers[0], 160))
    assert numbers[0] <= 40


@pytest.mark.parametrize("name", ["ts joined", "ts joined and grown", "webm grows", "mkv joined"])
def test_a_join_ends_a_shot_where_it_is(name: str, tmp_path: Path) -> None:
    path = numbered.write(tmp_path / "source", KINDS[name], 200, ())
    result = measured(path, PLAN)
    ends = {clip.end_frame: clip.ended_by for clip in result.clips}
    assert list(ends)[-1] == 200
    if name == "mkv joined":  # the same codec and size, in one clock: nothing breaks
        assert ends == {200: Ending.END}
        return
    (end, why), _ = ends.items()
    assert end == 110
    assert why in (Ending.JOIN, Ending.SIZE)
    assert as_clips(result)[1].start_frame == 110
    sizes = [(clip.width, clip.height) for clip in result.clips]
    assert sizes[-1] == KINDS[name].second


def test_headers_at_a_join_count_as_no_pictures(tmp_path: Path) -> None:
    """Those of Theora come as packets."""
    kind = Kind(".ogv", KINDS["ogv"].encode, join="bytes")
    result = measured(numbered.write(tmp_path / "source", kind, 200, ()), PLAN)
    assert [(clip.start_frame, clip.end_frame) for clip in result.clips] == [(0, 110), (110, 200)]
    assert result.clips[0].ended_by == Ending.JOIN


def test_another_sample_aspect_ratio_ends_a_shot(tmp_path: Path) -> None:
    parts = []
    for number, aspect in enumerate(("1", "4/3")):
        kind = Kind(".ts", (*KINDS["ts"].encode, "-vf", f"setsar={aspect}"))
        parts.append(numbered.write(tmp_path / f"{number}", kind, 60, ()))
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    widths = [clip.width for clip in measured(path, PLAN).clips]
    assert widths == [192, 256]


def test_the_default_stream_is_taken_then_the_largest(tmp_path: Path) -> None:
    small = numbered.write(tmp_path / "small", KINDS["mp4"], 60, ())
    kind = Kind(".mp4", (*KINDS["mp4"].encode, "-vf", "scale=384:224:flags=neighbor"))
    large = numbered.write(tmp_path / "large", kind, 60, ())
    for flags, width in ((("default", "0"), 192), (("0", "default"), 384), (("0", "0"), 384)):
        path = tmp_path / "both.mkv"
        marks = [part for n, flag in enumerate(flags) for part in (f"-disposition:v:{n}", flag)]
        run("-i", small, "-i", large, "-map", "0:v", "-map", "1:v", "-c", "copy", *marks, path)
        assert measured(path, PLAN).facts.width == width, flags


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [(), ("-display_hflip",), ("-display_vflip",), ("-display_hflip", "-display_vflip")])
def test_pictures_stand_as_a_player_shows_them(rotation: int, flip: tuple[str, ...], tmp_path: Path) -> None:
    plain = numbered.write(tmp_path / "plain", KINDS["mp4"], 12, ())
    path, shown = tmp_path / "turned.mp4", tmp_path / "shown.mkv"
    run("-display_rotation", rotation, *flip, "-i", plain, "-c", "copy", path)
    run("-i", path, "-c:v", "ffv1", "-pix_fmt", "gray", shown)  # ffmpeg turns it, as players do
    with av.open(str(shown)) as container:
        right = next(container.decode(video=0)).to_ndarray(format="gray")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    turned = orientation(frame)
    assert np.array_equal(upright(frame.to_ndarray(format="gray"), turned.rotation, turned.mirrored), right)


def test_all_eight_orientations_differ() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    every = [Orientation(rotation, mirrored) for rotation in (0, 90, 180, 270) for mirrored in (False, True)]
    assert len({upright(picture, o.rotation, o.mirrored).tobytes() for o in every}) == 8
    assert upright(picture, UPRIGHT.rotation, UPRIGHT.mirrored) is picture


@pytest.mark.parametrize("name", ["mp4", "mkv", "ts", "mp4 mpeg4", "ts mpeg2"])
def test_a_hole_in_a_file_hands_out_no_picture_that_it_reached(name: str, tmp_path: Path) -> None:
    path = numbered.write(tmp_path / "source", KINDS[name], 240, (), seed=2)
    _, sound = opened(path)
    right = {picture.check for picture in sound}
    data, start = bytearray(path.read_bytes()), path.stat().st_size // 2
    if path.suffix == ".ts":  # packets are lost on the way
        del data[start // 188 * 188 : (start // 188 + 3) * 188]
    else:
        data[start : start + 1500] = bytes(1500)
    path.write_bytes(data)
    result = measured(path, PLAN)
    _, pictures = opened(path)
    wrong = [picture.index for picture in pictures if picture.check not in right]
    assert not wrong, f"pictures {wrong} are damaged"
    assert {Ending.DAMAGE, Ending.GAP} & {clip.ended_by for clip in result.clips}
    assert sum(clip.end_frame - clip.start_frame for clip in result.clips) > 100


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 3))
def test_a_field_coded_source_has_one_time_for_each_pair(sizes: list[int], start: int) -> None:
    parts, times, first = [], [], 0
    for size in sizes:
        parts.append(Part(first, np.arange(size) * 2))
        times.append(first + np.arange(size, dtype=float))
        first += size
    whole = Timeline(tuple(parts), np.concatenate(times), np.array([start % first]), 1.0, 0, first, first, 0.0, False)
    halved = whole.by_frame()
    assert [len(part.stamps) for part in halved.parts] == [-(-size // 2) for size in sizes]
    assert halved.parts[-1].end == halved.pictures
    assert all(0 <= number < halved.pictures for number in halved.starts)
    assert [halved.times[part.first] for part in halved.parts] == [whole.times[part.first] for part in whole.parts]


@given(
    st.integers(100, 300),
    st.sets(st.integers(1, 190), max_size=6),
    st.integers(0, 400),
    st.sampled_from([1.0, 1501.0, 1501.5, 1000 / 60 * 1.001, 20.0, 1000 / 48]),
)
def test_fields_are_paired_by_their_places_in_time_whichever_are_lost(
    pictures: int, lost: set[int], gap: int, step: float
) -> None:
    """Single fields, and many in a row; also where a container rounds to milliseconds."""
    fields = [field for field in range(2 * pictures) if field not in lost]
    there = np.array([field if field < 195 else field + gap for field in fields])
    stamps = np.rint(there * step).astype(np.int64)
    found = Timeline(
        (Part(0, stamps),), there * 0.02, np.array([0]), 0.02, 0, len(there), len(there), 0.0, False
    ).by_frame()
    numbers, first, count = np.unique(there // 2, return_index=True, return_counts=True)
    assert found.parts[0].stamps.tolist() == stamps[first].tolist()
    assert found.pictures == found.packets == len(numbers)
    assert found.halves == set(stamps[first[count == 1]].tolist())


@pytest.mark.parametrize("trim", [("-ss", "1"), ("-t", "3"), ("-ss", "1.3", "-t", "4")])
@pytest.mark.parametrize("bframes", [0, 3])
def test_what_an_edit_list_shows_is_all_there(trim: tuple[str, ...], bframes: int, tmp_path: Path) -> None:
    """A trimmed copy keeps packets that are not shown, the key picture that the first ones need among them."""
    kind = Kind(".mp4", (*KINDS["mp4"].encode, "-g", "60", "-bf", str(bframes)))
    whole = numbered.write(tmp_path / "whole", kind, 200, ())
    path = tmp_path / "trimmed.mp4"
    before, after = (trim, ()) if trim[0] == "-ss" else ((), trim)
    run(*before, "-i", whole, *after, "-c", "copy", path)
    shown = numbered.numbers(path)
    clips = as_clips(measured(path, PLAN))
    made = [number for data in cuts(path, clips, PLAN)[0] for number in numbered.numbers(data)]
    assert list(dict.fromkeys(made)) == shown, "a hole at the end is filled by the picture before it"


def test_a_picture_that_is_shown_on_is_no_damage(tmp_path: Path) -> None:
    """Theora writes a packet of no bytes for it."""
    kind = Kind(".ogv", (*KINDS["ogv"].encode, "-vf", "setpts='(N+floor(N/10))/25/TB'", "-fps_mode", "cfr"))
    path = numbered.write(tmp_path / "drops", kind, 100, ())
    result = measured(path, PLAN)
    assert result.tally.suspect == result.tally.damaged == 0
    assert sum(clip.end_frame - clip.start_frame for clip in result.clips) >= 100
