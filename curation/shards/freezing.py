"""Freezing: the clips that a query keeps become the samples of a manifest, at one moment and for ever.

    pin a snapshot -> query its clips -> a bucket for each (handed in: `training` has the rule) -> table -> manifest

Versions are pinned first and the manifest is written last, so a freeze that is killed leaves a pin and perhaps a table,
which the next one removes (`folder.tidied`). What became of no sample is counted by its reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import UserError
from curation.pyramid.queries.query import Query
from curation.pyramid.review.words import is_dropped
from curation.pyramid.storage.locks import only_freezer, writing
from curation.pyramid.store import Pyramid, Snapshot
from curation.pyramid.takedown import tombstones
from curation.shards import folder
from curation.shards.manifest import FORMAT, OLDEST, SAMPLES, Frozen, Manifest

NOT_CUT, NO_CAPTION, TAKEN_DOWN, DROPPED = "not cut", "no caption", "taken down", "dropped by a person"
REMEDIES: Mapping[str, str] = {
    NOT_CUT: "measured and not encoded: `ziggurat cut PYRAMID --tier TIER`",
    NO_CAPTION: "have a model caption them (`ziggurat caption`), or take such clips along with --without-captions",
    TAKEN_DOWN: "`ziggurat forget` was given its video",
    DROPPED: "`--decision` says which decisions are wanted; `ziggurat undecide` takes one back",
}
"""Why a clip that has a bucket, or never was asked for one, is no sample; what to do about it."""

_OF_CLIPS = ("clip_id", "video_id", "kind", "media", "frames", "height", "width", "fps", "motion", "aesthetic")
_COLUMNS = (*_OF_CLIPS, "caption", "caption_by")


class Place(Protocol):
    """A bucket, as the rule that assigns them tells it (`training.data.buckets`)."""

    @property
    def resolution(self) -> str: ...
    @property
    def frames(self) -> int: ...
    @property
    def ratio(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def interval(self) -> int: ...
    @property
    def fps(self) -> float | None: ...


Assign = Callable[[int, Mapping[str, Any]], Place | str]
"""The bucket of a row of `clips`, or why it has none. The number is the clip's own, for draws: see `number_of`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for: see `Manifest`, whose words these are. `without_captions`: take clips that have none, too;
    `remedies`: what to do about a clip without a bucket, by the reasons that the rule gives.
    """

    name: str
    tier: str | None
    query: tuple[str, ...]
    preset: str
    table: str
    seed: int
    made_by: str
    without_captions: bool = False
    remedies: Mapping[str, str] = field(default_factory=dict)


def number_of(clip_id: str) -> int:
    """A number that is a clip's for ever, whatever else is frozen with it: what a draw for it is keyed by."""
    return int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big") >> 1


def freeze(pyramid: Pyramid, query: Query, assign: Assign, order: Order) -> Frozen:
    """Freeze the clips of `query`, which is asked of a snapshot that stays. UserError: the name is taken, another
    freeze is at work, or no clip becomes a sample; then nothing is left of it.
    """
    folder.checked(order.name)
    with only_freezer(pyramid):
        if order.name in folder.listed(pyramid.files):
            raise folder.taken(order.name)
        folder.tidied(pyramid, order.name)
        tag = folder.pin_of(order.name)
        try:
            return _frozen(pyramid, pyramid.pin(tag), query, assign, order)
        except BaseException:
            if order.name not in folder.listed(pyramid.files):  # else the pin is its, in a store without locks
                folder.unpin(pyramid, tag)
                folder.tidied(pyramid, order.name)
            raise


def _frozen(pyramid: Pyramid, snapshot: Snapshot, query: Query, assign: Assign, order: Order) -> Frozen:
    missed: Counter[str] = Counter()
    taken = [SAMPLES.empty_table(), *_samples(query.at_snapshot(snapshot), assign, order, missed)]
    samples = pa.concat_tables(taken).sort_by("clip_id")
    dead = tombstones.read(pyramid.files)
    while True:
        samples = _without(samples, dead, missed)
        if not samples.num_rows:
            raise _nothing(missed, {**REMEDIES, **order.remedies})
        # Of many samples this takes a while, in which others may write.
        manifest, content = _head(pyramid, snapshot, order, query.makers, samples, missed).sealed(samples)
        with writing(pyramid.uri):  # a takedown waits until the manifest is there, and then finds it
            before, dead = dead, tombstones.read(pyramid.files)
            if dead == before:
                _check_pin(pyramid, snapshot, manifest.pin)
                folder.put(pyramid.files, manifest, content)
                return Frozen(manifest, samples)


