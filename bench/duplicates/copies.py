"""Shots of labelled videos, and what others make of a clip before it is met again: the sample frames of each copy.

A copy is made of all frames of a shot, and its sample frames are what the measuring pass would leave of it: first,
middle and last, at most 640 pixels long, through JPEG.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from curation.embed.likeness import Look

Frames = Sequence[np.ndarray]
SIDE = 640
LEAST_S, MOST_S = 2.0, 7.5


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A shot of a video: its frames, BGR, and how many there are in a second."""

    video: str
    first: int
    fps: float
    frames: Frames

    @property
    def name(self) -> str:
        return f"{self.video}:{self.first}"


def shots(videos: Path, names: Collection[str] = ()) -> Iterator[Shot]:
    """The shots of two seconds and more between the cuts and transitions that labels.csv names, in its order; `names`:
    of these videos alone.
    """
    with (videos / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (names and row["file"] not in names) or not (videos / row["file"]).exists():
            continue
        breaks = {int(cut) for cut in row["cut_frames"].split()}
        for span in filter(None, (part.strip().split(":")[0].strip("~") for part in row["gradual"].split(";"))):
            breaks |= {int(end) for end in span.split("-") if end.isdigit()}
        yield from _between(videos / row["file"], breaks)


def _between(path: Path, breaks: set[int]) -> Iterator[Shot]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 25)
        least, most = round(LEAST_S * fps), round(MOST_S * fps)
        first, held = 0, list[np.ndarray]()
        for number, frame in enumerate(container.decode(stream)):
            if number in breaks:
                if len(held) >= least:
                    yield Shot(path.name, first, fps, held)
                first, held = number, []
            if len(held) < most:
                held.append(_fitted(frame.to_ndarray(format="bgr24")))
        if len(held) >= least:
            yield Shot(path.name, first, fps, held)


def _fitted(frame: np.ndarray) -> np.ndarray:
    scale = SIDE / max(frame.shape[:2])
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame


def look(frames: Frames) -> Look:
    """Of the first, the middle and the last frame, as they come back from JPEG."""
    chosen = (frames[0], frames[len(frames) // 2], frames[-1])
    kept = [cv2.imencode(".jpg", _fitted(frame), [cv2.IMWRITE_JPEG_QUALITY, 88])[1] for frame in chosen]
    return Look([np.asarray(cv2.imdecode(one, cv2.IMREAD_COLOR)) for one in kept])


def encoded(codec: str, **options: str) -> Callable[[Shot], Frames]:
    """What comes back when a shot is encoded by `codec`."""

    def made(shot: Shot) -> Frames:
        height, width = (side // 2 * 2 for side in shot.frames[0].shape[:2])
        file = io.BytesIO()
        with av.open(file, "w", format="matroska") as out:
            stream: Any = out.add_stream(codec, rate=Fraction(round(shot.fps * 1000), 1000), options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in shot.frames:
                cut = np.ascontiguousarray(frame[:height, :width])
                out.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="bgr24")))
            out.mux(stream.encode(None))
        file.seek(0)
        with av.open(file, "r") as back:
            return [frame.to_ndarray(format="bgr24") for frame in back.decode(video=0)]

    return made


def each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Shot], Frames]:
    """The same change of every frame; only those that become samples are changed."""

    def made(shot: Shot) -> Frames:
        return [change(shot.frames[0]), change(shot.frames[len(shot.frames) // 2]), change(shot.frames[-1])]

    return made


def cropped(share: float) -> Callable[[np.ndarray], np.ndarray]:
    def made(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        rows, columns = round(height * share / 2), round(width * share / 2)
        return frame[rows : height - rows, columns : width - columns]

    return made


def bordered(rows: float, columns: float) -> Callable[[np.ndarray], np.ndarray]:
    def made(frame: np.ndarray) -> np.ndarray:
        up, left = round(frame.shape[0] * rows), round(frame.shape[1] * columns)
        return cv2.copyMakeBorder(frame, up, up, left, left, cv2.BORDER_CONSTANT, value=(0, 0, 0))

    return made


def marked(frame: np.ndarray) -> np.ndarray:
    """A logo in a corner and a line of text below."""
    made = frame.copy()
    height, width = made.shape[:2]
    corner, end = (round(0.8 * width), round(0.05 * height)), (round(0.96 * width), round(0.18 * height))
    cv2.rectangle(made, corner, end, (40, 60, 230), -1)
    scale, place = width / 640, (round(0.15 * width), round(0.92 * height))
    for colour, stroke in (((0, 0, 0), 6), ((255, 255, 255), 2)):
        thick = max(1, round(stroke * scale))
        cv2.putText(made, "words below a picture", place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thick)
    return made


def lit(gain: float, gamma: float) -> Callable[[np.ndarray], np.ndarray]:
    table = np.clip(255 * gain * (np.arange(256) / 255) ** gamma, 0, 255).astype(np.uint8)
    return lambda frame: cv2.LUT(frame, table)


def noisy(frame: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(zlib.crc32(frame.tobytes())).normal(0, 8, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def half(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def rotated(degrees: float) -> Callable[[np.ndarray], np.ndarray]:
    def made(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        return cv2.warpAffine(frame, turn, (width, height), borderMode=cv2.BORDER_REFLECT)

    return made


def trimmed(start_s: float, end_s: float) -> Callable[[Shot], Frames]:
    def made(shot: Shot) -> Frames:
        return shot.frames[round(start_s * shot.fps) : len(shot.frames) - round(end_s * shot.fps)]

    return made


def middle(share: float) -> Callable[[Shot], Frames]:
    def made(shot: Shot) -> Frames:
        left = round((1 - share) / 2 * len(shot.frames))
        return shot.frames[left : len(shot.frames) - left]

    return made


COPIES: Mapping[str, Callable[[Shot], Frames]] = {
    "half the size": each(half),
    "a low bit rate": encoded("libx264", crf="38", preset="veryfast"),
    "another codec": encoded("libvpx-vp9", crf="40", b="0", deadline="realtime", **{"cpu-used": "8"}),
    "an old codec": encoded("mpeg4", qscale="12"),
    "cropped by 8 %": each(cropped(0.08)),
    "letterbox": each(bordered(0.15, 0)),
    "pillarbox": each(bordered(0, 0.15)),
    "logo and subtitle": each(marked),
    "half a second less at the start": trimmed(0.5, 0),
    "half a second less at the end": trimmed(0, 0.5),
    "mirrored": each(lambda frame: frame[:, ::-1]),
    "brighter": each(lit(1.25, 0.9)),
    "darker": each(lit(0.7, 1.1)),
    "noise": each(noisy),
}
"""What a near-duplicate is here: the fourteen of the promise."""

HARDER: Mapping[str, Callable[[Shot], Frames]] = {
    "cropped by 25 %": each(cropped(0.25)),
    "grey": each(grey),
    "turned by 8 degrees": each(rotated(8)),
    "mirrored, logo and subtitle": each(lambda frame: marked(np.ascontiguousarray(frame[:, ::-1]))),
    "the middle 40 % of the time": middle(0.4),
}
"""Not promised; measured."""
