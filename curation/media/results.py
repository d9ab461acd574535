"""What the passes find, as it crosses from the decoder child to the stage and on to the rows.

Apart from the passes themselves, because a stage worker and a filter's own environment have no use for a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.contract import Span


@dataclass(slots=True)
class Tally:
    """What decoding one source cost so far: pictures decoded, errors, pictures that do not move forward in time, and
    pictures that damage may have reached, which are not handed out. `refused_s`: seconds of parts that a rule keeps
    out, `refused`: the first one's why.
    """

    decoded: int = 0
    damaged: int = 0
    unordered: int = 0
    suspect: int = 0
    refused_s: float = 0.0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """The pass begins again with what it has learnt of the source: clips that came before do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipMeasure(Span):
    """A finished clip without its id, and what was measured on it; `samples` are JPEG files. An image neither moves nor
    jitters: None, and its five variances are one.
    """

    motion: float | None
    jitter: float | None
    laplacian: tuple[float, ...]
    sharpness: float
    samples: tuple[bytes, ...]
