"""`ziggurat merge`: the videos of two pyramids in a third, each with its clips, frames, bytes, vectors and captions.

    videos of A, some at a time -> their rows and bytes -> one commit to C; then those of B

Each batch is committed as a run's results are, so a video is there with all that belongs to it or not at all. The
videos of A and B are read at one version each, and nothing is written to them. How far it has come stands in C
(`merging.json`): after a kill the same command goes on from there, and a batch that is committed twice changes nothing.

A video that both have gets the names of both. Where both have settled it alike, scores of B come over those of A, and
what one lacks the other fills in; the bytes and frames of a clip are A's. Where they have not, that row stands which a
rule or the recipe's plan has settled, else A's. What either has taken down (`tombstones`) does not come in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from curation.contract import AMONG_OTHERS, VIDEOS, Status
from curation.errors import UserError
from curation.pyramid.commits import beside, journal
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import plans, runs
from curation.pyramid.similar.places import AGAIN
from curation.pyramid.storage.fragments import write_media_fragments, write_samples_fragments
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.retry import retrying

FILE = "merging.json"

_VIDEOS = 100
"""Videos in a commit. Their frames and bytes pass a few clips at a time."""
_CLIPS = 1000
_NAMED = pa.schema([VIDEOS.field(name) for name in ("video_id", "uris", "modified", "extra")])
"""What a row of `videos` that does not stand adds to the one that does."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a merge has come: at which version of `videos` each source is read, and how many of its rows are done.
    `both`: videos that A and B have; `otherwise`: those of them that the two have settled otherwise. `taken_down`:
    videos that stay out, for one of the two has taken them down.
    """

    versions: tuple[int, int]
    done: tuple[int, int] = (0, 0)
    both: int = 0
    otherwise: int = 0
    taken_down: int = 0


@dataclass(frozen=True, slots=True)
class Combined:
    """What C holds. `both`, `otherwise`, `taken_down`: see `Progress`."""

    videos: int
    clips: int
    both: int
    otherwise: int
    taken_down: int


def check(source: Pyramid) -> None:
    """UserError where `source` does not hold all that it will: a run is at work, or a killed one has left results."""
    if running := runs.running(source.files):
        raise UserError(f"the run {running[0].run} is at work on {source.uri}", "wait until it has ended, or end it")
    if retrying(f"journal of {source.uri}", lambda: source.files.names(journal.FOLDER, journal.ENTRY)):
        raise UserError(
            f"{source.uri} holds results of killed runs that are not committed", f"run `ziggurat upkeep {source.uri}`"
        )
    if tombstones.is_pending(source.files):
        raise UserError(f"a takedown of {source.uri} has not ended", f"run `ziggurat forget {source.uri}`")


def combine(sources: tuple[Pyramid, Pyramid], to: Pyramid, plan: str) -> Combined:
    """Bring into `to` all that `sources` hold and it has not yet. `plan`: fingerprint of the recipe's plan."""
    progress = _progress(sources, to)
    for source in sources:
        _copy_files(source, to)
        tombstones.adopt(to.files, source.files)
    dead = tombstones.read(to.files)
    for number, source in enumerate(sources):
        for rows in _videos(source, progress.versions[number], progress.done[number]):
            before = _rows(sources[0], progress.versions[0], rows) if number else {}
            alive = [row for row in rows if row["video_id"] not in dead]
            whole = [row for row in alive if _stands(row, before.get(row["video_id"]), plan)]
            _bring(source, to, whole, before)
            names = [row for row in alive if row not in whole]
            Committer(to).commit(Batch(video_updates=[pa.Table.from_pylist(names, schema=_NAMED)] if names else []))
            progress = _further(progress, number, rows, before, dead)
            _write(to, progress)
    retrying(f"cannot write to {to.uri}", lambda: to.files.remove(FILE))
    videos, clips = (to.dataset(name).count_rows() for name in ("videos", "clips"))
    return Combined(videos, clips, progress.both, progress.otherwise, progress.taken_down)


def _progress(sources: tuple[Pyramid, Pyramid], to: Pyramid) -> Progress:
    """What an earlier attempt has written down, as long as the versions that it read are there; else a beginning."""
    content = retrying(f"cannot read {to.uri}", lambda: to.files.read(FILE))
    if content is not None:
        data = json.loads(content)
        counts = (data.get(name, 0) for name in ("both", "otherwise", "taken_down"))
        known = Progress(tuple(data["versions"]), tuple(data["done"]), *counts)
        there = [{version["version"] for version in one.dataset("videos").versions()} for one in sources]
        if known.versions[0] in there[0] and known.versions[1] in there[1]:
            return known
    begun = Progress((sources[0].dataset("videos").version, sources[1].dataset("videos").version))
    _write(to, begun)
    return begun


def _further(
    progress: Progress, number: int, rows: list[Row], before: Mapping[str, Row], dead: Collection[str]
) -> Progress:
    """`progress` after some rows of a source; each video is counted once, as it is first met or as both have it."""
    done = list(progress.done)
    done[number] += len(rows)
    again = [row for row in rows if row["video_id"] in before and row["video_id"] not in dead]
    out = sum(row["video_id"] in dead and row["video_id"] not in before for row in rows)
    return replace(
        progress,
        done=(done[0], done[1]),
        both=progress.both + len(again),
        otherwise=progress.otherwise + sum(not _alike(row, before[row["video_id"]]) for row in again),
        taken_down=progress.taken_down + out,
    )


