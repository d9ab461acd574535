"""The account of a run: what became of each of its inputs, and what a fault of Ziggurat or of its set-up has cost.

The committer counts each result as it arrives; the display and the run's record show the figures; `check` proves at the
end that no input was lost.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from curation.contract import Reason, Status, scores_among
from curation.reasons import loses
from pipelines.execution.results.flow import Flows
from pipelines.stages.results import Captioned, CutDone, Embedded, MeasureDone, Result, SameContent, Scored

_REASON_NAMES = frozenset(str(reason) for reason in Reason)


BUDGET = "budget"
"""Why a clip was left to another run, in a flow."""
_NO_VALUE = "no value"
MOST_NAMED = 5
"""Lost videos that a summary names."""
MOST_CAPTIONS = 1_000_000
"""Captions that are kept in mind, to count equal ones: some hundred megabytes."""


@dataclass
class Account:
    """What became of the inputs of one run. The committer's thread counts results; the driver's counts inputs, what was
    settled before, what was recovered and what a budget has left undone. No field is written by both.

    Of captions, by block: `captioned`; `not_captioned`, for what the model said; `captions_lost`, by a fault of the
    set-up or of ours; `captions_equal`, clips whose caption another clip has got in this run too; `caption_tokens`, in
    and out; `captions_left`, clips that a budget has left to another run. Of more than a million captions only those
    that come again within a million are seen to be equal.

    Of vectors, by space: `embedded`; `not_embedded`, for what the clip is; `vectors_lost`, by a fault of the set-up or
    of ours.
    """

    inputs: int = 0
    recovered: int = 0
    settled_before: int = 0
    same_content: int = 0
    done: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    rejected: int = 0
    clips: int = 0
    clip_hours: float = 0.0
    source_hours: float = 0.0
    decoded: int = 0
    scored: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    cut_failed: Counter[str] = field(default_factory=Counter)
    cut_bytes: int = 0
    cut_without_sound: Counter[str] = field(default_factory=Counter)
    not_scored: Counter[str] = field(default_factory=Counter)
    captioned: Counter[str] = field(default_factory=Counter)
    not_captioned: Counter[str] = field(default_factory=Counter)
    captions_lost: Counter[str] = field(default_factory=Counter)
    captions_equal: Counter[str] = field(default_factory=Counter)
    caption_tokens: Counter[str] = field(default_factory=Counter)
    caption_usd: float = 0.0
    captions_left: Counter[str] = field(default_factory=Counter)
    embedded: Counter[str] = field(default_factory=Counter)
    not_embedded: Counter[str] = field(default_factory=Counter)
    vectors_lost: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    """Files that the folders hold and that were not taken, by extension; no inputs."""
    sidecars_lost: Counter[str] = field(default_factory=Counter)
    """Files with captions beside videos that could not be read, by why."""

    def __post_init__(self) -> None:
        self._captions: Counter[tuple[str, int]] = Counter()  # no field: it is no figure of the run's record
        self.flows = Flows()  # nor is this: it has a place of its own there
        self.lost_videos: list[str] = []  # nor this: a record would keep names that are taken down

    @property
    def losses(self) -> dict[str, int]:
        """What a fault of Ziggurat or of its set-up has cost this run: how many of what, by reason."""
        videos = {f"videos: {reason}": count for reason, count in self.reasons.items() if loses(reason)}
        # A clip was decoded when it was measured: what keeps it from being cut is its data only where a reason says so.
        clips = {f"clips not cut: {why}": count for why, count in self.cut_failed.items() if not _of_data(why)}
        failed = {what: count for what, count in self.not_scored.items() if loses(what.rpartition(": ")[2])}
        captions = {f"captions: {what}": count for what, count in self.captions_lost.items()}
        vectors = {f"vectors: {what}": count for what, count in self.vectors_lost.items()}
        sidecars = {f"sidecars: {why}": count for why, count in self.sidecars_lost.items()}
        scores = {f"scores: {what}": count for what, count in failed.items()}
        return {**videos, **clips, **scores, **captions, **vectors, **sidecars}

    @property
    def left_undone(self) -> dict[str, int]:
        """What the next run has to do, for a budget of this one is used up."""
        return {f"captions: {block}": count for block, count in self.captions_left.items() if count}

    @property
    def exit_code(self) -> int:
        """0 where nothing was lost by a fault of Ziggurat or its set-up, and all was done, else 1."""
        return 1 if self.losses or self.left_undone else 0

    @property
    def finished(self) -> int:
        return self.settled_before + self.same_content + self.done + self.rejected + self.quarantined

    def check(self) -> None:
        """Every input has ended in exactly one way."""
        if self.finished != self.inputs:  # no `assert`: it has to hold under `python -O` as well
            raise AssertionError(f"{self.inputs} inputs, but {self.finished} outcomes: {self}")

    def add(self, result: Result) -> None:
        match result:
            case MeasureDone():
                self._measured(result)
            case SameContent():
                self.same_content += 1
                self.flows.now.count(1)
            case Scored():
                self._passed(result)
                for score in scores_among(result.table.column_names):
                    whys = [why for why in result.table[f"{score}_why"].to_pylist() if why]
                    lost = [why for why in whys if result.failed or loses(why)]
                    self.not_scored.update(f"{score}: {why.partition(':')[0]}" for why in lost)
                    if result.failed is None:
                        self.scored[score] += result.clips - len(lost)
            case CutDone():
                self.cut += len(result.cut)
                self.cut_bytes += result.bytes
                self.decoded += result.decoded
                self.cut_failed.update(why.partition(":")[0] for why in result.failed.values())
                self.cut_without_sound.update(why.partition(":")[0] for why in result.without_sound.values())
                self.flows.now.count(len(result.cut), result.failed.values(), result.bytes)
            case Captioned():
                self._captioned(result)
            case Embedded():
                self.embedded[result.space] += 0 if result.vectors is None else result.vectors.num_rows
                counts = self.not_embedded if result.fault is None else self.vectors_lost
                whys = [] if result.none is None else result.none["why"].to_pylist()
                counts.update(f"{result.space}: {why.partition(':')[0]}" for why in whys)
                written = 0 if result.vectors is None else result.vectors.nbytes
                self.flows.now.count(0 if result.vectors is None else result.vectors.num_rows, whys, written)

    def _passed(self, result: Scored) -> None:
        """Clips come out of a filter where its first score has a value."""
        score = scores_among(result.table.column_names)[0]
        rows = result.table.select([score, f"{score}_why"]).to_pylist()
        whys = [row[f"{score}_why"] or _NO_VALUE for row in rows if row[score] is None]
        self.flows.now.count(len(rows) - len(whys), whys)

    def _captioned(self, result: Captioned) -> None:
        if result.clips is None:
            self.flows.now.count(0, [BUDGET] * result.left)
            return
        self.caption_tokens["in"] += result.tokens_in
        self.caption_tokens["out"] += result.tokens_out
        self.caption_usd += result.usd
        counts = self.not_captioned if result.fault is None else self.captions_lost
        rows = result.clips.select(["caption", "caption_why"]).to_pylist()
        whys = [row["caption_why"] for row in rows if row["caption"] is None]
        self.flows.now.count(len(rows) - len(whys), whys)
        for row in rows:
            if row["caption"] is None:
                counts[f"{result.block}: {row['caption_why'].partition(':')[0]}"] += 1
                continue
            self.captioned[result.block] += 1
            key = (result.block, hash(row["caption"]))  # a text of a million clips would be a gigabyte
            self._captions[key] += 1
            if len(self._captions) > MOST_CAPTIONS:  # what came once so far, is forgotten: it may come again unseen
                self._captions = Counter({key: count for key, count in self._captions.items() if count > 1})
            if (same := self._captions[key]) > 1:
                self.captions_equal[result.block] += 2 if same == 2 else 1

    @property
    def commonest_caption(self) -> int:
        """How many clips have got one and the same caption in this run."""
        return max(self._captions.values(), default=0)

    def _measured(self, result: MeasureDone) -> None:
        self.decoded += result.decoded
        row = result.video
        self.source_hours += (row["duration_s"] or 0.0) / 3600
        is_done = row["status"] == Status.DONE
        self.flows.now.count(int(is_done), [] if is_done else [str(row["reason"])], row["bytes"] or 0)
        match row["status"]:
            case Status.DONE:
                self.done += 1
            case Status.REJECTED:
                self.rejected += 1
                self.reasons[row["reason"]] += 1
            case Status.QUARANTINED:
                self.quarantined += 1
                self.reasons[row["reason"]] += 1
        if not is_done and loses(row["reason"]) and len(self.lost_videos) < MOST_NAMED:
            because = f" ({row['detail']})" if row.get("detail") else ""
            self.lost_videos += [f"{name}: {row['reason']}{because}" for name in row["uris"][:1]]
        if result.clips is not None and not result.refreshed:
            self.clips += result.clips.num_rows
            lengths = zip(result.clips["frames"].to_pylist(), result.clips["fps"].to_pylist(), strict=True)
            self.clip_hours += sum(frames / fps for frames, fps in lengths if fps is not None) / 3600


def _of_data(why: str) -> bool:
    return why in _REASON_NAMES and not loses(why)
