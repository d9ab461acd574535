"""The sound of clips as players show it: in sync with their pictures, as long as they, silent where there is none."""

from __future__ import annotations

import errno
import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
import pytest

from curation.media.plan import ClipPlan, Encode, Limits, MediaPlan, ShotPlan
from curation.media.sandbox.sandbox import Sandbox
from curation.media.sound import packets
from tests.support import flashes, media
from tests.support.measuring import LENIENT, as_clips, cuts, measured

ODD = replace(LENIENT, shots=ShotPlan("none"), clips=ClipPlan(frames=37))
"""Clips that begin anywhere: 37 frames fit neither seconds nor frames of sound."""

WHOLE = replace(ODD, clips=ClipPlan(min_s=1, max_s=60))
KEEP = Encode(preset="ultrafast", crf=12, sound="aac")
EXACT_S = 1.5 / 48000
"""One sample: stamps of MP4 and TS can say that."""

MILLISECOND_S = 0.0011
"""Matroska and FLV count in milliseconds."""

KINDS: dict[str, tuple[float, dict[str, Any]]] = {
    "aac.mp4": (EXACT_S, {}),
    "aac-b-frames.mp4": (EXACT_S, {"bf": 3, "layout": "stereo", "rate": 44100}),
    "mp3.mp4": (EXACT_S, {"acodec": "libmp3lame", "layout": "stereo"}),
    "pcm.mov": (EXACT_S, {"acodec": "pcm_s16le", "rate": 48000}),
    "pcm-96k.mov": (EXACT_S, {"acodec": "pcm_s24le", "rate": 96000, "layout": "stereo"}),
    "pcm-8k.mov": (1.5 / 8000, {"acodec": "pcm_s16le", "rate": 8000}),
    "surround.mov": (EXACT_S, {"acodec": "pcm_s16le", "layout": "5.1"}),
    "ac3.ts": (EXACT_S, {"acodec": "ac3", "layout": "5.1"}),
    "aac.ts": (EXACT_S, {"layout": "stereo"}),
    "mp2.mpg": (EXACT_S, {"vcodec": "mpeg2video", "acodec": "mp2", "layout": "stereo"}),
    "mp3.avi": (EXACT_S, {"vcodec": "mpeg4", "acodec": "libmp3lame"}),
    "opus.mkv": (MILLISECOND_S, {"acodec": "libopus", "layout": "stereo"}),
    "flac.mkv": (MILLISECOND_S, {"acodec": "flac"}),
    "vorbis.mkv": (MILLISECOND_S, {"acodec": "libvorbis", "rate": 44100}),
    "aac.flv": (MILLISECOND_S, {"rate": 44100}),
}


def sounds(path: Path, plan: MediaPlan = ODD, late_s: float = 0.0) -> list[flashes.Heard | None]:
    """Every clip of a film, in order."""
    return [flashes.heard(data, late_s) for data in cuts(path, as_clips(measured(path, plan)), plan, KEEP)[0]]


def silence_of(found: flashes.Heard) -> float:
    """Seconds of silence that the clip's file says were filled in."""
    filled = re.fullmatch(r"silence filled in: ([0-9.]+) of ([0-9.]+) s", found.comment)
    assert filled is not None and float(filled[2]) == pytest.approx(found.seconds, abs=1e-3)
    return float(filled[1])


def are_in_sync(found: list[flashes.Heard | None], apart_s: float | dict[int, float], within_s: float) -> set[int]:
    """The numbers of the flashes that are heard: each tone as much later than its flash as in the source.

    Every sound is as long as its pictures.
    """
    numbers: set[int] = set()
    for one in found:
        assert one is not None
        assert one.sound.shape[1] == round(one.frames / one.fps * one.rate)
        right = {n: apart_s[n] if isinstance(apart_s, dict) else apart_s for n in one.apart_s}
        assert {n: a for n, a in one.apart_s.items() if abs(a - right[n]) > within_s} == {}, right
        numbers |= set(one.apart_s)
    return numbers


