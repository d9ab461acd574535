"""Sources whose every picture carries its number as a bar code, in any container, codec, rate and kind of break.

`KINDS` names the ways to write one, `write` makes a source of scenes with cuts at given pictures, `numbers` reads the
codes of any file. Moving noise under the code gives an encoder something to predict, and a shot detector its cuts.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
BITS = 12
WIDTH, HEIGHT = 192, 112
_LIGHT, _DARK = 235, 20

Size = tuple[int, int]


@dataclass(frozen=True)
class Kind:
    """How a source is written: file name's end, encoder and muxer arguments, then a rewrite without encoding.

    `copy`: arguments of a second ffmpeg run that copies packets. `join`: the file is two files joined. `times`: an
    ffmpeg expression of picture N's seconds, in place of a constant rate.
    """

    suffix: str
    encode: tuple[str, ...]
    copy: tuple[str, ...] = ()
    join: str = ""
    times: str = ""
    second: Size = (WIDTH, HEIGHT)


_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-threads", "1")
_X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "20", "-pix_fmt", "yuv420p")
_QUIET = "log-level=none:pools=1"
_BFRAMES = (*_X264, "-g", "40", "-bf", "3")
_OPEN = (*_X264, "-g", "40", "-bf", "3", "-x264-params", "open-gop=1:b-adapt=0")
_REFRESH = (*_X264, "-g", "30", "-x264-params", "intra-refresh=1:bframes=0")
_MPEG2 = ("-c:v", "mpeg2video", "-q:v", "3", "-g", "15", "-bf", "2")
_MPEG4 = ("-c:v", "mpeg4", "-q:v", "3", "-g", "30", "-bf", "2")
_VP8 = ("-c:v", "libvpx", "-b:v", "1M", "-g", "50", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "1")
_VP9 = ("-c:v", "libvpx-vp9", "-b:v", "1M", "-g", "50", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "0")
_PASS = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000")

KINDS: dict[str, Kind] = {
    "mp4": Kind(".mp4", _BFRAMES),
    "mp4 open gop": Kind(".mp4", _OPEN),
    "mp4 intra refresh": Kind(".mp4", _REFRESH),
    "mp4 fragmented": Kind(".mp4", (*_BFRAMES, "-movflags", "frag_keyframe+empty_moov")),
    "mp4 edit list": Kind(".mp4", _BFRAMES, copy=("-ss", "0.9")),
    "mp4 rotated": Kind(".mp4", _BFRAMES, copy=("-display_rotation", "90")),
    "mp4 mirrored": Kind(".mp4", _BFRAMES, copy=("-display_hflip",)),
    "mp4 hevc": Kind(".mp4", (*_X265, "-x265-params", f"keyint=40:bframes=3:{_QUIET}")),
    "mp4 hevc closed": Kind(".mp4", (*_X265, "-x265-params", f"keyint=40:bframes=3:open-gop=0:{_QUIET}")),
    "mp4 mpeg4": Kind(".mp4", _MPEG4),
    "mp4 av1": Kind(".mp4", ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-b:v", "1M", "-g", "50")),
    "mp4 pause": Kind(".mp4", (*_X264, *_PASS), times="N/25+floor(N/90)*7"),
    "mp4 lost": Kind(".mp4", (*_X264, *_PASS), times="(N+3*gte(N,70))/25"),
    "mkv": Kind(".mkv", _BFRAMES),
    "mkv open gop": Kind(".mkv", _OPEN),
    "mkv intra refresh": Kind(".mkv", _REFRESH),
    "mkv pull-down": Kind(".mkv", (*_X264, *_PASS), times="floor(N*2.5)*1001/60000"),
    "mkv variable": Kind(".mkv", (*_X264, *_PASS), times="N/24+0.012*sin(N*N)"),
    "mkv hevc": Kind(".mkv", (*_X265, "-x265-params", f"keyint=40:bframes=3:{_QUIET}")),
    "mkv joined": Kind(".mkv", _BFRAMES, join="concat"),
    "mov": Kind(".mov", _BFRAMES),
    "mov prores": Kind(".mov", ("-c:v", "prores_ks", "-profile:v", "0", "-pix_fmt", "yuv422p10le")),
    "avi mpeg4": Kind(".avi", _MPEG4),
    "avi h264": Kind(".avi", (*_X264, "-g", "40", "-bf", "0")),
    "avi mjpeg": Kind(".avi", ("-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p")),
    "webm vp8": Kind(".webm", _VP8),
    "webm vp9": Kind(".webm", _VP9),
    "webm pause": Kind(".webm", (*_VP9, "-g", "400", *_PASS), times="N/25+floor(N/90)*7"),
    "webm grows": Kind(".webm", _VP8, join="concat", second=(2 * WIDTH, 2 * HEIGHT)),
    "ts": Kind(".ts", _BFRAMES),
    "ts open gop": Kind(".ts", _OPEN),
    "ts intra refresh": Kind(".ts", _REFRESH),
    "ts mpeg2": Kind(".ts", _MPEG2),
    "ts hevc": Kind(".ts", (*_X265, "-x265-params", f"keyint=40:bframes=3:{_QUIET}")),
    "ts joined": Kind(".ts", _BFRAMES, join="bytes"),
    "ts joined and grown": Kind(".ts", _BFRAMES, join="bytes", second=(2 * WIDTH, 2 * HEIGHT)),
    "m2ts": Kind(".m2ts", _BFRAMES),
    "mpg": Kind(".mpg", _MPEG2),
    "mpg h264": Kind(".mpg", _BFRAMES),
    "flv": Kind(".flv", _BFRAMES),
    "flv pause": Kind(".flv", (*_X264, *_PASS), times="N/25+floor(N/90)*0.44"),
    "flv intra refresh": Kind(".flv", _REFRESH),
    "ogv": Kind(".ogv", ("-c:v", "libtheora", "-q:v", "8", "-g", "40")),
    "h264": Kind(".h264", _BFRAMES),
    "hevc": Kind(".hevc", (*_X265, "-x265-params", f"keyint=40:bframes=3:{_QUIET}")),
}


def texture(seed: int) -> np.ndarray:
    """A grey picture of smooth noise, much larger than a frame; dark and light ones in turn."""
    random = np.random.default_rng(seed)
    ground = np.full((768, 768), 80.0 + 90 * (seed % 2), np.float32)
    for cells, amount in ((8, 40.0), (48, 25.0), (128, 15.0)):
        noise = random.uniform(-1, 1, (cells, cells)).astype(np.float32)
        ground += amount * cv2.resize(noise, (768, 768), interpolation=cv2.INTER_CUBIC)
    return np.clip(ground, 0, 255).astype(np.uint8)


def pictures(
    first: int, end: int, cuts: Sequence[int], size: Size = (WIDTH, HEIGHT), seed: int = 0
) -> Iterator[np.ndarray]:
    """Grey pictures number `first` up to `end`; a new scene begins with each number of `cuts`."""
    width, height = size
    scene, ground = -1, np.empty(0)
    for number in range(first, end):
        if (now := sum(number >= cut for cut in cuts)) != scene:
            scene, ground = now, texture(seed * 100 + now)
        x, y = _bounced(3 * number, 768 - width), _bounced(2 * number, 768 - height)
        yield stamped(ground[y : y + height, x : x + width].copy(), number)


def _bounced(value: int, most: int) -> int:
    """A way to and fro: one that jumps back would look like a cut."""
    value %= 2 * most
    return value if value < most else 2 * most - 1 - value


def stamped(picture: np.ndarray, number: int) -> np.ndarray:
    height, width = picture.shape
    block, left = width // (2 * BITS), width // 4
    rows = slice(height // 2 - height // 10, height // 2 + height // 10)
    for bit in range(BITS):
        level = _LIGHT if number >> bit & 1 else _DARK
        picture[rows, left + bit * block : left + (bit + 1) * block] = level
    return picture


def read(luma: np.ndarray) -> int:
    """The number on an upright picture of any size."""
    height, width = luma.shape
    block, left, number = width / (2 * BITS), width / 4, 0
    for bit in range(BITS):
        x = int(left + (bit + 0.5) * block)
        number |= int(luma[height // 2 - 2 : height // 2 + 3, x - 1 : x + 2].mean() > 128) << bit
    return number


def numbers(source: Path | bytes) -> list[int]:
    """The number of every picture of an upright file, in the order in which they are shown."""
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "r") as container:
        return [read(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def write(path: Path, kind: Kind, total: int, cuts: Sequence[int], fps: float | str = 25, seed: int = 0) -> Path:
    """A source of `total` pictures of this kind at `path`, which gets the kind's suffix. A joined one joins at 55 %."""
    path = path.with_suffix(kind.suffix)
    if kind.join:
        middle = total * 55 // 100
        parts = [path.with_name(f"{path.stem}-{n}{kind.suffix}") for n in range(2)]
        _encode(parts[0], kind, pictures(0, middle, cuts, seed=seed), (WIDTH, HEIGHT), fps)
        _encode(parts[1], kind, pictures(middle, total, cuts, kind.second, seed), kind.second, fps)
        join(path, parts, kind.join)
        return path
    first = path if not kind.copy else path.with_name(f"{path.stem}-whole{kind.suffix}")
    _encode(first, kind, pictures(0, total, cuts, seed=seed), (WIDTH, HEIGHT), fps)
    if kind.copy:
        run(*kind.copy, "-i", str(first), "-c", "copy", str(path))
        first.unlink()
    return path


def join(path: Path, parts: list[Path], how: str) -> None:
    if how == "bytes":
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
    else:
        names = path.with_suffix(".txt")
        names.write_text("".join(f"file '{part}'\n" for part in parts))
        run("-f", "concat", "-safe", "0", "-i", str(names), "-c", "copy", str(path))
        names.unlink()
    for part in parts:
        part.unlink()


def _encode(path: Path, kind: Kind, frames: Iterator[np.ndarray], size: Size, fps: float | str) -> None:
    filters = ("-vf", f"settb=1/90000,setpts='({kind.times})/TB'") if kind.times else ()
    raw = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{size[0]}x{size[1]}", "-r", str(fps), "-i", "-")
    data = b"".join(frame.tobytes() for frame in frames)
    run(*raw, *filters, *kind.encode, str(path), data=data)


def run(*arguments: str, data: bytes | None = None) -> None:
    done = subprocess.run([FFMPEG, "-y", "-v", "error", *arguments], input=data, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg failed: {done.stderr.decode(errors='replace')[-1000:]}")
