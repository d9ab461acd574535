"""What the person must know of a run before it starts and at its end, beside the figures.

`jobs` prints them as notes before the first video, the summary repeats them, and the run's record keeps them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import AMONG_OTHERS, CROWDING, LIKENESS, Status
from curation.filters.base import WEIGHTS_MISSING
from curation.media.plan import MediaPlan
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.similar.clusters import NOT_IN_TIER, in_force
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.pyramid.tiering.tiers import Range, Tiers
from curation.rows import attempt_fingerprint, frame_fingerprints
from curation.spaces import Space
from pipelines.config.filters import Ready
from pipelines.config.recipe import Recipe

if TYPE_CHECKING:
    import lance

MANY_FILES = 2000
_GROWN = 4


def of_scores(tiers: Tiers, filters: Sequence[Ready]) -> list[str]:
    """What the filters of a recipe leave undone: scores, and tiers that stay empty."""
    return [*_of_filters(filters), *_of_tiers(tiers, filters)]


def of_cutting(recipe: Recipe, pyramid: str, tiers: Tiers) -> list[str]:
    """That a run which measures cuts nothing, although there is what to cut."""
    if recipe.cut.tier is not None or not tiers.steps:
        return []
    return [f"clips are measured and not cut: cut.tier is none; see `ziggurat cut {pyramid} --tier TIER`"]


def of_measuring(pyramid: Pyramid, plan: MediaPlan) -> list[str]:
    """That videos were measured otherwise than the recipe says: it was replaced, and the run that replaced it has not
    come to them.
    """
    ledger, attempt = Ledger(pyramid), attempt_fingerprint(plan)
    videos = pyramid.dataset("videos")
    in_vain = frozenset(ledger.tried(attempt))
    others = videos.scanner(columns=["video_id"], filter=(pc.field("fingerprint") != plan.fingerprint) & _SETTLED)
    scores = ledger.stale_videos(frame_fingerprints(plan))
    behind = {
        "videos under another plan than the recipe's": _besides(in_vain, _ids(others)),
        "videos with motion, sharpness or jitter measured otherwise than the recipe says": _besides(in_vain, scores),
    }
    notices = [f"{what}: {many}; curate their sources again, and they follow" for what, many in behind.items() if many]
    if in_vain:
        what = "videos that could not be measured as the recipe says and stay as they were"
        notices.append(f"{what}: {len(in_vain)}; `ziggurat why` says why, and --retry tries them again")
    return notices


_SETTLED = pc.field("status").isin(pa.array([Status.DONE, Status.REJECTED]))


def _ids(scanner: lance.LanceScanner) -> Iterator[str]:
    for batch in scanner.to_batches():
        yield from batch["video_id"].to_pylist()


def _besides(some: Collection[str], video_ids: Iterable[str]) -> int:
    return sum(video_id not in some for video_id in video_ids)


def of_files(pyramid: Pyramid) -> list[str]:
    """Past some thousand small files every commit and lookup takes a third of a second."""
    files = pyramid.scattered()
    return [f"{files} small files: `ziggurat upkeep {pyramid.uri}` merges them"] if files > MANY_FILES else []


def of_copies(pyramid: Pyramid) -> list[str]:
    """How many clips are copies of better ones, for nothing leaves them out unasked."""
    if LIKENESS not in pyramid.about.scores:
        return []
    copies = pyramid.dataset("clips").count_rows(filter=pc.field("duplicate_of").is_valid())
    told = "a range of likeness leaves them out (docs/duplicates.md)"
    return [f"copies of better clips: {copies}; {told}"] if copies else []


def of_clusters(pyramid: Pyramid) -> list[str]:
    """How many clusters there are and the largest of them, among the clips that share them; what no cluster has; and
    what a tier asks that cannot be. A pass over all clips, for the end of `ziggurat clusters` alone.
    """
    sizes, outside = Counter[int](), 0
    columns = ["cluster", CROWDING, f"{CROWDING}_why"]
    for batch in pyramid.dataset("clips").scanner(columns=columns).to_batches():
        whys = pc.drop_null(batch[columns[2]].filter(batch["cluster"].is_null()))  # pyright: ignore[reportAttributeAccessIssue]
        outside += len(whys) - (pc.sum(pc.starts_with(whys, NOT_IN_TIER)).as_py() or 0)  # pyright: ignore[reportAttributeAccessIssue]
        for pair in pc.drop_null(batch["cluster"].filter(batch[CROWDING].is_valid())).value_counts().to_pylist():  # pyright: ignore[reportAttributeAccessIssue]
            sizes[pair["values"]] += pair["counts"]
    if not sizes:
        return []
    ((largest, clips),) = sizes.most_common(1)
    share = f"{clips / sizes.total():.1%} of the {sizes.total()} clips that have a crowding"
    found = [f"clusters: {len(sizes)}; the largest, {largest}, has {share}; `ziggurat stats` names them"]
    found += [f"clips without a cluster: {outside}; crowding_why says why"] if outside else []
    least = 1 / len(sizes)
    for name in pyramid.tiers.names:
        bound = pyramid.tiers.effective(name).get(CROWDING)
        if isinstance(bound, Range) and bound.high is not None and bound.high < least:
            told = f"tier {name} is empty: of {len(sizes)} clusters none can have less than {least:.3g}"
            found.append(f"{told}; raise its bound, or give [clusters] a larger number")
    fit = in_force(pyramid)
    if fit is not None and fit.asked.number is None and sizes.total() >= _GROWN * fit.clips:
        told = f"the clusters were made of {fit.clips} clips, and hold {sizes.total()} now"
        found.append(f"{told}: `ziggurat clusters {pyramid.uri} --again` makes as many as these need")
    return found


def of_places(pyramid: Pyramid) -> list[str]:
    """That clips wait to be compared with others, without which they are in no tier that asks for it."""
    bounded = {column for step in pyramid.tiers.steps for column, bounds in step.ranges.items() if bounds != Range()}
    found = []
    for score, (_, command) in AMONG_OTHERS.items():
        if score in bounded and (lacking := pyramid.query().count() - pyramid.query().having(f"{score}_by").count()):
            told = f"clips whose {score} is not known, which a tier bounds: {lacking}"
            uri = pyramid.uri
            found.append(f"{told}; run `ziggurat {command} {uri}`, then `ziggurat curate {uri} --fill`")
    return found


def of_captions(pyramid: Pyramid, spaces: Sequence[Space]) -> list[str]:
    """That clips without a caption get no vector in spaces that are of captions."""
    names = [space.name for space in spaces if space.of_caption]
    if not names:
        return []
    lacking = pyramid.query().count() - pyramid.query().having("caption").count()
    return [f"clips without a caption: {lacking}; they get no vector in {', '.join(names)}"] if lacking else []


def of_takedown(pyramid: Pyramid) -> list[str]:
    """That a takedown was cut short: until it is finished lookups get slower, and some of it is still there."""
    if not tombstones.is_pending(pyramid.files):
        return []
    return [f"a takedown has not ended; if none is at work, run `ziggurat forget {pyramid.uri} --yes` to finish it"]


def _of_filters(filters: Sequence[Ready]) -> list[str]:
    return [
        f"{', '.join(filter_.scores)} is not computed: weights are missing (see `ziggurat doctor`)"
        for filter_ in filters
        if filter_.why == WEIGHTS_MISSING
    ]


def _of_tiers(tiers: Tiers, filters: Sequence[Ready]) -> list[str]:
    """Tiers that no new clip can be in: their ranges, or those of a tier below, bound a score that is not made."""
    if not tiers.steps:
        return ["the pyramid has no tiers: everything is measured, and no clip is in any"]
    missing = {score for filter_ in filters if filter_.make is None for score in filter_.scores}
    notices = []
    for name in tiers.names:
        ranges = tiers.effective(name)
        if asked := [column for column in ranges if column in missing and ranges[column] != Range()]:
            notices.append(f"no new clip can be in tier {name}: it bounds {', '.join(asked)}, which is not computed")
    return notices