@pytest.mark.parametrize("kind", KINDS)
def test_flash_and_tone_begin_together(kind: str, tmp_path: Path) -> None:
    within_s, options = KINDS[kind]
    path = flashes.write(tmp_path / kind, **options)
    found, right = sounds(path), flashes.source_apart(path)
    assert len(right) == flashes.SECONDS
    numbers = are_in_sync(found, right, within_s)
    assert numbers >= {0, 1, 2, 3, 5, 6}, "the fifth may be parted by the end of a clip, the eighth is in none"
    assert {one and one.channels for one in found} == {1 if options.get("layout", "mono") == "mono" else 2}
    assert {one and one.rate for one in found} == {min(48000, options.get("rate", 48000))}
    assert {one and one.comment for one in found[1:-1]} == {""}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("late_s", [0.3, -0.3, pytest.param(1.125, marks=pytest.mark.slow)])
def test_sound_that_begins_later_or_earlier_than_the_pictures_stays_where_it_is(
    suffix: str, late_s: float, tmp_path: Path
) -> None:
    path = flashes.write(tmp_path / f"source{suffix}", late_s=late_s)
    (whole,) = sounds(path, WHOLE, late_s)
    assert are_in_sync([whole], late_s, MILLISECOND_S) >= set(range(1, 6))
    assert whole is not None and silence_of(whole) == pytest.approx(abs(late_s), abs=0.03)
    if late_s > 0:
        assert not whole.sound[:, : round((late_s - 0.05) * whole.rate)].any()
    assert are_in_sync(sounds(path, ODD, late_s)[1:-1], late_s, MILLISECOND_S)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_gap_is_silent_and_moves_nothing(suffix: str, tmp_path: Path) -> None:
    """Gaps of one packet (21 ms), of a second, and one that a whole clip lies in."""
    source = flashes.write(tmp_path / f"whole{suffix}", bf=0)
    gaps = ((0.7, 0.715), (1.7, 2.7), (4.3, 6.1))
    path = flashes.without(
        source, tmp_path / f"gaps{suffix}", lambda time_s: any(start <= time_s < end for start, end in gaps)
    )
    (whole,) = sounds(path, WHOLE)
    assert are_in_sync([whole], 0.0, MILLISECOND_S) == {0, 1, 3, 6, 7}
    assert whole is not None
    for start, end in gaps[1:]:
        assert not whole.sound[:, round((start + 0.1) * whole.rate) : round((end - 0.1) * whole.rate)].any()
    missing_s = sum(end - start for start, end in gaps)
    assert silence_of(whole) == pytest.approx(missing_s, abs=0.1)
    clips = sounds(path, ODD)
    assert clips[3] is None, "from 4.44 s to 5.92 s the source has no sound"
    assert are_in_sync(clips[:3] + clips[4:], 0.0, MILLISECOND_S) == {0, 1, 3, 6}


def test_sound_that_ends_early_is_followed_by_silence_and_then_there_is_none(tmp_path: Path) -> None:
    found = sounds(flashes.write(tmp_path / "short.mp4", sound_s=3.6))
    assert [one is not None for one in found] == [True, True, True, False, False]
    assert are_in_sync(found[:3], 0.0, EXACT_S) == {0, 1, 2, 3}
    last = found[2]
    assert last is not None and silence_of(last) == pytest.approx(3 * 37 / 25 - 3.6, abs=0.03)


def test_a_source_without_sound_gives_clips_without_it() -> None:
    path = media.sample("plain.mp4")
    clips = as_clips(measured(path))
    assert cuts(path, clips, encode=KEEP)[0] == cuts(path, clips, encode=replace(KEEP, sound="drop"))[0]


def test_clips_of_a_recipe_without_sound_hold_none(tmp_path: Path) -> None:
    path = flashes.write(tmp_path / "source.mp4")
    for data in cuts(path, as_clips(measured(path, ODD)), ODD, replace(KEEP, sound="drop"))[0]:
        assert flashes.heard(data) is None


