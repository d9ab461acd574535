"""Why a clip has no media, no score or no caption, and whether that may pass: what `media_why`, `<score>_why` and
`caption_why` say.

A failure is written as `reason: detail` with a `contract.Reason`, or of a caption with a `NoCaption`. Some say
that something of ours or of the network failed: the next run tries those clips again. The others say something of the
data, or of what a model made of it, and wait for `--retry`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType

from curation.contract import Reason
from curation.reasons import is_lost


class NoCaption(StrEnum):
    """Why a model's answers gave no caption: what `caption_why` begins with where it is no `Reason`."""

    CUT = "caption_cut"
    LOOPS = "caption_loops"
    EMPTY = "caption_empty"
    INVALID = "caption_invalid"
    DECLINED = "caption_declined"
    REFUSED = "request_refused"


_PASSING = frozenset({*filter(is_lost, Reason), Reason.TIMED_OUT})
"""Of a clip: what counts as a loss of ours, and a time-out: the clip was decoded in time when it was measured, so that
this says more of the machine than of the clip."""

TRIED_AGAIN = frozenset({Reason.UNREADABLE, Reason.INTERNAL, Reason.WORKER_LOST})
"""The same for a whole video: the next run measures it again. One that timed out then has not been decoded before."""

MEASURE_AGAIN = "measure_again"
"""Beginning of a `media_why`: the clip's row does not say enough to cut it, and curating its source again helps."""


def failure(reason: Reason | NoCaption, detail: str = "") -> str:
    """The text for a column: `reason: detail`."""
    return f"{reason}: {detail}" if detail else str(reason)


def reason_of(why: str) -> Reason | None:
    """The reason that a text of `failure` begins with; None for any other text ("filter off", say)."""
    try:
        return Reason(why.partition(":")[0])
    except ValueError:
        return None


PASSING = "passing"
LASTING = "lasting"
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        **{str(reason): PASSING if reason in _PASSING else LASTING for reason in Reason},
        **{str(reason): LASTING for reason in NoCaption},
        MEASURE_AGAIN: PASSING,
    }
)
"""The kind of a failure by what stands before the colon."""


def kind(why: str | None) -> str | None:
    """`PASSING` for a failure of ours or of the network, `LASTING` for one of the data, None for what is no failure."""
    return None if why is None else _KINDS.get(why.partition(":")[0])


def beginnings(kinds: Collection[str]) -> list[str]:
    """What stands before the colon in all failures of some kinds, sorted: `kind` goes by nothing else, so whoever
    remembers what it said can tell by them whether it would say the same today.
    """
    return sorted(begins for begins, of in _KINDS.items() if of in kinds)