def _write(to: Pyramid, progress: Progress) -> None:
    retrying(f"cannot write to {to.uri}", lambda: to.files.write(FILE, json.dumps(asdict(progress)).encode()))


def _copy_files(source: Pyramid, to: Pyramid) -> None:
    """The plans that clips name, and the records of the runs that made them."""
    for folder in (plans.FOLDER, runs.FOLDER):
        for name in retrying(f"cannot read {source.uri}", lambda folder=folder: source.files.names(folder, ".json")):
            content = retrying(f"cannot read {source.uri}", lambda name=name: source.files.read(name))
            if content is not None:
                retrying(f"cannot write to {to.uri}", lambda name=name, some=content: to.files.write(name, some))


def _videos(source: Pyramid, version: int, skipped: int) -> Iterator[list[Row]]:
    """All rows of `videos` in the order in which they lie, which one version keeps, without the first ones."""
    batches = source.dataset("videos", version).scanner(batch_size=_VIDEOS, scan_in_order=True).to_batches()
    for number, rows in enumerate(chunks((row for batch in batches for row in batch.to_pylist()), _VIDEOS)):
        if number * _VIDEOS >= skipped:
            yield rows


def _rows(source: Pyramid, version: int, like: list[Row]) -> dict[str, Row]:
    """What `source` has settled of the videos of some rows."""
    ids, columns = [row["video_id"] for row in like], ["video_id", "status", "fingerprint"]
    found = select(source.dataset("videos", version), "video_id", ids, columns)
    return {row["video_id"]: row for row in found.to_pylist()}


def _alike(row: Row, other: Row) -> bool:
    return (row["status"], row["fingerprint"]) == (other["status"], other["fingerprint"])


def _stands(row: Row, before: Row | None, plan: str) -> bool:
    """Whether a row of B comes over, or together with, that of A; else it adds its names only."""

    def rank(one: Row) -> int:
        decided = one["status"] in (Status.DONE, Status.REJECTED)
        return decided + (decided and one["fingerprint"] == plan)

    return before is None or rank(row) > rank(before) or _alike(row, before)


def _bring(source: Pyramid, to: Pyramid, videos: list[Row], before: Mapping[str, Row]) -> None:
    """Commit videos of `source` with all that belongs to them, over what `before` says of them in `to`."""
    if not videos:
        return
    ids, columns = [row["video_id"] for row in videos], source.dataset("clips").schema.names
    table = pa.Table.from_pylist(videos, schema=VIDEOS)
    clips = _alone(select(source.dataset("clips"), "video_id", ids, columns))
    batch = journal.without_namesakes(to, Batch(clips=clips, videos=table))
    assert batch.clips is not None
    names, bytes_ = batch.clips["clip_id"].to_pylist(), batch.clips["media"].to_pylist()
    cut = {name: digest for name, digest in zip(names, bytes_, strict=True) if digest is not None}
    for name in source.beside:
        for some in chunks(names, _CLIPS):
            rows = select(source.dataset(name), "clip_id", some, source.dataset(name).schema.names)
            beside.add(to, name, rows)
    options, wrong = to.storage_options, []
    media = [write_media_fragments(to.uri, _media(source, cut, wrong), options)] if cut else []
    if wrong:
        raise UserError(wrong[0], "restore it, or take it down in the source; the merge goes on from here")
    Committer(to).commit(
        replace(
            batch,
            media=media,
            samples=[write_samples_fragments(to.uri, source.samples(names), options)] if names else [],
            replaced=_instead(videos, before, clips),
        )
    )


def _alone(clips: pa.Table) -> pa.Table:
    """Clips without a place among copies and in clusters: nobody has compared those of one pyramid with those of the
    other.
    """
    names = (name for score, one in AMONG_OTHERS.items() for name in (score, f"{score}_by", f"{score}_why", one.column))
    for name in names:
        if name in clips.schema.names:
            field, place = clips.schema.field(name), clips.schema.get_field_index(name)
            value = AGAIN if name.endswith("_by") else None
            clips = clips.set_column(place, field, pa.array([value] * clips.num_rows, field.type))
    return clips


def _instead(videos: list[Row], before: Mapping[str, Row], clips: pa.Table) -> dict[str, list[str]]:
    """All clips that videos have now which were settled otherwise before: the others go."""
    found: dict[str, list[str]] = {
        row["video_id"]: [] for row in videos if row["video_id"] in before and not _alike(row, before[row["video_id"]])
    }
    for row in clips.select(["clip_id", "video_id"]).to_pylist():
        if row["video_id"] in found:
            found[row["video_id"]].append(row["clip_id"])
    return found


def _media(source: Pyramid, cut: Mapping[str, str], wrong: list[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes of clips, by their hashes; ends where they are gone or others, which `wrong` then says: what is raised
    here would pass through Lance, which makes another error of it.
    """
    left = dict(cut)
    for name, content, _ in source.media(cut):
        if hashlib.sha256(content).hexdigest() != left.pop(name):
            wrong.append(f"the bytes of the clip {name} in {source.uri} are damaged")
            return
        yield name, content
    if left:
        wrong.append(f"{source.uri} lacks the bytes of {len(left)} clips, of {min(left)} for one")