@pytest.mark.parametrize(
    ("fps", "made"), [(60, 30.0), (50, 25.0), ("60000/1001", 30000 / 1001), ("24000/1001", 24000 / 1001)]
)
def test_thinned_rates_keep_the_time(fps: int | str, made: float, tmp_path: Path) -> None:
    path = flashes.write(tmp_path / "source.mp4", fps=fps)
    plan = replace(WHOLE, clips=replace(WHOLE.clips, max_fps=30.0))
    (found,) = sounds(path, plan)
    assert found is not None and found.fps == pytest.approx(made)
    # The flash is the first picture at or after its time; a picture that is left out makes it one later.
    assert len(found.apart_s) == flashes.SECONDS
    assert all(-1 / made - EXACT_S <= apart_s <= EXACT_S for apart_s in found.apart_s.values()), found.apart_s
    assert found.sound.shape[1] == round(found.frames / found.fps * found.rate)


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("fps", ["2450/97", "997/41", "24000/1001"])
def test_clips_of_an_odd_rate_sound_to_their_end(fps: str, rate: int, tmp_path: Path) -> None:
    path = flashes.write(tmp_path / "x.mov", fps=fps, rate=rate, seconds=3, acodec="pcm_s16le")
    assert are_in_sync(sounds(path), flashes.source_apart(path), 1.5 / rate)


def test_a_source_that_is_played_slower_keeps_its_sound_in_sync_to_the_end(tmp_path: Path) -> None:
    """30.1 becomes 29.97, 0.4 % slower: 35 ms apart at the end, were the sound as fast as before."""
    path = flashes.write(tmp_path / "source.mp4", fps="301/10")
    (found,) = sounds(path, WHOLE)
    assert found is not None and found.fps == pytest.approx(30000 / 1001)
    assert found.seconds == pytest.approx(flashes.SECONDS * 30.1 / 29.97, abs=0.05)
    first, last = found.apart_s[0], found.apart_s[flashes.SECONDS - 1]
    frame_s = 1 / 30.1
    assert -frame_s <= first <= 0 and -frame_s <= last <= 0.001, found.apart_s


@pytest.mark.parametrize("frames", [131, 139])
def test_a_source_that_is_hardly_slower_sounds_without_a_hole(frames: int, tmp_path: Path) -> None:
    """30.03 becomes 30: what is not stretched lasts some milliseconds longer than its pictures did."""
    path = flashes.write(tmp_path / "source.mp4", fps="3003/100", seconds=24)
    *inner, _ = sounds(path, replace(WHOLE, clips=ClipPlan(frames=frames, max_fps=30.0)))
    assert len(inner) >= 4 and {one.fps for one in inner if one} == {30.0}
    assert [one.comment for one in inner if one] == [""] * len(inner)


def test_joined_films_have_the_sound_of_their_own_part(tmp_path: Path) -> None:
    """The second film's stamps begin again: the same times stand twice in the file."""
    one = flashes.write(tmp_path / "one.ts", seconds=4)
    two = flashes.write(tmp_path / "two.ts", seconds=6, layout="stereo", rate=44100)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    found = sounds(joined, WHOLE)
    assert [one.seconds for one in found if one] == pytest.approx([4, 6], abs=0.2)
    assert [one and sorted(one.apart_s) for one in found] == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    are_in_sync(found, 0.0, EXACT_S)


def test_a_clip_sounds_the_same_whatever_is_cut_with_it(tmp_path: Path) -> None:
    path = flashes.write(tmp_path / "source.ts", layout="stereo")
    clips = as_clips(measured(path, ODD))
    together = cuts(path, clips, ODD, KEEP)[0]
    alone = [cuts(path, [clip], ODD, KEEP)[0][0] for clip in clips]
    assert [hashlib.sha256(data).hexdigest() for data in together] == [hashlib.sha256(d).hexdigest() for d in alone]


