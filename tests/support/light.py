"""Videos whose colours and fields are known, and how a player would show an encoded clip.

Pictures go to ffmpeg as RGB; zscale (another library than the one that converts in the product) makes them HDR or wide
and reads them back by the tags of the file, matrix and range included.
"""

from __future__ import annotations

import functools
import io
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import cv2
import imageio_ffmpeg
import numpy as np

from curation.contract import Clip
from curation.media.encode import Mp4
from curation.media.plan import Encode

PATCHES = ((200, 40, 40), (40, 180, 60), (50, 60, 200), (220, 200, 60), (180, 180, 180), (90, 60, 50))
"""Colours that lie in a row across the upper half of every picture."""

_SIDE = 1536
FFV1 = ("-c:v", "ffv1")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "4", "-pix_fmt", "yuv420p")
X265_10 = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "6", "-x265-params", "log-level=none", "-tag:v", "hvc1")

UNTAGGED = ",setparams=color_primaries=unknown:color_trc=unknown:colorspace=unknown:range=unknown"
"""Put behind a filter: its pictures no longer say what they are."""

_RGB = "format=gbrp,setparams=colorspace=gbr:range=pc:color_primaries=bt709:color_trc=bt709,"


def to_yuv(
    transfer: str = "bt709", primaries: str = "bt709", matrix: str = "bt709", span: str = "tv", form: str = "yuv420p"
) -> str:
    """An ffmpeg filter from the pictures' RGB to YUV; SDR's white lies at 203 cd/m2 in HDR."""
    names = {"bt2020nc": "2020_ncl", "bt2020": "2020", "smpte170m": "170m", "bt709": "709", "bt2020-10": "2020_10"}
    t, p, m = (names.get(name, name) for name in (transfer, primaries, matrix))
    return f"{_RGB}zscale=t={t}:p={p}:m={m}:r={span}:npl=203,format={form}"


def tags(primaries: str, transfer: str, matrix: str) -> tuple[str, ...]:
    """ffmpeg's output options that write these tags."""
    return "-color_primaries", primaries, "-color_trc", transfer, "-colorspace", matrix


BT709 = tags("bt709", "bt709", "bt709")


@functools.cache
def texture(seed: int = 1, side: int = _SIDE) -> np.ndarray:
    """A smooth coloured picture (side, side, 3) with some detail, to be moved about."""
    random = np.random.default_rng(seed)
    whole = np.zeros((side, side, 3), np.float32)
    for cells, amount in ((8, 50), (64, 30), (128, 25)):
        noise = random.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        whole += amount * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(whole + 120, 16, 235).astype(np.uint8)


def moving(count: int, width: int, height: int, speed: float = 3, seed: int = 1) -> list[np.ndarray]:
    """RGB pictures of a texture that moves by `speed` pixels a picture to the left and half as many up."""
    whole = texture(seed)
    starts = [(int(i * speed) % (_SIDE - width), int(i * speed / 2) % (_SIDE - height)) for i in range(count)]
    return [whole[y : y + height, x : x + width].copy() for x, y in starts]


def patches(count: int, width: int, height: int) -> list[np.ndarray]:
    """Moving RGB pictures with `PATCHES` in the upper half."""
    pictures = moving(count, width, height)
    for picture in pictures:
        for k, colour in enumerate(PATCHES):
            picture[height // 8 : height // 2, width * k // 6 : width * (k + 1) // 6] = colour
    return pictures


def seen(picture: np.ndarray) -> np.ndarray:
    """The colours (6, 3) at the middles of the patches of an RGB picture."""
    height, width = picture.shape[:2]
    return np.stack([picture[int(height * 0.3), int((k + 0.5) / 6 * width)].astype(int) for k in range(6)])


def off(picture: np.ndarray) -> int:
    """The largest difference of a picture's patches from the true colours, in levels."""
    return int(np.abs(seen(picture) - np.array(PATCHES)).max())


def write(
    path: Path, pictures: Iterable[np.ndarray], *options: str, vf: str = "", fps: int = 25, form: str = "rgb24"
) -> Path:
    """Encode RGB (or RGBA) pictures with ffmpeg's output `options`."""
    pictures = list(pictures)
    height, width = pictures[0].shape[:2]
    head = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", form]
    size = ["-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    command = [*head, *size, *(("-vf", vf) if vf else ()), *options, str(path)]
    done = subprocess.run(command, input=b"".join(picture.tobytes() for picture in pictures), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return path


def woven(pictures: list[np.ndarray], parity: str) -> list[np.ndarray]:
    """Interlaced pictures, half as many: each holds the lines of two that follow each other."""
    made = []
    for first, second in zip(pictures[::2], pictures[1::2], strict=False):
        picture = first.copy()
        start = 1 if parity == "tff" else 0
        picture[start::2] = second[start::2]
        made.append(picture)
    return made


def frames(path: Path) -> list[av.VideoFrame]:
    """All frames as decoded."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def encoded(pictures: list[av.VideoFrame]) -> bytes:
    """The clip that the product's encoder makes of converted pictures, nearly without loss."""
    like = pictures[0]
    clip = SimpleNamespace(frames=len(pictures), fps=25.0, width=like.width, height=like.height)
    out = Mp4(cast(Clip, clip), Encode(preset="veryfast", crf=4), like)
    for picture in pictures:
        out.add(picture)
    return out.close()


def shown(clip: bytes, folder: Path) -> np.ndarray:
    """The first picture of a clip, RGB (height, width, 3), as zscale reads it by the tags in the file alone."""
    path = folder / "shown.mp4"
    path.write_bytes(clip)
    with av.open(io.BytesIO(clip), "r") as container:
        width, height = container.streams.video[0].width, container.streams.video[0].height
    command: list[Any] = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-frames:v", "1"]
    command += ["-vf", "zscale=m=gbr:r=full,format=gbrp,format=rgb24", "-f", "rawvideo", "-"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.uint8).reshape(height, width, 3)


def combing(luma: np.ndarray) -> float:
    """Difference of neighbouring lines over that of every second line: below 1 for a whole picture, above for combs."""
    lines = luma.astype(int)
    return float(np.abs(lines[1:-1] - lines[:-2]).mean() / np.abs(lines[2:] - lines[:-2]).mean())
