"""Whose fault an exception in the decoder child is: the data's, the machine's or ours. Used by `child.py` alone.

Damaged input makes PyAV raise far more than its `FFmpegError`: UnicodeDecodeError from metadata, ValueError from a
format without a name, OverflowError from a time base, assertions of its own. What counts is where it was raised: inside
PyAV while it reads, or by OpenCV, it is the data's; in our code, in a filter or while a clip is being encoded, ours.
"""

from __future__ import annotations

import resource
import traceback
from types import FrameType

from curation.contract import Reason, Verdict

_READER = "curation.media.sandbox.handle"
"""Our file object: what it raises is the disk's."""

_MAKING = (
    "curation.media.encode",
    "curation.media.still.encode",
    "curation.media.sound.track",
    "av.container.output",
    "av.codec.hwaccel",
    "av.filter",
)
"""Modules and packages where PyAV is asked to make something: a failure there is not the video's."""


def verdict_of(error: Exception) -> Verdict:
    """The verdict on the video for an exception that ended its request; use it in an `except` block."""
    if isinstance(carried := getattr(error, "verdict", None), Verdict):
        return carried  # `probe.Unfit`
    if isinstance(error, MemoryError):
        limit = max(resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
        return Verdict(Reason.MEMORY_LIMIT, float(limit >> 20))
    names = [_module(frame) for frame, _ in traceback.walk_tb(error.__traceback__)]
    said = f"{type(error).__name__}: {error}"[:300]
    if names and names[-1] == _READER and isinstance(error, OSError):
        return Verdict(Reason.UNREADABLE, detail=said)
    if of_the_data(type(error).__module__, names):
        return Verdict(Reason.BROKEN, detail=said)
    return Verdict(Reason.INTERNAL, detail=traceback.format_exc(limit=-4))


def of_the_data(kind: str, names: list[str]) -> bool:
    """Whether an exception whose class is of module `kind`, raised through modules `names`, tells of damaged input."""
    if not names or any(name == ours or name.startswith(f"{ours}.") for name in names for ours in _MAKING):
        return False
    return kind.split(".")[0] in ("av", "cv2") or names[-1].split(".")[0] == "av"


def _module(frame: FrameType) -> str:
    """The module of a frame's code. PyAV's compiled code has no globals there, but the file that it was made from."""
    return frame.f_globals.get("__name__") or frame.f_code.co_filename.removesuffix(".py").replace("/", ".")
