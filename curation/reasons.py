"""What each reason means, and whose doing it is: what `why`, a run's summary and docs/reasons.md say.

Beside the contract, which has their names. What the set-up or Ziggurat has lost makes a run end with exit code 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from curation.contract import Reason


class Blame(StrEnum):
    """Whose doing a reason is. What the set-up or Ziggurat has lost makes a run end with exit code 1."""

    RULE = "rule"
    DATA = "data"
    SETUP = "set-up"
    OURS = "Ziggurat"


_ABOUT: Mapping[Reason, tuple[Blame, str]] = {
    Reason.EMPTY: (Blame.DATA, "the file has zero bytes"),
    Reason.NOT_A_FILE: (Blame.DATA, "a pipe, device or folder, not a file with an end"),
    Reason.NOT_MEDIA: (Blame.DATA, "no allowed demuxer knows these bytes"),
    Reason.FORBIDDEN_FORMAT: (Blame.RULE, "a playlist or a reference to other files"),
    Reason.UNSUPPORTED_FORMAT: (Blame.RULE, "a container that Ziggurat does not take"),
    Reason.OUTSIDE: (
        Blame.RULE,
        "a name or a link that leads out of the folder that was named, or where names may not lead",
    ),
    Reason.NO_VIDEO: (Blame.DATA, "the container holds no video stream"),
    Reason.UNSUPPORTED_CODEC: (Blame.RULE, "no decoder for this codec, or no conversion of its pictures, is built in"),
    Reason.NO_FRAMES: (Blame.DATA, "not one frame could be decoded"),
    Reason.BROKEN: (
        Blame.DATA,
        "damaged or cut short: too few of the announced frames can be decoded (measured: share decoded)",
    ),
    Reason.BAD_TIMESTAMPS: (Blame.DATA, "frames without an order in time (measured: share of frames affected)"),
    Reason.TOO_MANY_PIXELS: (Blame.RULE, "frames larger than the sandbox decodes (measured: pixels)"),
    Reason.TOO_SHORT: (Blame.RULE, "shorter than the rule's minimum (measured: seconds)"),
    Reason.TOO_SMALL: (Blame.RULE, "an image smaller than the rule's minimum (measured: short side in pixels)"),
    Reason.LOW_BPP: (Blame.RULE, "fewer bits per pixel than the rule's minimum (measured: bits per pixel)"),
    Reason.LOW_FPS: (Blame.RULE, "fewer frames per second than the rule's minimum (measured: fps)"),
    Reason.BAD_ASPECT: (Blame.RULE, "width / height outside the rule's range (measured: width / height)"),
    Reason.BANNED_PROFILE: (Blame.RULE, "an H.264 profile that the rules drop"),
    Reason.INTERLACED: (
        Blame.RULE,
        "pictures of two fields, and the recipe rejects them (measured: share of combed frames)",
    ),
    Reason.HDR: (Blame.RULE, "high dynamic range, and the recipe rejects it, or it is an image"),
    Reason.NO_CLIP: (Blame.RULE, "no shot is long enough for a clip (measured: longest shot in seconds)"),
    Reason.TAKEN_DOWN: (Blame.RULE, "its content was taken down (`ziggurat forget`): counted, and not recorded"),
    Reason.OTHER_FRAMES: (Blame.OURS, "decoding again gave other frames than were measured"),
    Reason.UNREADABLE: (Blame.SETUP, "the bytes could not be read (permission, network, changed while reading)"),
    Reason.CRASHED: (Blame.DATA, "the decoder's process died by a signal (measured: signal number)"),
    Reason.TIMED_OUT: (Blame.DATA, "no progress within the limit (measured: seconds)"),
    Reason.CPU_LIMIT: (Blame.DATA, "used up its CPU seconds (measured: seconds)"),
    Reason.MEMORY_LIMIT: (
        Blame.DATA,
        "used up its memory, or an animation whose lossless film would not fit (measured: megabytes)",
    ),
    Reason.WORKER_LOST: (
        Blame.SETUP,
        "the worker was lost each time it was tried (measured: attempts), or its decoder was ended from outside",
    ),
    Reason.INTERNAL: (Blame.OURS, "a fault of Ziggurat: the detail holds where"),
}
REASONS: Mapping[Reason, str] = {reason: text for reason, (_, text) in _ABOUT.items()}
"""One line each, shown by `ziggurat why` and in docs/reasons.md."""

BLAME: Mapping[Reason, Blame] = {reason: blame for reason, (blame, _) in _ABOUT.items()}
"""Bytes that crash a decoder or eat its limits are to blame themselves: the limits are there for them. A file that
cannot be read and a worker that is lost again and again are the set-up's; frames that come out otherwise are ours."""

_NAMES = frozenset(str(reason) for reason in Reason)


def is_lost(reason: Reason) -> bool:
    """Whether Ziggurat or its set-up has lost the video: no rule refused it, and its bytes are not to blame."""
    return BLAME[reason] in (Blame.SETUP, Blame.OURS)


def loses(why: str) -> bool:
    """Whether a `media_why` or a `<score>_why` ("reason: detail") tells of a loss by Ziggurat or its set-up."""
    name = why.partition(":")[0]
    return name in _NAMES and is_lost(Reason(name))
