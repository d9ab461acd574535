"""What Prometheus is told of the pyramid and of its runs, found beside the requests and kept for a while (`counting`).

    pyramid, run records -> [counts] -> Counts -> `Fresh` -> [PyramidGauges] -> /metrics

Of runs those are told that are at work, and those that were a quarter of an hour ago: a run's series end with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from curation.pyramid.history import runs as records
from curation.pyramid.history.census import Census, census, missing
from curation.pyramid.history.runs import Run
from curation.pyramid.store import Pyramid
from pipelines.api.counting import Found, Fresh

RECENT = timedelta(minutes=15)
"""How long after its last sign a run is told that is at work no more, so that its last counts are scraped."""
NO_STAGE = "none"


@dataclass(frozen=True, slots=True)
class Counts:
    """A pyramid at one moment. `missing`: clips without a value, by score; `committed`: when each dataset was last
    written (Unix time in seconds); `runs`: the recent ones with their state (`records.state`); `past`: the ids of the
    others, which are not read again.
    """

    census: Census
    missing: Mapping[str, int]
    committed: Mapping[str, float]
    runs: tuple[tuple[Run, str], ...]
    past: frozenset[str]


def counts(pyramid: Pyramid, past: Collection[str] = (), now: datetime | None = None) -> Counts:
    """Count: some passes over columns of `clips` and `videos`. `past`: runs that are known to be over for long."""
    moment = now or datetime.now(UTC)
    recent: list[tuple[Run, str]] = []
    over = set(past)
    for run in records.listed(pyramid.files, past):
        state = records.state(run, moment)
        last = datetime.fromisoformat(run.ended or run.beat)
        if state == "running" or moment - last < RECENT:
            recent.append((run, state))
        else:
            over.add(run.run)
    return Counts(census(pyramid), missing(pyramid), _committed(pyramid), tuple(recent), frozenset(over))


def _committed(pyramid: Pyramid) -> dict[str, float]:
    latest: dict[str, Any] = {name: pyramid.dataset(name).get_version() for name in ("videos", "clips", "media")}
    return {name: version["timestamp"].timestamp() for name, version in latest.items()}


class Counting:
    """Counts a pyramid again and again, as it is then, and remembers which runs are past."""

    def __init__(self, pyramid: Callable[[], Pyramid]) -> None:
        self._pyramid, self._past = pyramid, frozenset[str]()

    def __call__(self) -> Counts:
        found = counts(self._pyramid(), self._past)
        self._past = found.past
        return found


class PyramidGauges(Collector):
    """The families, made of the latest counts at each scrape."""

    def __init__(self, counted: Fresh[Counts]) -> None:
        self._counted = counted

    def describe(self) -> Iterator[Metric]:
        """The families without a value: a registry that is made counts nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        found = self._counted.get()
        yield CounterMetricFamily(
            "ziggurat_count_failures", "Times that the pyramid could not be counted.", self._counted.failures
        )
        if found is not None:
            yield from _of_counting(found)
            yield from _of_pyramid(found.value)
            yield from _of_runs(found.value)
            yield from _of_stages(found.value)


def _of_counting(found: Found[Counts]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "ziggurat_counted_timestamp_seconds", "When the pyramid was counted; what follows is of then.", found.at
    )
    yield GaugeMetricFamily("ziggurat_count_seconds", "How long that took.", found.took_s)


def _of_pyramid(counts: Counts) -> Iterator[Metric]:
    held = counts.census
    yield GaugeMetricFamily("ziggurat_clips", "Clips of the pyramid.", held.clips)
    yield GaugeMetricFamily("ziggurat_cut_clips", "Clips whose film is there.", held.cut)
    yield _family("ziggurat_tier_clips", "Clips of a tier.", ["tier"], {(tier,): n for tier, n in held.tiers.items()})
    yield _family("ziggurat_videos", "Videos by what became of them.", ["status", "reason"], held.videos)
    lacking = {(score,): n for score, n in counts.missing.items()}
    yield _family("ziggurat_scores_missing", "Clips without a value of a score.", ["score"], lacking)
    yield _family(
        "ziggurat_last_commit_timestamp_seconds",
        "When a dataset was last written.",
        ["dataset"],
        {(name,): at for name, at in counts.committed.items()},
    )


def _of_runs(counts: Counts) -> Iterator[Metric]:
    at_work = Counter((run.stage or NO_STAGE,) for run, state in counts.runs if state == "running")
    yield _family("ziggurat_runs_at_work", "Runs at work, by their stage.", ["stage"], at_work)
    info = {(run.run, _command(run), run.stage or NO_STAGE, state.split()[0]): 1 for run, state in counts.runs}
    yield _family("ziggurat_run_info", "Recent runs; the value is 1.", ["run", "command", "stage", "state"], info)
    beats = {(run.run,): datetime.fromisoformat(run.beat).timestamp() for run, _ in counts.runs}
    yield _family("ziggurat_run_beat_timestamp_seconds", "The last sign of a run.", ["run"], beats)
    figures = {(run.run, *key): value for run, _ in counts.runs for key, value in _figures(run.account)}
    yield _family(
        "ziggurat_run_count",
        "What the account of a run counts, apart by what it is of.",
        ["run", "what", "of"],
        figures,
    )


def _of_stages(counts: Counts) -> Iterator[Metric]:
    flows = {(run.run, stage): flow for run, _ in counts.runs for stage, flow in run.stages.items()}
    labels = ["run", "stage"]

    def column(key: str) -> dict[tuple[str, ...], float]:
        return {name: flow.get(key, 0) for name, flow in flows.items()}

    for key, told in (
        ("in", "Units handed to a stage: videos while measuring, else clips."),
        ("out", "Units that a stage has brought to a result."),
        ("seconds", "Seconds that a run has spent at a stage."),
        ("bytes", "Bytes of sources read while measuring, else written."),
    ):
        yield _family(f"ziggurat_stage_{key}", told, labels, column(key), CounterMetricFamily)
    whys = {(*name, why): count for name, flow in flows.items() for why, count in flow.get("rejected", {}).items()}
    told = "Units without a result, by reason."
    yield _family("ziggurat_stage_rejected", told, [*labels, "reason"], whys, CounterMetricFamily)
    yield _family("ziggurat_stage_queue", "Units that wait or are worked on.", labels, column("queue"))
    yield _family("ziggurat_stage_workers", "Workers that a stage has.", labels, column("workers"))
    yield _family("ziggurat_stage_gpus", "GPUs that a stage's workers reserve together.", labels, column("gpus"))


def _family(
    name: str,
    told: str,
    labels: list[str],
    values: Mapping[tuple[str, ...], float],
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    family = kind(name, told, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family


def _figures(account: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    """The numbers of an account: ((field, ""), number), and of a field of several ((field, key), number)."""
    for name, value in account.items():
        if isinstance(value, Mapping):
            yield from (((name, str(key)), one) for key, one in value.items() if isinstance(one, int | float))
        elif isinstance(value, int | float):
            yield (name, ""), value


def _command(run: Run) -> str:
    """The subcommand; what follows it may name files."""
    words = list(run.command[1:])
    while words and words[0].startswith("-"):  # options of `ziggurat` itself, which have a value each
        words = words[1:] if "=" in words[0] else words[2:]
    return words[0] if words else ""
