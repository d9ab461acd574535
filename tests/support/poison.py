"""The poison corpus: files that must end in one exact outcome each (promise P3 of reliability).

`POISON` is the table (name, builder, expected): a `Reason`, or None for an oddity that must yield clips all
the same. `build(folder)` writes all of it under `folder/in`; what no input may reach lies in `folder/out`.
All files differ in content, because equal bytes are one video. Crashes that no ordinary file triggers come
from the fault hook of the decoder's child: a valid file whose name holds "fault-<kind>", active where
ZIGGURAT_FAULTS=1.
"""

from __future__ import annotations

import functools
import os
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import ffmpeg
import numpy as np

from curation.contract import Reason
from tests.support import boxes, media

HOURS_OF_FRAMES = 1_000_000
NEIGHBOUR_SIZE = (208, 112)
"""No other file of the corpus has this picture size: whoever sees it has decoded the neighbour."""


class Poison(NamedTuple):
    """`expected` is None where clips must come out."""

    name: str
    build: Callable[[Path], object]
    expected: Reason | None


def _valid(path: Path) -> Path:
    """A sound video that differs from all others: it carries its own name in a `free` box."""
    media.make(path, seconds=3)
    path.write_bytes(path.read_bytes() + boxes.pack("free", path.name.encode()))
    return path


def _forge(change: boxes.Change, **options: Any) -> Callable[[Path], object]:
    """A builder: make a plain MP4, then change its bytes."""

    def builder(path: Path) -> None:
        media.make(path, **options)
        path.write_bytes(change(path.read_bytes()))

    return builder


def _noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(200_000))


def _link_outside(path: Path) -> None:
    path.symlink_to(Path("..") / "out" / "secret.mp4")


def _text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def _remux(source_options: dict[str, Any], **output: Any) -> Callable[[Path], object]:
    """A builder: make a plain MP4, then copy its packets into the wanted container with other timestamps."""

    def builder(path: Path) -> None:
        plain = media.make(path.with_name(f".plain-{path.stem}.mp4"), **source_options)
        exact = {"fflags": "+bitexact", "map_metadata": -1}
        media.run(ffmpeg.input(str(plain)).output(str(path), c="copy", **exact, **output))
        plain.unlink()

    return builder


# --- bytes cut off or changed ---


def _keep_share(share: float) -> boxes.Change:
    """Keep the front of the frame data. `moov` must come first (faststart)."""

    def change(data: bytes) -> bytes:
        at, body = boxes.find(data, "mdat")
        return data[: at + int(len(body) * share)]

    return change


def _header_only(data: bytes) -> bytes:
    """What a fragmented MP4 holds before its first fragment."""
    at, body = boxes.find(data, "moov")
    return data[: at + len(body)]