def test_the_confined_decoder_makes_the_same_clips(tmp_path: Path) -> None:
    path = flashes.write(tmp_path / "source.mkv", acodec="libopus", layout="5.1")
    clips = as_clips(measured(path, ODD))
    with Sandbox(Limits(memory_mb=1024)) as sandbox:
        done = sandbox.cut(path, path.name, clips, ODD, KEEP)
    assert done.verdict is None
    assert [data for _, data in done.media] == cuts(path, clips, ODD, KEEP)[0]


@pytest.mark.parametrize("seed", range(2))
def test_damaged_sound_costs_no_clip(seed: int, tmp_path: Path) -> None:
    """Every packet of sound is noise from 2 s on, and some before: the pictures are those of the sound file."""
    source = flashes.write(tmp_path / "whole.mkv", bf=0, acodec=("aac", "libopus", "ac3", "libvorbis")[seed])
    numbers = random.Random(seed)
    path = flashes.with_sound(
        source,
        tmp_path / "damaged.mkv",
        lambda time_s, data: numbers.randbytes(len(data)) if time_s > 2 or numbers.random() < 0.1 else data,
    )
    clips = as_clips(measured(path, ODD))
    assert clips == as_clips(measured(source, ODD))
    files, tally = cuts(path, clips, ODD, KEEP)
    assert len(files) == len(clips) and tally.damaged == 0
    for data, clip in zip(files, clips, strict=True):
        found = flashes.heard(data)
        if found is not None:
            assert found.frames == clip.frames
            assert found.sound.shape[1] == round(found.seconds * found.rate)
            assert np.isfinite(found.sound).all()


class _Torn:
    """A container that fails while it is read."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def demux(self, *streams: object) -> Iterator[av.Packet]:
        yield av.Packet(b"sound")
        raise self._error


@pytest.mark.parametrize("error", [av.error.InvalidDataError(1, "damage"), UnicodeDecodeError("utf-8", b"", 0, 1, "")])
def test_what_damage_tears_ends_there(error: Exception) -> None:
    assert len(list(packets._demuxed(cast("Any", _Torn(error)), []))) == 1


def test_a_disk_that_fails_is_not_taken_for_silence() -> None:
    with pytest.raises(OSError, match="disk"):
        list(packets._demuxed(cast("Any", _Torn(OSError(errno.EIO, "the disk"))), []))


def test_the_default_flag_chooses_the_stream_else_the_first(tmp_path: Path) -> None:
    source = flashes.write(tmp_path / "source.mp4")
    mono, stereo = flashes.write(tmp_path / "a.mp4"), flashes.write(tmp_path / "b.mp4", layout="stereo")
    for flags, channels in ((("default", "0"), 1), (("0", "default"), 2), (("0", "0"), 1)):
        path = flashes.muxed(tmp_path / "several.mkv", source, [mono, stereo], flags)
        assert [one and one.channels for one in sounds(path, WHOLE)] == [channels]


@pytest.mark.parametrize("frames", [60, pytest.param(1200, marks=pytest.mark.slow)])
def test_there_is_room_for_the_tables_of_both_streams(frames: int, tmp_path: Path) -> None:
    """The `moov` box is reserved in front, before its size is known. Picture and sound in turn make the most chunks."""
    path = flashes.write(tmp_path / "long.mp4", fps=30, seconds=frames / 30, layout="stereo")
    plan = replace(WHOLE, clips=ClipPlan(min_s=0.1, max_s=600, max_fps=30))
    (clip,) = as_clips(measured(path, plan))
    (data,) = cuts(path, [clip], plan, replace(KEEP, preset="medium"))[0]
    assert clip.frames == frames
    assert data.find(b"moov") < data.find(b"mdat")
    found = flashes.heard(data)
    assert found is not None and found.sound.shape[1] == round(frames / 30 * 48000)