def _without(samples: pa.Table, dead: Collection[str], missed: Counter[str]) -> pa.Table:
    """The samples that were not taken down; how many were is counted in `missed`."""
    ids = pa.array(sorted(dead), pa.string())
    gone = pc.or_(pc.is_in(samples["video_id"], ids), pc.is_in(samples["clip_id"], ids))  # type: ignore
    if many := pc.sum(gone).as_py():  # type: ignore
        missed[TAKEN_DOWN] += many
        return samples.filter(pc.invert(gone))  # type: ignore
    return samples


def _samples(query: Query, assign: Assign, order: Order, missed: Counter[str]) -> Iterator[pa.Table]:
    """The samples of each batch of clips; what is none is counted in `missed`."""
    for batch in query.columns(*_COLUMNS, "decision").batches():
        rows: list[dict[str, Any]] = []
        for clip in batch.to_pylist():
            out = is_dropped(clip) and not query.asks_decision
            sample = DROPPED if out else _sample(clip, assign, order)
            if isinstance(sample, str):
                missed[sample] += 1
            else:
                rows.append(sample)
        if rows:
            yield pa.Table.from_pylist(rows, schema=SAMPLES)


def _sample(clip: dict[str, Any], assign: Assign, order: Order) -> dict[str, Any] | str:
    if clip["media"] is None:
        return NOT_CUT
    if not (clip["caption"] or "").strip() and not order.without_captions:
        return NO_CAPTION
    place = assign(number_of(clip["clip_id"]), clip)
    if isinstance(place, str):
        return str(place)
    return {
        **{name: clip[name] for name in _COLUMNS},
        "caption": clip["caption"] or "",
        "resolution": place.resolution,
        "bucket_frames": place.frames,
        "ratio": place.ratio,
        "bucket_height": place.height,
        "bucket_width": place.width,
        "batch": place.batch,
        "interval": place.interval,
        "bucket_fps": place.fps,
    }


def _head(
    pyramid: Pyramid,
    snapshot: Snapshot,
    order: Order,
    makers: tuple[str, ...],
    samples: pa.Table,
    missed: Mapping[str, int],
) -> Manifest:
    by = Counter(maker or NO_CAPTION for maker in samples["caption_by"].to_pylist()) if makers else {}
    pairs = zip(samples["resolution"].to_pylist(), samples["bucket_frames"].to_pylist(), strict=True)
    buckets = Counter(f"{resolution} {frames}" for resolution, frames in pairs)
    return Manifest(
        name=order.name,
        pyramid=pyramid.uri,
        versions=dict(snapshot.versions),
        pin=folder.pin_of(order.name),
        tier=order.tier,
        query=order.query,
        preset=order.preset,
        table=order.table,
        seed=order.seed,
        samples=samples.num_rows,
        buckets=dict(sorted(buckets.items())),
        missed=dict(sorted(missed.items())),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        made_by=order.made_by,
        caption_by=makers,
        captions=dict(sorted(by.items())),
        format=FORMAT if makers else OLDEST,
    )


def _check_pin(pyramid: Pyramid, snapshot: Snapshot, tag: str) -> None:
    """UserError where the pin is not ours any more: of two freezes of one name, which nothing keeps apart in a store
    without locks, the second has taken it.
    """
    for name, version in snapshot.versions.items():
        found = pyramid.dataset(name).tags.list().get(tag)
        if found is None or found["version"] != version:
            raise UserError(f"another freeze under the name of {tag} is at work", "wait until it has ended")


def _nothing(missed: Mapping[str, int], remedies: Mapping[str, str]) -> UserError:
    if not missed:
        return UserError("no clip is in this tier and these conditions", "look with `ziggurat query` and `tiers`")
    ordered = sorted(missed.items(), key=lambda pair: -pair[1])
    told = ", ".join(f"{why} {count}" for why, count in ordered)
    return UserError(f"no clip becomes a sample ({told})", "; ".join(remedies.get(why, why) for why, _ in ordered))
