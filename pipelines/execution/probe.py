"""What a source comes to under a recipe: measured, scored and cut as a run would, and nothing of it kept.

For `curate --dry-run`, which tries a few. The stages run in this process one after the other, without Ray and without a
pyramid, so that what they cost is the processor time of this process and of its decoders.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from curation.contract import SCORES, Source, Verdict
from curation.errors import UserError
from curation.inputs.kinds import named_as_image
from curation.inputs.staging import Staged, stage
from curation.media.sandbox.sandbox import Sandbox
from curation.pyramid.commits import merge
from curation.pyramid.storage.lookup import chunks
from curation.pyramid.tiering.tiers import FACTS, Tiers
from curation.rows import clip_from_row, clips_table
from pipelines.config.filters import Ready
from pipelines.config.recipe import Recipe
from pipelines.curate import SCORE_CLIPS
from pipelines.doctor import hardware
from pipelines.execution.orders.cut_orders import segments
from pipelines.stages.score import SampledClips, Score

Row = dict[str, Any]
KNOWN = "known already"
"""The outcome of a source whose content the pyramid knows under another name, or that was tried under one before."""


@dataclass(slots=True)
class Probed:
    """What came of sources that were tried. `bytes`, `seconds`: of the sources; `stored`: of frames and cut clips.
    `outcomes`: `done`, `KNOWN`, or the reason, by how often. `not_scored`, `not_cut`: clips that a stage failed with.

    `cpu_s`: processor seconds of each stage; the loading of models is not in it.
    """

    sources: int = 0
    bytes: int = 0
    seconds: float = 0.0
    clips: int = 0
    kept: int = 0
    kept_s: float = 0.0
    stored: int = 0
    not_scored: int = 0
    not_cut: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    cpu_s: dict[str, float] = field(default_factory=dict)

    def count(self, source: Source, outcome: str) -> None:
        self.sources += 1
        self.bytes += source.bytes
        self.outcomes[outcome] += 1

    @contextmanager
    def spent(self, what: str) -> Iterator[None]:
        """Count the processor seconds of the block for `what`: of this process and its children."""
        before = _cpu()
        try:
            yield
        finally:
            self.cpu_s[what] = self.cpu_s.get(what, 0.0) + max(0.0, _cpu() - before)


class Probe:
    """Tries sources; a context manager. `tiers`: those that clips are scored and cut by. `knows`: whether the pyramid
    has nothing to do for a content, by its `video_id`.

    `untried`: the filters that cannot run in this process, by name, and why. What bounds their scores drops nothing.
    """

    def __init__(self, recipe: Recipe, tiers: Tiers, filters: Sequence[Ready], knows: Callable[[str], bool]) -> None:
        self._recipe, self._tiers, self._filters, self._knows = recipe, tiers, filters, knows
        self._seen: set[str] = set()
        self._sandbox = Sandbox(recipe.limits)
        self._scorers: dict[str, Score] = {}
        self.untried: dict[str, str] = {}
        for filter_ in filters:
            if (why := _cannot(filter_)) is not None:
                self.untried[filter_.name] = why
            elif filter_.make is not None:
                self._scorers[filter_.name] = Score(filter_.make(), recipe.limits)

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sandbox.close()
        for scorer in self._scorers.values():
            scorer.close()

    def __call__(self, source: Source) -> Probed:
        """Take a source through the stages. Never raises for its sake."""
        probed = Probed()
        with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
            with probed.spent("stage"):
                staged = stage(source, Path(folder))
            if isinstance(staged, Verdict):
                probed.count(source, str(staged.reason))
            elif staged.raw.video_id in self._seen or self._knows(staged.raw.video_id):
                probed.count(staged.raw.source, KNOWN)
            else:
                self._seen.add(staged.raw.video_id)
                self._measure(staged, probed)
        return probed

    def _measure(self, staged: Staged, probed: Probed) -> None:
        source = staged.raw.source
        name = source.uri.rsplit("/", 1)[-1]
        with probed.spent("measure"):
            as_image = named_as_image(source.uri)
            found = self._sandbox.measure(staged.path, name, self._recipe.plan, as_image=as_image)
        probed.count(source, "done" if found.verdict is None else str(found.verdict.reason))
        probed.seconds += (found.facts.duration_s if found.facts else None) or 0.0
        if found.verdict is not None or not found.clips:
            return
        rows = clips_table(staged.raw.video_id, self._recipe.plan, found.clips, {}).to_pylist()
        samples = {row["clip_id"]: clip.samples for row, clip in zip(rows, found.clips, strict=True)}
        probed.clips += len(rows)
        probed.stored += sum(len(frame) for frames in samples.values() for frame in frames)
        for filter_ in self._filters:
            if filter_.name in self._scorers:
                self._score(filter_, rows, samples, probed)
        if self._recipe.cut.tier is not None:
            self._cut(self._recipe.cut.tier, staged.path, name, rows, probed)

    @property
    def _unknown(self) -> set[str]:
        """The scores that could not be made here."""
        return {score for one in self._filters if one.name in self.untried for score in one.scores}

    def _score(
        self, filter_: Ready, rows: Sequence[Row], samples: dict[str, tuple[bytes, ...]], probed: Probed
    ) -> None:
        scores = (*SCORES, *self._recipe.own_scores)
        known = {*scores[: scores.index(filter_.scores[0])], *FACTS} - self._unknown
        tier = filter_.from_tier
        wanted = [row for row in rows if tier is None or self._tiers.reaches(tier, merge.values(row), known)]
        for some in chunks(wanted, SCORE_CLIPS):
            with probed.spent(filter_.name):
                if not self._scored(filter_, some, samples):  # as a run: the clips that it fails with, one by one
                    probed.not_scored += sum(not self._scored(filter_, [row], samples) for row in some)

    def _scored(self, filter_: Ready, rows: Sequence[Row], samples: dict[str, tuple[bytes, ...]]) -> bool:
        ids = tuple(row["clip_id"] for row in rows)
        item = SampledClips(ids, tuple(row["video_id"] for row in rows), tuple(samples[name] for name in ids))
        try:
            found = self._scorers[filter_.name](item, lambda what, frames: None).table.to_pylist()
        except UserError:
            raise
        except Exception:  # whatever a filter raises; in a run it becomes a null with its reason
            return False
        for row, values in zip(rows, found, strict=True):
            row |= values
        return True

    def _cut(self, tier: str, path: Path, name: str, rows: Sequence[Row], probed: Probed) -> None:
        columns = {*self._tiers.effective(tier)} - self._unknown
        kept = [clip_from_row(row) for row in rows if self._tiers.reaches(tier, merge.values(row), columns)]
        probed.kept += len(kept)
        probed.kept_s += sum(clip.frames / clip.fps for clip in kept if clip.fps is not None)
        for clips in segments(kept):
            with probed.spent("cut"):
                done = self._sandbox.cut(path, name, clips, self._recipe.plan, self._recipe.encoding)
            probed.stored += sum(len(content) for _, content in done.media)
            probed.not_cut += len(clips) - len(done.media)


def _cannot(filter_: Ready) -> str | None:
    """Why this process cannot run a filter of the recipe."""
    if filter_.make is None:
        return None  # it is off: its score stays null in a run, too
    if filter_.python is not None:
        return "it has an environment of its own"
    return "no GPU on this machine" if filter_.gpus and not hardware.gpus() else None


def _cpu() -> float:
    """Of this process, of the children that it has waited for, and of those that are at work."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total
