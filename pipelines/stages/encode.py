"""The encoding stage: SamplesToEncode -> EncodeDone, in a worker that has the encoders of a model.

stored bytes, compared with the manifest's hash -> frames of the bucket, in the sandbox -> encoders -> rows written

`DescribeStage` comes before it and says who the encoders are, where they will run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.contract import Reason, Verdict
from curation.errors import UserError
from curation.media.plan import Limits
from curation.media.sandbox.sandbox import Sandbox
from curation.pyramid.storage.locks import writing
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from pipelines.encoding.latents import Latents
from pipelines.frames.stored import Stored, fitted, is_dead, stored
from pipelines.stages.base import Report
from pipelines.stages.results import why_of

if TYPE_CHECKING:
    from training.data.latent_file import Encoders
    from training.models.build import ModelSpec


@dataclass(frozen=True, slots=True)
class SamplesToEncode:
    """Rows of a manifest, each with its number as `sample`."""

    rows: tuple[Mapping[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> SamplesToEncode:
        """See `base.Divisible`."""
        return SamplesToEncode(self.rows[start:stop])


@dataclass(frozen=True, slots=True)
class EncodeDone:
    """Samples that have rows, which `ticket` stands for, and for each other why it has none. `truncated`: prompts that
    lost their end; `frames`, `bytes`: decoded, and of the rows.
    """

    samples: tuple[int, ...] = ()
    ticket: str = ""
    failed: Mapping[int, str] = field(default_factory=dict)
    truncated: int = 0
    frames: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class DescribeStage:
    """Settings of `Describe`, which loads the encoders, reads their weights, and encodes an empty prompt."""

    model: ModelSpec

    def __call__(self) -> Describe:
        return Describe(self.model)


class Describe:
    """A model's name -> its `Encoders`."""

    def __init__(self, model: ModelSpec) -> None:
        self._model = model

    def __call__(self, item: str, report: Report) -> Encoders:
        from training.data.encoder import Encoder

        report(item, 0)
        return Encoder(self._model).about()


@dataclass(frozen=True, slots=True)
class EncodeStage:
    """Settings of `Encode`. `media`: the version of the clips' bytes to read; `encoders`: who must make the latents;
    `by`: what the rows are marked with; `seed`: the manifest's.
    """

    pyramid: Pyramid
    media: int | None
    latents: Latents
    model: ModelSpec
    encoders: tuple[str, str]
    by: str
    seed: int
    limits: Limits

    def __call__(self) -> Encode:
        return Encode(self)

    def give_up(self, item: SamplesToEncode, verdict: Verdict) -> EncodeDone:
        """Samples that no worker survives, or that raise."""
        return EncodeDone(failed={row["sample"]: why_of(verdict) for row in item.rows})


class Encode:
    """SamplesToEncode -> EncodeDone. UserError where this worker's encoders are not those of the others."""

    def __init__(self, settings: EncodeStage) -> None:
        from training.data.encoder import Encoder

        self._set = settings
        self._sandbox = Sandbox(settings.limits)
        self._encoder = Encoder(settings.model)
        about = self._encoder.about()
        if (about.autoencoder, about.text) != settings.encoders:
            told = "a worker has other weights, or makes other states, than the one that looked first"
            raise UserError(told, "give every node of the cluster the same files, packages and kind of GPU")

    def __call__(self, item: SamplesToEncode, report: Report) -> EncodeDone:
        from training.data.latent_file import row as row_of

        known = tombstones.read(self._set.pyramid.files)
        found = stored(self._set.pyramid, self._set.media, item.rows, known)
        rows: list[dict[str, Any]] = []
        failed: dict[int, str] = {}
        before, decoded = self._encoder.truncated, 0
        for sample, frames in self._ahead(item, found, known):
            report(f"sample {sample['sample']}", decoded)
            if isinstance(frames, Verdict):
                failed[sample["sample"]] = why_of(frames)
                continue
            decoded += len(frames)
            encoded, prompt = self._encoder(sample["sample"], sample, frames, self._set.seed)
            rows.append(row_of(sample, encoded, prompt, self._set.by))
        size = sum(len(value) for row in rows for value in row.values() if isinstance(value, bytes))
        truncated = self._encoder.truncated - before
        return self._written(item, rows, EncodeDone((), "", failed, truncated, decoded, size))

    def _ahead(
        self, item: SamplesToEncode, found: Mapping[str, Stored], dead: frozenset[str]
    ) -> Iterator[tuple[Mapping[str, Any], np.ndarray | Verdict]]:
        """Each sample with its frames; those of the next are decoded while this one is encoded."""
        with ThreadPoolExecutor(1, "decoding") as thread:
            coming: deque[tuple[Mapping[str, Any], Future[np.ndarray | Verdict]]] = deque()
            for sample in item.rows:
                clip = found.get(sample["clip_id"])
                coming.append((sample, thread.submit(fitted, self._sandbox, sample, clip, dead)))
                if len(coming) > 1:
                    first, frames = coming.popleft()
                    yield first, frames.result()
            for last, frames in coming:
                yield last, frames.result()

    def _written(self, item: SamplesToEncode, rows: list[dict[str, Any]], done: EncodeDone) -> EncodeDone:
        """Write the rows, but of what was taken down meanwhile."""
        with writing(self._set.pyramid.uri):
            dead, failed = tombstones.read(self._set.pyramid.files), dict(done.failed)
            for sample in item.rows:
                if is_dead(sample, dead):
                    failed[sample["sample"]] = str(Reason.TAKEN_DOWN)
            rows = [row for row in rows if row["sample"] not in failed]
            ticket = self._set.latents.write(rows) if rows else ""
        return replace(done, samples=tuple(row["sample"] for row in rows), ticket=ticket, failed=failed)
