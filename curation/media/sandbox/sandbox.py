"""The sandbox: a warm child process that decodes untrusted video for one stage, within limits and confined.

A stage asks it to `measure` or to `cut`; whatever happens in the decoder - a crash, a hang, a bomb - comes back as a
`Verdict` in bounded time, and the next video gets a fresh child. The child (`decoder.py` runs it, `child.py` is it) is
handed an open descriptor of its video and can open nothing itself (`confine.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from curation.contract import Clip, Facts, Kind, Reason, Verdict
from curation.media.plan import Encode, Limits, MediaPlan
from curation.media.results import ClipMeasure, Tally
from curation.media.sandbox.cell import confine
from curation.media.sandbox.decoder import Decoder, Ended
from curation.media.sandbox.protocol import UNLIKELY, Message, Setup

_FACTS = TypeAdapter(Facts)
_CLIP = TypeAdapter(ClipMeasure)
_TALLY = TypeAdapter(Tally)
_VERDICT = TypeAdapter(Verdict)

Picture = np.ndarray
"""uint8, shape (height, width, 3), BGR."""


@dataclass(frozen=True, slots=True)
class VideoMeasure:
    """What the measuring pass says of a video: facts (None if it never got that far), clips, and any verdict."""

    facts: Facts | None
    clips: tuple[ClipMeasure, ...]
    tally: Tally
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Cuts:
    """What the cutting pass made: (clip id, bytes) for every clip, an MP4 or an image, unless there is a verdict."""

    media: tuple[tuple[str, bytes], ...]
    tally: Tally
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Fit:
    """Every `interval`th frame of a clip from its first, `count` of them, cropped in the middle to the aspect of
    `height` and `width` and brought to that size; of an image, the one there is.
    """

    is_image: bool
    interval: int
    count: int
    height: int
    width: int


class Sandbox:
    """Owns one child at a time; not for use by several threads. `close` it, or use it as a context manager.

    Every call may raise `UserError`: where no child can be started, or none be confined and the limits insist on it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._child: Decoder | None = None

    @property
    def level(self) -> confine.Level | None:
        """How far the running child is confined, as it says itself; None where none runs."""
        return None if self._child is None else self._child.level

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def measure(
        self,
        path: Path,
        name: str,
        plan: MediaPlan,
        progress: Callable[[int], None] = lambda frames: None,
        as_image: bool = False,
    ) -> VideoMeasure:
        """One measuring pass over `path`; `name` is what the source is called. Never raises for the video's sake.

        `as_image`: its name is an image's (`inputs.kinds`); see `media.measure.measure`.
        """
        body = {"name": name, "plan": asdict(plan), "max_pixels": self._limits.max_pixels}
        body["image_pixels"] = self._limits.max_image_pixels if as_image else 0
        setup = self._setup(detector=plan.shots.detector, gpu=plan.hwaccel != "none")
        found = self._ask("measure", body, setup, path, progress)
        verdict = found.verdict
        if verdict is None and (found.facts is None or not found.clips):
            verdict = Verdict(Reason.INTERNAL, detail="the decoder gave neither clips nor a reason")
        return VideoMeasure(found.facts, () if verdict else tuple(found.clips), found.tally, verdict)

    def cut(
        self,
        path: Path,
        name: str,
        clips: Sequence[Clip],
        plan: MediaPlan,
        encode: Encode,
        progress: Callable[[int], None] = lambda frames: None,
    ) -> Cuts:
        """One cutting pass over `path` for `clips` of one segment. Never raises for the video's sake."""
        are_images = any(clip.kind is Kind.IMAGE for clip in clips)  # they come from one source
        body = {
            "name": name,
            "clips": [asdict(c) for c in clips],
            "plan": asdict(plan),
            "encode": asdict(encode),
            "max_pixels": self._limits.max_image_pixels if are_images else self._limits.max_pixels,
        }
        setup = self._setup(gpu=plan.hwaccel != "none" or encode.codec == "h264_nvenc")
        done = self._ask("cut", body, setup, path, progress)
        verdict = done.verdict
        asked = [clip.clip_id for clip in sorted(clips, key=lambda clip: clip.start_s)]
        if verdict is None and [clip_id for clip_id, _ in done.media] != asked:
            verdict = Verdict(Reason.INTERNAL, detail="the decoder answered for other clips than asked")
        return Cuts(() if verdict else tuple(done.media), done.tally, verdict)

    def pictures(self, files: Sequence[bytes], name: str) -> tuple[Picture | None, ...]:
        """The pictures (height, width, 3) uint8, BGR, of image files in memory (JPEG, PNG, WebP, ...), in their order.

        None for what is no image or larger than the limits allow; all None where the decoder did not survive them.
        """
        done = self._ask("pictures", {"name": name, "blobs": files}, self._setup(work="pictures"))
        whole = done.verdict is None and len(done.pictures) == len(files)
        return tuple(done.pictures) if whole else (None,) * len(files)

    def frames(self, content: bytes, name: str, first: int, count: int) -> tuple[Picture, ...]:
        """Frames `first` to `first + count` of an MP4 file that `cut` made; fewer where it ends sooner or cannot go on.

        A clip comes from the decoder, so it is as untrusted as the video: its pixels are made in there, too.
        """
        body = {"name": name, "blobs": [content], "first": first, "count": count}
        done = self._ask("frames", body, self._setup())
        return tuple(picture for picture in done.pictures if picture is not None)

    def fitted(self, content: bytes, name: str, wanted: Fit) -> np.ndarray | Verdict:
        """What a network reads of a stored clip: (frames, height, width, 3) uint8, RGB; or why there is none."""
        body = {"name": name, "blobs": [content], **asdict(wanted)}
        done = self._ask("fitted", body, self._setup())
        if done.verdict is not None:
            return done.verdict
        shape = (wanted.height, wanted.width, 3)
        whole = [picture for picture in done.pictures if picture is not None and picture.shape == shape]
        if len(whole) != wanted.count or len(done.pictures) != wanted.count:
            return Verdict(Reason.OTHER_FRAMES, float(len(whole)), f"{len(whole)} of {wanted.count} frames")
        return np.stack(whole)

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _setup(self, **options: Any) -> Setup:
        most = max(self._limits.max_pixels, self._limits.max_image_pixels)
        return Setup(os.getpid(), self._limits.memory_mb, most, **options)

    def _ask(
        self,
        kind: str,
        body: dict[str, Any],
        setup: Setup,
        path: Path | None = None,
        progress: Callable[[int], None] = lambda frames: None,
    ) -> _Answers:
        """What the child answers to one request about the file at `path`; what goes wrong is the verdict."""
        child, answers = self._ready(setup), _Answers()
        with ExitStack() as held:
            try:
                video = held.enter_context(_opened(path))
            except OSError as error:
                answers.verdict = Verdict(Reason.INTERNAL, detail=f"{type(error).__name__}: {error}")
                return answers  # nothing has been asked: the child stays
            self._hear(child.ask(kind, body, self._limits, progress, video), answers)
        if child.spent or child.served >= self._limits.recycle_after:
            self.close()
        return answers

    def _hear(self, said: Iterator[Message], answers: _Answers) -> None:
        """Take all answers to one request. A child that was not heard to the end is ended, whatever the reason is:
        the rest of its answers would be taken for those about the next video.
        """
        try:
            for message in said:
                answers.take(message)
        except Ended as ended:
            self.close()
            answers.verdict = ended.verdict
        except UNLIKELY as error:
            self.close()  # a child that lies has been taken over, or is not ours
            answers.verdict = Verdict(Reason.INTERNAL, detail=f"the decoder's answer: {type(error).__name__}: {error}")
        except OSError as error:
            self.close()
            answers.verdict = Verdict(Reason.INTERNAL, detail=f"{type(error).__name__}: {error}")
        except BaseException:
            self.close()
            raise

    def _ready(self, wanted: Setup) -> Decoder:
        """The running child where it can do what is wanted, else a new one."""
        if self._child is not None and (self._child.process.poll() is not None or not self._child.setup.serves(wanted)):
            self.close()
        if self._child is None:
            self._child = Decoder(wanted)
        if self._limits.confine == "required" and not self._child.level.holds:
            level = self._child.level
            self.close()
            confine.require(level, self._limits.confine)
        return self._child


