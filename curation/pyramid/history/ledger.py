"""The ledger: what a pyramid knows already, so that a run does only what is left. Reads; `commit` writes.

Resumption asks, in this order: is this file known by name, size and time (`settled`: no byte is read); is its
content known (`lookup`, after hashing); which clips need one score again (`stale_videos`, `stale_clips`).
`history` answers `ziggurat why`. Memory is bounded by a batch, but for the names that `settled` looks
up (`names` says how many it holds) and the ids that `stale_videos` has given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import AMONG_OTHERS, GIVEN, Source, Status
from curation.filters.table import FRAME_SCORES
from curation.inputs import own_columns
from curation.pyramid.history import captions, vectors
from curation.pyramid.history.failures import beginnings, kind
from curation.pyramid.history.names import Names
from curation.pyramid.history.search import Question, search
from curation.pyramid.queries import conditions
from curation.pyramid.queries.conditions import Condition, Present
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import FACTS, Tiers
from curation.spaces import Space

if TYPE_CHECKING:
    import lance

_HISTORY_LIMIT = 20
_PREFIX = 4
"""Shortest beginning of an id that `history` accepts: shorter ones would also be file names."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger says of one content. `clips`: how many it has when it is done, `bytes`: its size, `job`: the run
    that settled it, `tried`: the attempt that could not judge it since, `reason`: why it is not done.
    """

    status: Status
    fingerprint: str | None
    uris: tuple[str, ...]
    attempts: int
    clips: int
    bytes: int
    job: str | None = None
    extra: str | None = None
    tried: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """Rows of `videos` and `clips` that a name means; `cut` when there are more than shown. `captions`: of the clips,
    what models said of them, and captions that have given way.
    """

    videos: tuple[dict[str, Any], ...]
    clips: tuple[dict[str, Any], ...]
    cut: bool = False
    captions: tuple[dict[str, Any], ...] = ()


class Ledger:
    """Reads the latest versions, except for `settled`, which reads the names recorded when first asked.

    `remember`: searches keep in the pyramid where they have found nothing (`search`); without it nothing is written.
    """

    def __init__(self, pyramid: Pyramid, remember: bool = False) -> None:
        self.pyramid = pyramid
        self._remember = remember
        self._names: Names | None = None

    def settled(
        self,
        sources: Iterable[Source],
        fingerprint: str,
        retry_quarantined: bool = False,
        attempt: str | None = None,
    ) -> set[Source]:
        """Those of `sources` recorded under plan `fingerprint`, or tried in vain by `attempt`, with the same uri, size
        and time: nothing to do.

        A source whose time is unknown (0) counts by name and size. What failed by a fault of ours or of the network
        (`failures.TRIED_AGAIN`) is left out; with `retry_quarantined`, all that could not be judged last time. The
        names are read once per Ledger; call it with as many batches of a listing as there are.
        """
        if self._names is None:
            self._names = Names(self.pyramid)
            if self._remember:
                self._names.keep(self.pyramid)
        return self._names.settled(list(sources), fingerprint, attempt, retry_quarantined)

    def lookup(self, video_ids: Iterable[str]) -> dict[str, Known]:
        """The ledger's rows for those of `video_ids` that it has."""
        dataset = self.pyramid.dataset("videos")
        columns = ["video_id", "status", "fingerprint", "uris", "attempts", "clips", "bytes", "job", "extra"]
        columns += ["tried", "reason"]
        columns = [name for name in columns if name in dataset.schema.names]  # an old pyramid has no `tried`
        found: dict[str, Known] = {}
        for some in chunks(video_ids, 5000):
            for row in select(dataset, "video_id", some, columns).to_pylist():
                found[row["video_id"]] = Known(
                    Status(row["status"]),
                    row["fingerprint"],
                    tuple(row["uris"] or ()),
                    row["attempts"] or 0,
                    row["clips"] or 0,
                    row["bytes"] or 0,
                    row["job"],
                    row["extra"],
                    row.get("tried"),
                    row["reason"],
                )
        return found

    def lacking_extra(self, sources: Iterable[Source]) -> list[tuple[str, Source]]:
        """Those of `sources` whose further columns are not all recorded with their video as they are, and its id."""
        wanted = {source.uri: source for source in sources if source.extra}
        found: list[tuple[str, Source]] = []
        if not wanted:
            return found
        for batch in self.pyramid.dataset("videos").scanner(columns=["video_id", "uris", "extra"]).to_batches():
            for row in batch.to_pylist():
                for source in (wanted[uri] for uri in row["uris"] or () if uri in wanted):
                    if own_columns.united(row["extra"], source.extra) != row["extra"]:
                        found.append((row["video_id"], source))
        return found

    def tried(self, attempt: str) -> Iterator[str]:
        """video_ids of the videos that were settled before `attempt`, which was in vain."""
        dataset = self.pyramid.dataset("videos")
        if "tried" not in dataset.schema.names:  # an old pyramid
            return
        settled = pc.field("status") != pc.scalar(str(Status.QUARANTINED))
        test = (pc.field("tried") == pc.scalar(attempt)) & settled
        for batch in dataset.scanner(columns=["video_id"], filter=test).to_batches():
            yield from batch["video_id"].to_pylist()

    def stale_videos(self, frame_fingerprints: Mapping[str, str]) -> Iterator[str]:
        """video_ids with a clip whose frame score another fingerprint made: these must be decoded again.

        A score that is null with no fingerprint was never asked for; `stale_clips` finds those.
        """
        assert set(frame_fingerprints) <= set(FRAME_SCORES), frame_fingerprints
        if not frame_fingerprints:
            return
        tests = [pc.field(f"{score}_by") != pc.scalar(by) for score, by in frame_fingerprints.items()]
        question = Question({"frame scores not by": dict(frame_fingerprints)}, reduce(or_, tests))
        seen: set[str] = set()
        for batch in search(self.pyramid, question, ["video_id"], self._remember):
            fresh = [video_id for video_id in batch["video_id"].unique().to_pylist() if video_id not in seen]
            seen.update(fresh)
            yield from fresh

    def stale_clips(
        self,
        score: str,
        fingerprint: str,
        tiers: Tiers,
        from_tier: str | None,
        columns: Collection[str] = ("clip_id", "video_id"),
        known: Collection[str] | None = None,
        again: Collection[str] = (),
        also: Sequence[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """Batches of the clips that want `score` computed: missing or made by another fingerprint, and worth
        it.

        Worth it: the conditions of `from_tier` (None: any clip) over the columns in `known` hold. By default
        these are the scores that are cheaper than `score`, but for those that say how a clip stands to others and come
        last, and the facts of a clip. `again`: which failures of
        this fingerprint count as missing, of `PASSING` (of ours or the network) and `LASTING` (of the data). `also`:
        further scores that the same filter makes, any of which may be what is missing.
        """
        scores = self.pyramid.scores
        assert score in scores, score
        if known is None:
            known = (*(one for one in scores[: scores.index(score)] if one not in AMONG_OTHERS), *FACTS)
        ranges = {} if from_tier is None else tiers.effective(from_tier)
        ranges = {column: bounds for column, bounds in ranges.items() if column in known}
        bounds = [] if from_tier is None else conditions.of_tier(ranges)
        there = self.pyramid.dataset("clips").schema.names
        by = pc.field(f"{score}_by")
        if not {f"{one}_by" for one in (score, *also)} <= {*there}:
            wanted = self.pyramid.query().ranges(ranges)
            wanted = wanted if from_tier is None else wanted.undropped()
            yield from wanted.columns(*columns).batches()  # a pyramid of before the score: each clip lacks it
            return
        makers = [pc.field(f"{one}_by") for one in (score, *also)]
        stale = reduce(or_, (maker.is_null() | (maker != pc.scalar(fingerprint)) for maker in makers))
        words = {"score": score, "not by": fingerprint, "where": list(map(str, bounds))}
        words |= {"also": list(also)} if also else {}
        yield from self._search(Question(words, _and(stale, bounds, there)), columns)
        if again:
            failed = _and((by == pc.scalar(fingerprint)) & pc.field(score).is_null(), bounds, there)
            words = {"score": score, "failed by": fingerprint, "where": words["where"]}
            yield from self._search(_failed(words, failed, f"{score}_why", again), columns)

    def uncaptioned(
        self,
        by: str,
        tier: str,
        columns: Collection[str],
        again: Collection[str] = (),
        outranked_by: Collection[str] = (),
        keep_given: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Batches of the clips of a tier that want a caption by the maker `by`: it has said nothing of them, or failed
        for a reason that `again` names. Not those whose caption in force is one of `outranked_by`'s, nor with
        `keep_given` those whose caption came with a list.
        """
        maker, there = pc.field("caption_by"), pc.field("caption").is_valid()
        test = maker.is_null() | (maker != pc.scalar(by)) | ~there
        if outranked_by:
            test &= ~(there & maker.is_valid() & maker.isin(pa.array(sorted(outranked_by), pa.string())))
        if keep_given:
            test &= ~(there & (maker.is_null() | (maker == pc.scalar(GIVEN))))
        bounds = self._bounds(tier)
        test = _and(test, bounds, self.pyramid.dataset("clips").schema.names)
        words = {"caption not by": by, "where": list(map(str, bounds)), "outranked by": sorted(outranked_by)}
        words |= {"keep given": keep_given, "again": beginnings(again)}

        def chosen(batch: pa.RecordBatch) -> pa.Array:
            return pa.array(captions.wanting(self.pyramid, batch, by, again), pa.bool_())

        yield from self._search(Question(words, test, chosen, ("clip_id", "caption_by", "caption_why")), columns)

    def unembedded(
        self,
        space: Space,
        by: str,
        tier: str | None,
        columns: Collection[str],
        again: Collection[str] = (),
        aside: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """Batches of the clips of a tier (None: of all) that want a vector in `space` by the maker `by`, where a space
        is of captions of the caption in force: it has given none, or failed for a reason that `again` names. `aside`:
        scores that are made of these vectors, so that what a tier asks of them does not count.
        """
        ranges = {} if tier is None else self.pyramid.tiers.effective(tier)
        asked = {column: bounds for column, bounds in ranges.items() if column not in aside}
        bounds: list[Condition] = [] if tier is None else conditions.of_tier(asked)
        if space.of_caption:
            bounds.append(Present("caption", True))
        words = {"no vector in": space.name, "by": by, "where": list(map(str, bounds)), "again": beginnings(again)}

        def chosen(batch: pa.RecordBatch) -> pa.Array:
            return pa.array(vectors.wanting(self.pyramid, batch, space, by, again), pa.bool_())

        needs = ("clip_id", *(["caption"] if space.of_caption else []))
        test = self._test(bounds) if bounds else pc.field("clip_id").is_valid()
        yield from self._search(Question(words, test, chosen, needs), columns)

    def uncut(self, tier: str, columns: Collection[str], at_once: int) -> Iterator[list[dict[str, Any]]]:
        """`columns` of the clips of a tier that have neither been cut nor failed to be, up to `at_once` at a time.

        One search finds them all. Each list is looked up when it is asked for and holds what is still to be cut then:
        hours lie between, and another run may have cut what this one found.
        """
        bounds = [*self._bounds(tier), Present("media", False), Present("media_why", False)]
        question = Question({"uncut": list(map(str, bounds))}, self._test(bounds))
        yield from self._still(self._search(question, ("clip_id",)), bounds, (None,), columns, at_once)

    def uncut_again(
        self, tier: str, columns: Collection[str], at_once: int, again: Collection[str]
    ) -> Iterator[list[dict[str, Any]]]:
        """As `uncut`, of the clips whose cutting failed for a reason that `again` names."""
        bounds = [*self._bounds(tier), Present("media", False)]
        yield from self._still(self.failed_media(tier, again), bounds, again, columns, at_once)

    def failed_media(self, tier: str, again: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Batches (`clip_id`) of the clips of a tier whose cutting failed, for a reason that `again` names."""
        bounds = [*self._bounds(tier), Present("media", False), Present("media_why", True)]
        words = {"failed media": list(map(str, bounds))}
        yield from self._search(_failed(words, self._test(bounds), "media_why", again), ("clip_id",))

    def _still(
        self,
        found: Iterator[pa.RecordBatch],
        bounds: Sequence[Condition],
        kinds: Collection[str | None],
        columns: Collection[str],
        at_once: int,
    ) -> Iterator[list[dict[str, Any]]]:
        """`columns` of the clips found that satisfy `bounds` by now, and whose `media_why` is of one of `kinds`."""
        read = sorted({*columns, *conditions.columns(bounds, self.pyramid.dataset("clips").schema.names), "media_why"})
        for some in chunks((clip_id for batch in found for clip_id in batch["clip_id"].to_pylist()), at_once):
            rows = select(self.pyramid.dataset("clips"), "clip_id", some, read).to_pylist()
            left = [row for row in rows if conditions.holds(bounds, row) and kind(row["media_why"]) in kinds]
            if left:
                yield [{name: row[name] for name in columns} for row in left]

    def _bounds(self, tier: str) -> list[Condition]:
        return conditions.of_tier(self.pyramid.tiers.effective(tier))

    def _test(self, bounds: Iterable[Condition]) -> pc.Expression:
        return _and(None, bounds, self.pyramid.dataset("clips").schema.names)

    def _search(self, question: Question, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        return search(self.pyramid, question, tuple(columns), self._remember)

    def history(self, name: str) -> History:
        """Everything known about a video or a clip by its id, the beginning of its id, its uri or its file
        name.
        """
        clips_set, videos_set = self.pyramid.dataset("clips"), self.pyramid.dataset("videos")
        columns = [column for column in clips_set.schema.names if column != "laplacian"]
        clips: list[dict[str, Any]] = []
        videos: list[dict[str, Any]] = []
        if len(name) >= _PREFIX:
            videos = starting(videos_set, "video_id", name, videos_set.schema.names)
            clips = starting(clips_set, "clip_id", name, columns)
        if len(videos) == 1:
            clips = []  # those of the video, whose ids may begin as its own does
        if not videos and not clips:
            videos = list(_named(videos_set, name))
        owners = sorted({clip["video_id"] for clip in clips} - {video["video_id"] for video in videos})
        videos += select(videos_set, "video_id", owners, videos_set.schema.names).to_pylist() if owners else []
        if not clips and len(videos) == 1:
            clips = select(clips_set, "video_id", [videos[0]["video_id"]], columns).to_pylist()
            clips.sort(key=lambda clip: clip["start_s"] or 0.0)
            return History((videos[0],), tuple(clips), captions=self._captions(clips))
        cut, shown = max(len(videos), len(clips)) > _HISTORY_LIMIT, clips[:_HISTORY_LIMIT]
        return History(tuple(videos[:_HISTORY_LIMIT]), tuple(shown), cut, self._captions(shown))

    def _captions(self, clips: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
        dataset, ids = self.pyramid.dataset("captions"), sorted(row["clip_id"] for row in clips)
        return tuple(select(dataset, "clip_id", ids, dataset.schema.names).to_pylist()) if ids else ()


def _failed(words: Mapping[str, Any], test: pc.Expression, why: str, again: Collection[str]) -> Question:
    """The rows that satisfy `test` and whose column `why` holds a failure of a kind in `again`."""
    kinds = frozenset(again)

    def chosen(batch: pa.RecordBatch) -> pa.Array:
        return pa.array([kind(text) in kinds for text in batch[why].to_pylist()], pa.bool_())

    return Question({**words, "again": beginnings(kinds)}, test, chosen, (why,))


def _and(test: pc.Expression | None, bounds: Iterable[Condition], there: Collection[str]) -> pc.Expression:
    parts = [one for one in (test, conditions.expression(bounds, there)) if one is not None]
    return reduce(and_, parts)


def starting(dataset: lance.LanceDataset, key: str, prefix: str, columns: list[str]) -> list[dict[str, Any]]:
    """Rows whose key is or begins with `prefix`; one more than the limit tells that there are more."""
    if not prefix.isascii() or not prefix.isprintable():
        return []
    test = (pc.field(key) >= pc.scalar(prefix)) & (pc.field(key) < pc.scalar(prefix + "\x7f"))
    return dataset.scanner(columns=columns, filter=test, limit=_HISTORY_LIMIT + 1).to_table().to_pylist()


def _named(dataset: lance.LanceDataset, name: str) -> Iterator[dict[str, Any]]:
    """Rows recorded under the uri `name`, or under a uri whose last part it is."""
    found: list[str] = []
    for batch in dataset.scanner(columns=["video_id", "uris"]).to_batches():
        for row in batch.to_pylist():
            if any(uri == name or uri.endswith("/" + name) for uri in row["uris"] or ()):
                found.append(row["video_id"])
        if len(found) > _HISTORY_LIMIT:
            break
    yield from select(dataset, "video_id", found, dataset.schema.names).to_pylist() if found else ()
