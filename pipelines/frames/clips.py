"""`training.data.clips.Clips` out of a pyramid: what the autoencoder's training reads, and an encoder that streams,
sample by sample.

    sample numbers -> rows of the manifest -> stored bytes -> [sandbox] -> frames

Readers call `read` from several threads. Each borrows a sandbox for as long, so no more clips are decoded at once than
there are sandboxes, and nothing is kept between two calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.contract import Verdict
from curation.errors import UserError
from curation.media.plan import Limits
from curation.media.sandbox.sandbox import Sandbox
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.shards.manifest import Frozen
from pipelines.frames.stored import Stored, fitted, is_dead, still_there, stored
from pipelines.stages.results import why_of

LEAVE_OUT = "to go on without it add {sample} to frames.leave_out"
TRIES = 2
"""Of a clip that the sandbox gives no frames of: a machine short of memory may have ended the decoder."""


class PyramidClips:
    """`Clips` of a manifest. `sandboxes`: how many decode at once. `remedy`: for a clip that gives no frames, with
    `{sample}` for its number. Close it; pickled, it starts anew elsewhere.
    """

    def __init__(
        self, pyramid: Pyramid, frozen: Frozen, limits: Limits, sandboxes: int = 1, remedy: str = LEAVE_OUT
    ) -> None:
        self._settings = pyramid, frozen, limits, sandboxes, remedy
        self._media = still_there(pyramid, frozen.manifest.versions.get("media"))
        # Last in, first out: where one keeps up, the others are never started.
        self._free: LifoQueue[Sandbox] = LifoQueue()
        for _ in range(sandboxes):
            self._free.put(Sandbox(limits))

    def read(self, samples: Sequence[int]) -> list[NDArray[np.uint8]]:
        """(T, H, W, 3) of each, RGB. UserError: a clip that is gone or cannot be decoded, with its sample's number."""
        pyramid, frozen, *_ = self._settings
        rows = frozen.samples.take(list(samples)).to_pylist()
        found = stored(pyramid, self._media, rows)
        with self._sandbox() as sandbox:
            return [
                self._frames(sandbox, sample, row, found.get(row["clip_id"]))
                for sample, row in zip(samples, rows, strict=True)
            ]

    def close(self) -> None:
        """End the sandboxes that are free: all, where nothing reads any more."""
        while not self._free.empty():
            self._free.get().close()

    def __reduce__(self) -> tuple[type[PyramidClips], tuple[Any, ...]]:
        return PyramidClips, self._settings

    @contextmanager
    def _sandbox(self) -> Iterator[Sandbox]:
        sandbox = self._free.get()
        try:
            yield sandbox
        finally:
            self._free.put(sandbox)

    def _frames(self, sandbox: Sandbox, sample: int, row: Mapping[str, Any], found: Stored | None) -> NDArray[np.uint8]:
        frames: np.ndarray | Verdict = fitted(sandbox, row, found)
        for _ in range(TRIES - 1):
            if isinstance(frames, Verdict):
                frames = fitted(sandbox, row, found)
        if isinstance(frames, Verdict):
            raise self._told(sample, row, frames)
        return frames

    def _told(self, sample: int, row: Mapping[str, Any], why: Verdict) -> UserError:
        pyramid, *_, remedy = self._settings
        named = f"sample {sample}, clip {row['clip_id']},"
        if is_dead(row, tombstones.read(pyramid.files)):
            return UserError(f"{named} was taken down since the run began", "the same command goes on without it")
        return UserError(f"{named} has no frames: {why_of(why)}", remedy.format(sample=sample))
