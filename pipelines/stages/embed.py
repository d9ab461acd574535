"""The embedding stage: ClipsToEmbed -> Embedded, by one embedder, of stored sample frames or of captions.

A vector and the reason why there is none are rows of their own, and change no clip. What raises here, `attempts` tries
again clip by clip, and `EmbedStage.give_up` says what is written of the one that fails again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curation.contract import Space, Verdict, embeddings_schema
from curation.embed.base import Embedder, Made, OfPictures, OfTexts
from curation.filters.base import NO_SAMPLES
from curation.media.plan import Limits
from curation.media.sandbox.sandbox import Sandbox
from curation.spaces import UNEMBEDDED, mark
from pipelines.stages.base import Report
from pipelines.stages.results import Embedded, why_of
from pipelines.stages.score import decoded


@dataclass(frozen=True, slots=True)
class ClipsToEmbed:
    """Clips that want a vector, and the video of each; `captions`: theirs, "" where the space is not of captions."""

    clip_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def part(self, start: int, stop: int) -> ClipsToEmbed:
        """See `base.Divisible`."""
        return ClipsToEmbed(self.clip_ids[start:stop], self.video_ids[start:stop], self.captions[start:stop])


@dataclass(frozen=True, slots=True)
class EmbedStage:
    """Settings of `Embed`. `by`: whose vectors these are; `make` makes the embedder in the worker; `limits` are those
    of decoding sample frames.
    """

    pyramid: Any
    space: Space
    by: str
    make: Callable[[], Embedder]
    limits: Limits = field(default_factory=Limits)

    def __call__(self) -> Embed:
        return Embed(self, self.make())

    def give_up(self, item: ClipsToEmbed, verdict: Verdict) -> Embedded:
        """The result of clips that no vector can be made of by a fault of ours, or of the set-up."""
        why = why_of(verdict)
        none = reasons(self.space, self.by, item, [why] * len(item))
        return Embedded(self.space.name, len(item), none=none, fault=why, videos=item.video_ids)


class Embed:
    """See the module. Sample frames were made by a decoder that met a stranger's video, so they are decoded in the
    sandbox.
    """

    def __init__(self, settings: EmbedStage, embedder: Embedder) -> None:
        assert (embedder.by, embedder.width) == (settings.by, settings.space.width), embedder.by
        self._set, self._embedder = settings, embedder
        self._sandbox = Sandbox(settings.limits)

    def __call__(self, item: ClipsToEmbed, report: Report) -> Embedded:
        space = self._set.space
        report(f"{space.name}: {len(item)} clips", 0)
        made = self._of_captions(item) if space.of_caption else self._of_frames(item)
        assert len(made) == len(item), "an embedder gives one answer for each clip"
        return Embedded(
            space.name,
            len(item),
            vectors(space, self._set.by, item, made),
            reasons(space, self._set.by, item, [one if isinstance(one, str) else None for one in made]),
        )

    def close(self) -> None:
        """End the decoder."""
        self._sandbox.close()

    def _of_captions(self, item: ClipsToEmbed) -> list[Made]:
        assert isinstance(self._embedder, OfTexts), self._set.space
        return self._embedder.texts(item.captions)

    def _of_frames(self, item: ClipsToEmbed) -> list[Made]:
        assert isinstance(self._embedder, OfPictures), self._set.space
        stored = dict(self._set.pyramid.samples(item.clip_ids))
        frames = [tuple(stored.get(clip_id, ())) for clip_id in item.clip_ids]
        pictures = decoded(self._sandbox, frames, item.clip_ids[0])
        made = iter(self._embedder.pictures([clip for clip in pictures if clip]))
        return [next(made) if clip else NO_SAMPLES for clip in pictures]


def vectors(space: Space, by: str, item: ClipsToEmbed, made: Sequence[Made]) -> pa.Table | None:
    """The rows of `embeddings/SPACE` for those clips that have a vector; None where none has."""
    there = [(index, one) for index, one in enumerate(made) if not isinstance(one, str)]
    if not there:
        return None
    flat = np.concatenate([one for _, one in there]).astype(np.float16)
    columns = [
        pa.array([item.clip_ids[index] for index, _ in there]),
        pa.array([space.name] * len(there)),
        pa.array([by] * len(there)),
        *([pa.array([mark(item.captions[index]) for index, _ in there])] if space.of_caption else []),
        pa.FixedSizeListArray.from_arrays(pa.array(flat), space.width),
    ]
    return pa.Table.from_arrays(columns, schema=embeddings_schema(space))


def reasons(space: Space, by: str, item: ClipsToEmbed, whys: Sequence[str | None]) -> pa.Table | None:
    """The rows of `unembedded` for those clips that have a reason; None where none has."""
    rows = [
        {
            "clip_id": item.clip_ids[index],
            "space": space.name,
            "by": by,
            "of": mark(item.captions[index]) if space.of_caption else None,
            "why": why,
        }
        for index, why in enumerate(whys)
        if why is not None
    ]
    return pa.Table.from_pylist(rows, schema=UNEMBEDDED) if rows else None
