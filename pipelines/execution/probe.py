"""What a few sources come to under a recipe: measured, scored and cut as a run would, and nothing of it kept.

For `curate --dry-run`. The stages run in this process one after the other, without Ray and without a pyramid, so that
what they cost is the processor time of this process and of its decoder.
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
from curation.inputs.staging import Staged, stage
from curation.media.results import ClipMeasure
from curation.media.sandbox.sandbox import Sandbox
from curation.pyramid import merge
from curation.pyramid.tiers import MEASURES
from curation.rows import clip_from_row, clips_table
from pipelines.config.filters import Ready
from pipelines.config.recipe import Recipe
from pipelines.stages.results import why_of
from pipelines.stages.score import SampledClips, Score

Row = dict[str, Any]


@dataclass(slots=True)
class Probed:
    """What came of the sources that were tried. `bytes`, `seconds`: of the sources; `stored`: of sample frames and cut
    clips. `outcomes`: `done`, or the reason, by how often.

    `cpu_s`: processor seconds of each stage; the loading of models is not in it, the start of one decoder is. `failed`:
    why a stage could not be tried, by its name.
    """

    sources: int = 0
    bytes: int = 0
    seconds: float = 0.0
    clips: int = 0
    kept: int = 0
    kept_s: float = 0.0
    stored: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    cpu_s: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def probe(recipe: Recipe, filters: Sequence[Ready], sources: Sequence[Source], tell: Callable[[str], None]) -> Probed:
    """Take `sources` through the recipe's stages. `tell` is called with the name of each before it begins."""
    probed = Probed()
    scorers = dict(_scorers(recipe, filters, probed))
    with Sandbox(recipe.limits) as sandbox:
        for source in sources:
            tell(source.uri)
            with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
                with _spent(probed, "stage"):
                    staged = stage(source, Path(folder))
                if isinstance(staged, Verdict):
                    _count(probed, source, staged)
                else:
                    _probe(_Probe(recipe, filters, scorers, sandbox, probed), staged)
    return probed


@dataclass(frozen=True, slots=True)
class _Probe:
    recipe: Recipe
    filters: Sequence[Ready]
    scorers: dict[str, Score]
    sandbox: Sandbox
    probed: Probed

    @property
    def untried(self) -> set[str]:
        """The scores that could not be made here."""
        return {score for one in self.filters if one.name in self.probed.failed for score in one.scores}


def _scorers(recipe: Recipe, filters: Sequence[Ready], probed: Probed) -> Iterator[tuple[str, Score]]:
    """The filters that this process can run, made."""
    for filter_ in filters:
        if filter_.make is None:
            continue
        if filter_.python is not None:
            probed.failed[filter_.name] = "it has an environment of its own"
            continue
        yield filter_.name, Score(filter_.make(), recipe.limits)


def _probe(run: _Probe, staged: Staged) -> None:
    recipe, probed, source = run.recipe, run.probed, staged.raw.source
    name = source.uri.rsplit("/", 1)[-1]
    with _spent(probed, "measure"):
        found = run.sandbox.measure(staged.path, name, recipe.plan)
    _count(probed, source, found.verdict)
    probed.seconds += found.facts.duration_s if found.facts else 0.0
    if found.verdict is not None or not found.clips:
        return
    rows = _rows(staged.raw.video_id, recipe, found.clips)
    samples = {row["clip_id"]: clip.samples for row, clip in zip(rows, found.clips, strict=True)}
    for filter_ in run.filters:
        if filter_.name in run.scorers:
            _score(run, filter_, rows, samples)
    probed.clips += len(rows)
    probed.stored += sum(len(frame) for frames in samples.values() for frame in frames)
    if recipe.cut.tier is not None:
        _cut(run, staged.path, name, rows)


def _rows(video_id: str, recipe: Recipe, clips: Sequence[ClipMeasure]) -> list[Row]:
    return clips_table(video_id, recipe.plan, clips, {}).to_pylist()


def _score(run: _Probe, filter_: Ready, rows: Sequence[Row], samples: dict[str, tuple[bytes, ...]]) -> None:
    tiers, tier, probed = run.recipe.pyramid_tiers, filter_.from_tier, run.probed
    scores = (*SCORES, *run.recipe.own_scores)
    known = {*scores[: scores.index(filter_.scores[0])], *MEASURES} - run.untried
    wanted = [row for row in rows if tier is None or tiers.reaches(tier, merge.values(row), known)]
    if not wanted:
        return
    ids = tuple(row["clip_id"] for row in wanted)
    item = SampledClips(ids, tuple(row["video_id"] for row in wanted), tuple(samples[name] for name in ids))
    try:
        with _spent(probed, filter_.name):
            scored = run.scorers[filter_.name](item, lambda what, frames: None).table.to_pylist()
    except UserError:
        raise
    except Exception as error:  # a filter may raise what it will; the run would write it beside the null
        probed.failed[filter_.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return
    for row, values in zip(wanted, scored, strict=True):
        row |= values


def _cut(run: _Probe, path: Path, name: str, rows: Sequence[Row]) -> None:
    """Cut what the tier keeps. A range over a score that could not be tried keeps nothing out."""
    recipe, probed = run.recipe, run.probed
    tiers, tier = recipe.pyramid_tiers, recipe.cut.tier
    assert tier is not None
    columns = {*tiers.effective(tier)} - run.untried
    kept = [row for row in rows if tiers.reaches(tier, merge.values(row), columns)]
    if not kept:
        return
    with _spent(probed, "cut"):
        done = run.sandbox.cut(path, name, [clip_from_row(row) for row in kept], recipe.plan, recipe.encoding)
    if done.verdict is not None:
        probed.failed["cut"] = why_of(done.verdict)
    probed.kept += len(kept)
    probed.kept_s += sum(row["end_s"] - row["start_s"] for row in kept)
    probed.stored += sum(len(content) for _, content in done.media)


def _count(probed: Probed, source: Source, verdict: Verdict | None) -> None:
    probed.sources += 1
    probed.bytes += source.bytes
    probed.outcomes[str(verdict.reason) if verdict else "done"] += 1


@contextmanager
def _spent(probed: Probed, what: str) -> Iterator[None]:
    """Count the processor seconds of the block for `what`: of this process and its children."""
    before = _cpu()
    try:
        yield
    finally:
        probed.cpu_s[what] = probed.cpu_s.get(what, 0.0) + max(0.0, _cpu() - before)


def _cpu() -> float:
    """Of this process, of the children that it has waited for, and of those that are at work."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total
