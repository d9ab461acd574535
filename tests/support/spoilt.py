"""Numbered sources from which something is missing, or to which another part was glued, where no decoder tells.

`SPOILT` names them, `write` makes one and says which number each picture of the file has. What is predicted from
pictures that are not there shows a wrong number or smears: `error_of` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tests.support import numbered
from tests.support.numbered import Kind

_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-threads", "1")
_OPEN_X264 = (*_X264, "-g", "32", "-bf", "3", "-x264-params", "open-gop=1:b-adapt=0")
"""Numbers of H.264 go round in 16 reference pictures, as many as a group has: they tell nothing of what is glued."""
_MPEG2 = ("-c:v", "mpeg2video", "-q:v", "3", "-g", "15", "-bf", "2", "-sc_threshold", "1000000000")
_CLUSTERS = ("-cluster_time_limit", "400")
_LIVE = ("-b:v", "1M", "-g", "120", "-deadline", "realtime", "-cpu-used", "8")


@dataclass(frozen=True)
class Spoilt:
    """`kind` is written, then spoilt; `how`: bytes are cut at key packets and glued, so that groups come `back` or it
    goes `on` some groups later; pieces joined by `concat` in one clock; `clusters` or `chunks` left out.

    `apart`: pictures that may be lost for want of a clean start.
    """

    kind: Kind
    how: str
    apart: int


SPOILT: dict[str, Spoilt] = {
    "ts mpeg2 repeats": Spoilt(Kind(".ts", _MPEG2), "back", 15),
    "ts mpeg2 skips": Spoilt(Kind(".ts", _MPEG2), "on", 15),
    "ts h264 repeats": Spoilt(Kind(".ts", _OPEN_X264), "back", 32),
    "m2v repeats": Spoilt(Kind(".m2v", _MPEG2), "back", 15),
    "mkv mpeg2 concat": Spoilt(Kind(".mkv", _MPEG2), "concat", 15),
    "mkv mpeg4 lost": Spoilt(Kind(".mkv", ("-c:v", "mpeg4", "-q:v", "3", "-g", "60", *_CLUSTERS)), "clusters", 60),
    "avi mpeg4 lost": Spoilt(Kind(".avi", ("-c:v", "mpeg4", "-q:v", "3", "-g", "60")), "chunks", 60),
    "webm vp9 lost": Spoilt(Kind(".webm", ("-c:v", "libvpx-vp9", *_LIVE, *_CLUSTERS)), "clusters", 120),
}


def write(path: Path, spoilt: Spoilt, total: int, cuts: Sequence[int], seed: int) -> tuple[Path, list[int]]:
    """The spoilt file, and the number of each of its pictures in the order in which they are shown."""
    path = path.with_suffix(spoilt.kind.suffix)
    plain = numbered.write(path.with_name("whole"), Kind(".mkv", spoilt.kind.encode), total, cuts, 25, seed)
    if spoilt.how == "clusters":
        content, mark = plain.read_bytes(), b"\x1f\x43\xb6\x75"
        clusters = [at for at in range(len(content) - 4) if content[at : at + 4] == mark]
        return path, _without(plain, path, *clusters[3 + seed % 3 :: 2][:2])
    if spoilt.how == "chunks":
        copied = path.with_name(f"copy{path.suffix}")
        numbered.run("-i", str(plain), "-c", "copy", str(copied))
        chunks = [place - 8 for place, _ in _packets(copied)]
        return path, _without(copied, path, *chunks[15 + seed % 20 :: 3][:2])
    order = _order(plain)
    keys = [at for at, (_, is_key) in enumerate(_packets(plain)) if is_key]
    first_end, second = (keys[-1], keys[1]) if spoilt.how == "back" else (keys[2], keys[4])
    if spoilt.how == "concat":
        _join_pieces(plain, path, first_end, order[second])
    else:
        whole = path.with_name(f"copy{path.suffix}")
        numbered.run("-i", str(plain), "-c", "copy", str(whole))
        places = [place for place, is_key in _packets(whole) if is_key]
        content = whole.read_bytes()
        path.write_bytes(content[: places[keys.index(first_end)]] + content[places[keys.index(second)] :])
    return path, sorted(order[:first_end]) + sorted(order[second:])


def _join_pieces(plain: Path, path: Path, end: int, start: int) -> None:
    """The first `end` packets, and those from the key picture number `start` on, joined."""
    pieces = [path.with_name(f"piece{number}{path.suffix}") for number in range(2)]
    numbered.run("-i", str(plain), "-frames:v", str(end), "-c", "copy", str(pieces[0]))
    later = (start + 4) / 25  # a jump aims some pictures before what it is told
    numbered.run("-ss", str(later), "-i", str(plain), "-c", "copy", str(pieces[1]))
    numbered.join(path, pieces, "concat")


def _without(whole: Path, path: Path, start: int, end: int) -> list[int]:
    """Leave out these bytes, which hold whole packets."""
    content = whole.read_bytes()
    path.write_bytes(content[:start] + content[end:])
    held = zip(_order(whole), _packets(whole), strict=True)
    return sorted(number for number, (place, _) in held if not start <= place < end)


def _packets(path: Path) -> list[tuple[int, bool]]:
    """The place in the file of each packet, and whether it is a key one."""
    with av.open(str(path)) as container:
        return [(int(p.pos or 0), p.is_keyframe) for p in container.demux(video=0) if p.size]


def _order(path: Path) -> list[int]:
    """The number of the picture that each packet holds."""
    with av.open(str(path)) as container:
        stamps = [p.pts for p in container.demux(video=0) if p.size]
    ranks = {stamp: number for number, stamp in enumerate(sorted(stamp for stamp in stamps if stamp is not None))}
    return [ranks[stamp] for stamp in stamps if stamp is not None]


def error_of(picture: np.ndarray, original: np.ndarray) -> float:
    """The mean square error of a grey picture."""
    return float(np.mean((picture.astype(np.float32) - original) ** 2))
