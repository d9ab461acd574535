"""Pictures shown before the first key picture: those that a decoder shows right are kept, the others are not."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.curation.media.stream.test_suspicion import shown
from tests.support import numbered
from tests.support.numbered import Kind

X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "20", "-pix_fmt", "yuv420p", "-x265-params")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-threads", "1", "-x264-params")
VVC = ("-c:v", "libvvenc", "-preset", "faster", "-g", "32", "-pix_fmt", "yuv420p10le")
GOP = "keyint=40:bframes=3:b-adapt=0:log-level=none:pools=1"
SOURCES = {
    "hevc closed": Kind(".ts", (*X265, f"{GOP}:open-gop=0")),
    "hevc open": Kind(".ts", (*X265, f"{GOP}:open-gop=1")),
    "h264 open": Kind(".ts", (*X264, "keyint=40:bframes=3:b-adapt=0:open-gop=1")),
    "vvc": Kind(".ts", VVC),
}
HEAD = 3 * 188
"""The tables before the pictures."""


def keys(path: Path) -> list[int]:
    """Where each key packet begins in the file."""
    with av.open(str(path)) as container:
        return [int(packet.pos or 0) for packet in container.demux(video=0) if packet.size and packet.is_keyframe]


@pytest.mark.parametrize("before", [0, 8])
@pytest.mark.parametrize("name", SOURCES)
def test_a_stream_that_begins_later_shows_all_that_is_whole_and_no_more(name: str, before: int, tmp_path: Path) -> None:
    """`before`: kilobytes of the GOP before that are there as well."""
    whole = numbered.write(tmp_path / "whole", SOURCES[name], 120, ())
    sound, _ = shown(whole)
    assert len(sound) == 120
    data, key = whole.read_bytes(), keys(whole)[1]
    path = tmp_path / "later.ts"
    path.write_bytes(data[:HEAD] + data[key - before * 1024 // 188 * 188 :])
    found, _ = shown(path)
    number = {check: index for index, check in sound.items()}
    assert set(found.values()) <= set(number), "a picture is wrong"
    kept = sorted(number[check] for check in found.values())
    assert kept == list(range(kept[0], 120))
    assert kept[0] <= 56


def test_the_first_pictures_of_vvc_are_kept(tmp_path: Path) -> None:
    """Its encoder begins with a key picture that is shown after two dozen others."""
    path = numbered.write(tmp_path / "source", Kind(".mp4", VVC), 64, ())
    found, told = shown(path)
    assert list(found) == list(range(64))
    assert not told
