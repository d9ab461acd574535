"""What curation is compared with, in CPU-seconds; started by `bench.curate`, one process for each worker that ours has.

    python -m bench.curate.references ORDER.json     prints one JSON object

`bare` is what no curation can do without: one single-thread decode of each source, and the encoding of each clip from
pictures that are in memory already. `tools` is the sequence of single-purpose programs that older pipelines run, which
cuts every clip before it measures one. The time to start Python and to import is in neither.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import av.error
import cv2
import ffmpeg
import imageio_ffmpeg
from av.video.frame import PictureType

from curation.contract import Clip
from curation.media import cut as cutting
from curation.media.plan import Encode, Limits, MediaPlan
from curation.media.sound.track import Track
from curation.rows import clip_from_row

Costs = dict[str, float]


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    cv2.setNumThreads(1)
    print(json.dumps(_WORK[order["work"]](order)))


def bare(order: Mapping[str, Any]) -> Costs:
    """CPU-seconds of `decode` for each source path, and of `encode` for each clip id."""
    costs: Costs = {}
    for video in order["videos"]:
        started = time.process_time()
        bare_decode(video["path"])
        costs[video["path"]] = time.process_time() - started
        clips = [clip_from_row(row) for row in video["clips"]]
        if clips:
            costs |= _encode(Path(video["path"]), clips, Encode(**order["encode"]))
    return costs


def bare_decode(path: str) -> None:
    """Decode a file's video on one thread and do nothing with it."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        packets = container.demux(stream)
        for packet in packets:
            try:
                packet.decode()
            except av.error.InvalidDataError:
                continue


class _Bare:
    """Stands in for the cutting pass's file: keeps a clip's pictures, then encodes them with nothing around it."""

    costs: ClassVar[Costs] = {}

    def __init__(self, clip: Clip, encode: Encode, like: av.VideoFrame, sound: Track | None = None) -> None:
        self._clip, self._encode = clip, encode
        self._frames: list[av.VideoFrame] = []

    def add(self, frame: av.VideoFrame) -> None:
        self._frames.append(frame)

    def close(self) -> bytes:
        clip, started = self._clip, time.process_time()
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = clip.width, clip.height, "yuv420p"
        assert clip.fps is not None, "an image is no film"
        rate = Fraction(round(clip.fps))
        context.framerate = rate  # type: ignore[misc]
        context.time_base = 1 / rate
        context.thread_count = 1
        context.options = {"preset": self._encode.preset, "crf": str(self._encode.crf)}
        for number, frame in enumerate(self._frames):
            frame.pts, frame.time_base, frame.pict_type = number, context.time_base, PictureType.NONE
            context.encode(frame)
        context.encode(None)
        self.costs[clip.clip_id] = time.process_time() - started
        return b""


def _encode(path: Path, clips: list[Clip], encode: Encode) -> Costs:
    """Encode the very pictures that the cutting pass would: it runs, with its output exchanged."""
    before, cutting.Mp4, _Bare.costs = cutting.Mp4, _Bare, {}  # type: ignore[assignment,misc]
    try:
        for _ in cutting.cut(path, clips, MediaPlan(), encode, Limits().max_pixels):
            pass
    finally:
        cutting.Mp4 = before  # type: ignore[misc]
    return _Bare.costs


def tools(order: Mapping[str, Any]) -> Costs:
    """CPU-seconds of each step of the older sequence, over all videos and all of their clips."""
    spent = _Spent()
    with tempfile.TemporaryDirectory(prefix="ziggurat-bench-") as folder:
        for video in order["videos"]:
            path = video["path"]
            with spent.on("check"):
                _ffmpeg(ffmpeg.input(path, threads=1).video.output("-", format="null", threads=1))
            with spent.on("shots"):
                _detect(path, "adaptive")
            for row in video["clips"]:
                _tools_on_clip(path, row, order["encode"], Path(folder) / "clip.mp4", spent)
    return spent.by_step


def _tools_on_clip(path: str, row: Mapping[str, Any], encode: Mapping[str, Any], clip: Path, spent: _Spent) -> None:
    with spent.on("cut"):
        _ffmpeg(
            ffmpeg.input(path, ss=row["start_s"], t=row["frames"] / row["fps"], threads=1)
            .video.filter("scale", row["width"], row["height"])
            .output(str(clip), vcodec="libx264", preset=encode["preset"], crf=encode["crf"], threads=1,
                    pix_fmt="yuv420p", r=row["fps"])
        )  # fmt: skip
    with spent.on("motion"):
        _ffmpeg(ffmpeg.input(str(clip), threads=1).filter("vmafmotion").output("-", format="null", threads=1))
    with spent.on("blur"):
        _laplacians(clip)
    with spent.on("jitter"):
        _detect(str(clip), "content")


class _Spent:
    """CPU-seconds by step, of this process and of the programs it ran."""

    def __init__(self) -> None:
        self.by_step: Costs = Counter()  # type: ignore[assignment]

    @contextmanager
    def on(self, step: str) -> Iterator[None]:
        before = _cpu()
        yield
        self.by_step[step] += _cpu() - before


def _cpu() -> float:
    mine, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def _ffmpeg(output: Any) -> None:
    command = output.global_args("-v", "error", "-filter_threads", "1").overwrite_output()
    # What the program thinks of a damaged file is no concern here: it is timed on good and bad ones alike.
    subprocess.run(ffmpeg.compile(command, cmd=imageio_ffmpeg.get_ffmpeg_exe()), capture_output=True, check=False)


def _detect(path: str, kind: str) -> None:
    from scenedetect import AdaptiveDetector, ContentDetector, SceneManager, StatsManager, open_video

    manager = SceneManager(StatsManager())
    manager.add_detector(AdaptiveDetector() if kind == "adaptive" else ContentDetector())
    manager.detect_scenes(open_video(path))


def _laplacians(clip: Path) -> None:
    capture = cv2.VideoCapture(str(clip))
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    for i in range(5):
        capture.set(cv2.CAP_PROP_POS_FRAMES, int((i + 0.5) * frames / 5))
        found, picture = capture.read()
        if found:
            cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var()
    capture.release()


def ocr(order: Mapping[str, Any]) -> Costs:
    """CPU-milliseconds a clip of the text filter on stored sample frames: without text, with text, and its loading."""
    from curation.filters.ocr.table import text_area
    from curation.pyramid.store import Pyramid

    pyramid = Pyramid.open(order["pyramid"])
    stored = [frames for _, frames in pyramid.samples(pyramid.query().ids())]
    spent = _Spent()
    with spent.on("load_s"):
        measure = text_area()
        measure.measure([_pictures(stored[0])])
    texty: list[bool] = []
    took: list[float] = []
    for frames in stored:
        pictures = _pictures(frames)
        started = time.process_time()
        (measured,) = measure.measure([pictures])
        took.append(1000 * (time.process_time() - started))
        texty.append(bool(measured.value))
    return {
        "load_s": spent.by_step["load_s"],
        "ms_per_clip": sum(took) / len(took),
        "ms_without_text": _mean(ms for ms, text in zip(took, texty, strict=True) if not text),
        "ms_with_text": _mean(ms for ms, text in zip(took, texty, strict=True) if text),
        "clips": len(stored),
        "clips_with_text": sum(texty),
    }


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _pictures(frames: list[bytes]) -> list[Any]:
    import numpy as np

    return [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in frames]


_WORK: Mapping[str, Callable[[Mapping[str, Any]], Costs]] = {"bare": bare, "tools": tools, "ocr": ocr}


if __name__ == "__main__":
    main()