def _flip_bits(count: int) -> boxes.Change:
    def change(data: bytes) -> bytes:
        dice, forged = random.Random(11), bytearray(data)
        at, body = boxes.find(data, "mdat")
        for _ in range(count):
            forged[at + dice.randrange(len(body) // 10, len(body))] ^= 1 << dice.randrange(8)
        return bytes(forged)

    return change


def _garbage(share: float) -> boxes.Change:
    """Overwrite the last `share` of the frame data with noise."""

    def change(data: bytes) -> bytes:
        at, body = boxes.find(data, "mdat")
        count = int(len(body) * share)
        end = at + len(body)
        return data[: end - count] + random.Random(12).randbytes(count) + data[end:]

    return change


def _unknown_codec(data: bytes) -> bytes:
    def change(body: bytes) -> bytes:  # full box header, entry count, entry size, then the four letters
        return body[:12] + b"zzzz" + body[16:]

    return boxes.edit(data, "moov/trak/mdia/minf/stbl/stsd", change)


def _claim_in_matroska(seconds: float) -> boxes.Change:
    """Overwrite the Duration element of a Matroska file: id, size (eight), milliseconds as a double."""

    def change(data: bytes) -> bytes:
        at = data.index(b"\x44\x89\x88") + 3
        return data[:at] + struct.pack(">d", seconds * 1000) + data[at + 8 :]

    return change


def _frame_bomb(data: bytes) -> bytes:
    return boxes.repeat_frame(data, HOURS_OF_FRAMES, ticks=512)


def _pixel_bomb(data: bytes) -> bytes:
    return boxes.repeat_frame(data, 72, ticks=512, per_chunk=1)


# --- references to a neighbour ---


def _alias(neighbour: str) -> bytes:
    """A QuickTime alias record: the kind of data reference that libavformat follows when it is allowed to."""
    name = neighbour.encode()
    record = bytearray(150)
    record[10] = 1
    record[11 : 11 + 27] = b"v".ljust(27, b"\0")
    record[50] = len(name)
    record[51 : 51 + 63] = name.ljust(63, b"\0")
    struct.pack_into(">hh", record, 130, 1, 1)
    path = b"/" + name
    tail = struct.pack(">hH", 2, len(path)) + path + b"\0" * (len(path) % 2) + struct.pack(">hH", -1, 0)
    return bytes(4) + bytes(record) + tail


def _external(kind: str, body: bytes) -> boxes.Change:
    """Point the data reference outside and drop the frame data: the neighbour has it at the same offsets."""
    reference = struct.pack(">II", 0, 1) + boxes.pack(kind, body)

    def change(data: bytes) -> bytes:
        data = boxes.edit(data, "moov/trak/mdia/minf/dinf/dref", lambda _: reference)
        return boxes.drop(data, "mdat")

    return change


def _external_reference(kind: str) -> Callable[[Path], object]:
    body = _alias("neighbour.mp4") if kind == "alis" else bytes(4) + b"neighbour.mp4\0"

    def builder(path: Path) -> None:
        media.make(path, size=NEIGHBOUR_SIZE, f="mp4")  # the bytes of neighbour.mp4, so the offsets fit it
        path.write_bytes(_external(kind, body)(path.read_bytes()))

    return builder


def _neighbour(path: Path) -> Path:
    return media.make(path, size=NEIGHBOUR_SIZE)


_PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:4.0,\n{0}\n#EXT-X-ENDLIST\n"
_SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)


# --- not quite files ---


def outside(folder: Path) -> Path:
    """The video that no input of the corpus may reach."""
    return folder / "out" / "secret.mp4"


def _image(path: Path) -> None:
    ok, data = cv2.imencode(".jpg", np.full((180, 320, 3), 90, np.uint8))
    assert ok
    path.write_bytes(data.tobytes())


def _cover_art(path: Path) -> None:
    """Sound with one attached picture, which libavformat presents as a video stream."""
    cover = path.with_name(".cover.jpg")
    _image(cover)
    tone = ffmpeg.input("sine=frequency=440:sample_rate=44100", f="lavfi", t=4)
    options = {"acodec": "aac", "vcodec": "copy", "disposition:v:0": "attached_pic", "flags:a": "+bitexact"}
    media.run(ffmpeg.output(tone, ffmpeg.input(str(cover)), str(path), fflags="+bitexact", **options))
    cover.unlink()


def _one_pixel(path: Path) -> None:
    stream = media.picture("testsrc2", seconds=3, size=(64, 64)).filter("format", "gray")
    media.write(path, stream.filter("scale", 1, 1), vcodec="ffv1", pix_fmt="gray")


_FASTSTART = {"movflags": "+faststart"}
_BEHIND_ZERO = {"output_ts_offset": -1.5, "avoid_negative_ts": "disabled"}

POISON: tuple[Poison, ...] = (
    # name, builder, expected
    Poison("zero-bytes.mp4", lambda path: path.write_bytes(b""), Reason.EMPTY),
    Poison("random-bytes.mp4", _noise, Reason.NOT_MEDIA),
    Poison("image.mp4", _image, Reason.UNSUPPORTED_FORMAT),
    Poison("no-moov.mp4", _forge(lambda data: data[: len(data) // 2]), Reason.BROKEN),
    Poison("truncated.mp4", _forge(_keep_share(0.3), **_FASTSTART), Reason.BROKEN),
    Poison("last-frames-cut.mp4", _forge(_keep_share(0.97), **_FASTSTART), None),
    Poison("bits-flipped.mp4", _forge(_flip_bits(5)), Reason.NO_CLIP),
    Poison("garbage-payload.mp4", _forge(_garbage(0.8)), Reason.BROKEN),
    Poison("audio-only.m4a", media.audio_only, Reason.NO_VIDEO),
    Poison("cover-art.m4a", _cover_art, Reason.NO_VIDEO),
    Poison("header-only.mp4", _forge(_header_only, movflags="+empty_moov+frag_keyframe"), Reason.NO_FRAMES),
    Poison("unknown-codec.mp4", _forge(_unknown_codec), Reason.UNSUPPORTED_CODEC),
    Poison("negative-timestamps.mp4", _remux({"seconds": 4.5}, **_BEHIND_ZERO), None),
    Poison("third-untimed.mkv", _remux({"seconds": 4.5}, **_BEHIND_ZERO), Reason.BAD_TIMESTAMPS),
    Poison("no-timestamps.h264", lambda path: media.make(path, f="h264"), None),
    Poison("clock-wraps.ts", _remux({"crf": 22}, output_ts_offset=95441.7 - 1.4), None),
    Poison("equal-timestamps.mkv", _remux({"bf": 0}, **{"bsf:v": "setts=ts=0"}), Reason.BAD_TIMESTAMPS),
    Poison(
        "backward-timestamps.mkv",
        _remux({"bf": 0}, **{"bsf:v": "setts=pts=(200-N)*512:dts=0"}),
        Reason.BAD_TIMESTAMPS,
    ),
    Poison("says-3-hours.mkv", _forge(_claim_in_matroska(3 * 3600.0), crf=23), None),
    Poison("says-100-ms.mp4", _forge(lambda data: boxes.claim_duration(data, 0.1)), None),
    Poison("neighbour.mp4", _neighbour, None),
    Poison("neighbour.ts", lambda path: media.make(path, size=NEIGHBOUR_SIZE), None),
    Poison("playlist.m3u8", _text(_PLAYLIST.format("neighbour.ts")), Reason.FORBIDDEN_FORMAT),
    Poison("playlist.mp4", _text(_PLAYLIST.format("./neighbour.ts")), Reason.FORBIDDEN_FORMAT),
    Poison("ffconcat.mp4", _text("ffconcat version 1.0\nfile neighbour.mp4\n"), Reason.FORBIDDEN_FORMAT),
    Poison("session.mp4", _text(_SDP), Reason.FORBIDDEN_FORMAT),
    Poison("alias-reference.mov", _external_reference("alis"), Reason.NO_FRAMES),
    Poison("url-reference.mov", _external_reference("url "), Reason.BROKEN),
    Poison(
        "pixel-bomb.mp4",
        _forge(_pixel_bomb, seconds=0.04, size=(16384, 8192), source="black", preset="ultrafast", crf=51),
        Reason.TOO_MANY_PIXELS,
    ),
    Poison("frame-bomb.mp4", _forge(_frame_bomb, seconds=0.04, crf=36), Reason.CPU_LIMIT),
    Poison("single-frame.mp4", lambda path: media.make(path, seconds=0.04), Reason.TOO_SHORT),
    Poison("one-pixel.mkv", _one_pixel, Reason.NO_CLIP),
    Poison("pipe.mp4", lambda path: os.mkfifo(path), Reason.NOT_A_FILE),
    Poison("folder.mp4", lambda path: path.mkdir(), Reason.NOT_A_FILE),
    Poison("link-outside.mp4", _link_outside, Reason.OUTSIDE),
    Poison("link-broken.mp4", lambda path: path.symlink_to("nowhere.mp4"), Reason.UNREADABLE),
    Poison("fault-segfault.mp4", _valid, Reason.CRASHED),
    Poison("fault-hang.mp4", _valid, Reason.TIMED_OUT),
    Poison("fault-spin.mp4", _valid, Reason.CPU_LIMIT),
    Poison("fault-balloon.mp4", _valid, Reason.MEMORY_LIMIT),
)

EXPECTED: Mapping[str, Reason | None] = {poison.name: poison.expected for poison in POISON}


def build(folder: Path) -> dict[str, Path]:
    """Write the corpus to `folder/in`, which must not exist, and return the path of every entry by name."""
    inputs = folder / "in"
    inputs.mkdir(parents=True)
    outside(folder).parent.mkdir()
    media.make(outside(folder), size=(224, 128))
    paths = {poison.name: inputs / poison.name for poison in POISON}
    for poison in POISON:
        poison.build(paths[poison.name])
    return paths


@functools.cache
def corpus() -> dict[str, Path]:
    """The corpus, built once per process and shared: do not write to it."""
    return build(media.session_folder() / "poison")