@dataclass(slots=True)
class _Answers:
    """What a child has answered so far. Nothing that it says is believed before it has been read as what it must be."""

    facts: Facts | None = None
    clips: list[ClipMeasure] = field(default_factory=list)
    media: list[tuple[str, bytes]] = field(default_factory=list)
    pictures: list[Picture | None] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    verdict: Verdict | None = None

    def take(self, message: Message) -> None:
        """The next answer. One of `protocol.UNLIKELY` where it is not of its kind's form."""
        match message.kind:
            case "facts":
                self.facts = message.read(_FACTS)
            case "again":
                self.clips.clear()
            case "clip":
                self.clips.append(_CLIP.validate_python({**message.body, "samples": message.blobs}))
            case "media":
                (content,) = message.blobs
                self.media.append((str(message.body), content))
            case "picture":
                self.pictures.append(_picture(message))
            case "tally":
                self.tally = message.read(_TALLY)
            case "verdict":
                self.verdict = message.read(_VERDICT)
            case other:
                raise ValueError(f"no such answer: {other}")


def _picture(message: Message) -> Picture | None:
    if message.body is None:
        return None
    height, width = (int(side) for side in message.body)
    (pixels,) = message.blobs
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


@contextmanager
def _opened(path: Path | None) -> Iterator[int | None]:
    """A descriptor of the file, to be handed to the child."""
    if path is None:
        yield None
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
