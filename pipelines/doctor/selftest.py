"""A film of one second through the decoder's process, as every video of a run will go: measured, then cut.

Part of `checks`, before the first video. What a run shares among all of its videos shows here at once: a process that
cannot start, a detector that does not load inside it, a GPU that does not decode, an encoder that does not open.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from curation.contract import Clip, Span, Verdict
from curation.errors import UserError
from curation.media.plan import ClipPlan, Encode, Limits, MediaPlan, Rules
from curation.media.results import ClipMeasure
from curation.media.sandbox.cell.confine import Level
from curation.media.sandbox.protocol import WireError
from curation.media.sandbox.sandbox import Sandbox

_NAME = "a film made for this check"
_FRAMES, _FPS = 24, 24
_WIDTH, _HEIGHT = 256, 144
_LENIENT = Rules(min_duration_s=0.0, min_bpp=0.0, min_fps=1.0, banned_profiles=())
_RATE = 48_000
_SOUND = b"mp4a"
"""What an MP4 file calls AAC."""

_TIME_S = 120.0
_REQUESTS = 2
"""That the check makes of one process."""

_REMEDY = "see `ziggurat doctor`, and the sections [shots], [sandbox], [run] and [encode] of the recipe"


@dataclass(frozen=True, slots=True)
class Tried:
    """What has been done, in words, and how far the processes that did it said they were confined: the least of it."""

    how: str
    level: Level

    @property
    def text(self) -> str:
        return f"{self.how}; {self.level.text}"


def decoder(plan: MediaPlan, encode: Encode | None, limits: Limits) -> Tried:
    """What has been done; raises `UserError` with what went wrong.

    The detector, its options and the hardware are those of `plan`, the memory that of `limits`; rules and lengths are
    lenient, for the film is short, and so are the limits on time: this is no test of how fast the machine is. `encode`
    None: nothing is cut.
    """
    limits = _lenient(limits)
    tried = MediaPlan(_LENIENT, plan.shots, ClipPlan(min_s=0.25, remove_borders=False), plan.hwaccel)
    tried = replace(tried, shots=replace(plan.shots, trim_frames=0))
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder, Sandbox(limits) as sandbox:
        film = Path(folder, "film.mp4")
        make_film(film)
        try:
            return _through(sandbox, film, tried, encode)
        except (EOFError, TimeoutError, WireError, OSError) as error:
            cause = f"the decoder's process does not start ({type(error).__name__}: {error})"
            raise UserError(cause, _REMEDY) from error


def _lenient(limits: Limits) -> Limits:
    """With time enough on a slow machine. One child serves more than one request, for it is asked for its level."""
    times = {name: max(getattr(limits, name), _TIME_S) for name in ("silence_s", "wall_s", "cpu_s")}
    return replace(limits, recycle_after=max(limits.recycle_after, _REQUESTS + 1), **times)


def _through(sandbox: Sandbox, film: Path, plan: MediaPlan, encode: Encode | None) -> Tried:
    found = sandbox.measure(film, _NAME, plan)
    if found.verdict or not found.clips:
        raise _failed("measured", found.verdict, f"{len(found.clips)} clips of it")
    levels = [_level(sandbox)]
    how = f"measures with the detector {plan.shots.detector}" + (" on a GPU" if plan.hwaccel != "none" else "")
    if encode is None:
        return Tried(how, *levels)
    clips = [_named(clip, number) for number, clip in enumerate(found.clips)]
    done = sandbox.cut(film, _NAME, clips, plan, encode)
    if done.verdict or len(done.media) != len(clips):
        raise _failed("cut", done.verdict, f"{len(done.media)} of {len(clips)} clips")
    if encode.sound != "drop" and not all(_SOUND in content for _, content in done.media):
        raise _failed("cut", None, "without its sound")
    levels.append(_level(sandbox))  # of another process, where only the encoder needs a GPU
    return Tried(f"{how}, encodes with {' and '.join(encode.encoders)}", min(levels, key=_reach))


def _level(sandbox: Sandbox) -> Level:
    assert sandbox.level is not None, "no process is left that says how far it was confined"
    return sandbox.level


def _reach(level: Level) -> tuple[bool, bool, bool]:
    """The order of levels, from the one that leaves a process the most."""
    return level.holds, level.landlock > 0, not level.gpu


def make_film(path: Path) -> None:
    """Write the film: a bright square that moves, and a tone; H.264 and AAC where there are encoders for them."""
    import av
    import av.codec

    codec = "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=_RATE) if "aac" in av.codec.codecs_available else None
        stream = container.add_stream(codec, rate=Fraction(_FPS))
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for number in range(_FRAMES):
            picture = np.full((_HEIGHT, _WIDTH, 3), 90, np.uint8)
            picture[40:100, 20 + 4 * number : 80 + 4 * number] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
        if sound is not None:
            tone = 0.1 * np.sin(np.arange(_RATE * _FRAMES // _FPS) * (2 * np.pi * 440 / _RATE))
            frame = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], "fltp", "mono")
            frame.sample_rate = _RATE
            container.mux([*sound.encode(frame), *sound.encode(None)])


def _named(clip: ClipMeasure, number: int) -> Clip:
    span = {field.name: getattr(clip, field.name) for field in fields(Span)}
    return Clip(clip_id=f"{number:032x}", video_id="0" * 32, **span)


def _failed(what: str, verdict: Verdict | None, came: str) -> UserError:
    """The last line of a detail says the most: it is the error of a stack trace, or of the process."""
    said = f"{verdict.reason}: {(verdict.detail.strip().splitlines() or [''])[-1]}".strip(": ") if verdict else came
    return UserError(f"a film made for this check cannot be {what} ({said})", _REMEDY)
