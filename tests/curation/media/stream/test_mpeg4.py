"""MPEG-4 pictures that are not coded: dropped pictures of a sound file are neither damage nor counted."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import Ending
from curation.media.plan import ClipPlan, MediaPlan, Rules
from curation.media.stream.mpeg4 import NotCoded
from tests.support import numbered
from tests.support.measuring import as_clips, cuts, measured
from tests.support.numbered import Kind

TOTAL = 150
DROPPED = frozenset(number for number in range(10, TOTAL) if number % 10 == 7)
PLAN = MediaPlan(rules=Rules(banned_profiles=(), min_bpp=0), clips=ClipPlan(min_s=0.5, max_s=3))


def not_coded(number: int) -> bytes:
    """A picture that is not coded, in a stream of 25 ticks a second: predicted, no whole second, the tick, 0."""
    bits = "01" + "0" + "1" + format(number % 25, "05b") + "1" + "0"
    bits += "0" + "1" * ((-len(bits) - 1) % 8)
    return b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def write(path: Path) -> Path:
    """A source whose every tenth picture is dropped so."""
    coded = numbered.write(path.with_name("coded"), Kind(".avi", ("-c:v", "mpeg4", "-q:v", "3", "-g", "30")), TOTAL, ())
    with av.open(str(coded)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        out = target.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in source.demux(stream) if packet.size):
            # The dropped pictures are not references of the next ones here: each is a picture of its own, only unseen.
            made = av.Packet(not_coded(number) if number in DROPPED else bytes(packet))
            made.is_keyframe = packet.is_keyframe and number not in DROPPED
            made.time_base, made.pts, made.dts, made.duration = Fraction(1, 25), number, number, 1
            made.stream = out
            target.mux(made)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_dropped_picture_is_no_damage(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"drops{suffix}")
    result = measured(path, PLAN)
    assert {clip.ended_by for clip in result.clips} <= {Ending.LENGTH, Ending.END, Ending.SHOT}
    assert result.tally.suspect == result.tally.damaged == 0
    clips = as_clips(result)
    assert sum(clip.end_frame - clip.start_frame for clip in clips) == TOTAL - len(DROPPED)
    files, _ = cuts(path, clips, PLAN)
    assert sum(clip.frames for clip in clips) == sum(len(numbered.numbers(data)) for data in files)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_bytes_are_read_without_a_fault(extradata: bytes, packet: bytes) -> None:
    assert NotCoded(extradata).holds(packet) in (True, False)
    assert NotCoded(None).holds(b"\0\0\1\xb6" + packet) in (True, False)
