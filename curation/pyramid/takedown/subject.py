"""What a takedown means by its names, and what of it a pyramid holds: read before `forget` does anything.

A name is a video's id, the id of one of its clips, a URI, a path, or the end of one after a slash (a file name). Ids
are given whole. A clip's id means its whole video: another plan would cut the same pictures again, under another id.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from curation.errors import UserError
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones

_ID = re.compile(r"[0-9a-f]{32}")
_AT_ONCE = 1000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Target:
    """A video to be taken down. `uris`: its names, none where it is not in the ledger; `clips`, `samples`, `media`: how
    many rows it has, `media_bytes`: of its clips' files.
    """

    video_id: str
    uris: tuple[str, ...] = ()
    clips: int = 0
    samples: int = 0
    media: int = 0
    media_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What names mean: `targets`, by id; `already`: names of what was taken down before, or is being taken down."""

    targets: Mapping[str, Target] = field(default_factory=dict)
    already: tuple[str, ...] = ()


def find(pyramid: Pyramid, names: Sequence[str], ahead: bool = False) -> Found:
    """What each of `names` means. UserError where some mean nothing, or several videos. `ahead`: ids that are of
    nothing in the pyramid are taken for those of contents that are still to come.
    """
    wanted = list(dict.fromkeys(names))
    dead, (work, _) = tombstones.read(pyramid.files), tombstones.pending(pyramid.files)
    owners: dict[str, set[str]] = {name: set() for name in wanted}
    for name, video_id in _by_id(pyramid, wanted):
        owners[name].add(video_id)
    for name, video_id in _by_name(pyramid, [name for name in wanted if not owners[name]]):
        owners[name].add(video_id)
    lacking = [name for name in wanted if not owners[name]]
    already = [one for one in lacking if one in dead or tombstones.mark(pyramid.files, one) in work.asked]
    coming = [one for one in lacking if ahead and one not in already and _ID.fullmatch(one)]
    if unknown := [one for one in lacking if one not in already and one not in coming]:
        hint = "; --ahead takes ids of contents that are still to come" if all(map(_ID.fullmatch, unknown)) else ""
        raise UserError(f"no video is called {_listed(unknown)}", f"give an id, a URI or a file name{hint}")
    if several := [one for one in wanted if len(owners[one]) > 1]:
        ids = sorted(owners[several[0]])
        raise UserError(f"several videos are called {_listed(several)}", f"give an id of {', '.join(ids[:_SHOWN])}")
    ids = dict.fromkeys((*(video_id for name in wanted for video_id in owners[name]), *coming))
    return Found({one: target(pyramid, one) for one in ids}, tuple(already))


def target(pyramid: Pyramid, video_id: str) -> Target:
    """What the pyramid holds of a video."""
    rows = select(pyramid.dataset("videos"), "video_id", [video_id], ["uris"]).to_pylist()
    clips = clips_of(pyramid, [video_id])
    media = select(pyramid.dataset("media"), "clip_id", clips, ["bytes"])["bytes"].to_pylist() if clips else []
    samples = select(pyramid.dataset("samples"), "clip_id", clips, ["clip_id"]).num_rows if clips else 0
    uris = tuple(uri for row in rows for uri in row["uris"] or ())
    return Target(video_id, uris, len(clips), samples, len(media), sum(size or 0 for size in media))


def clips_of(pyramid: Pyramid, video_ids: Iterable[str], version: int | str | None = None) -> list[str]:
    """The ids of the clips that some videos have."""
    dataset, found = pyramid.dataset("clips", version), []
    for some in chunks(sorted(video_ids), _AT_ONCE):
        found += select(dataset, "video_id", some, ["clip_id"])["clip_id"].to_pylist()
    return found


def _by_id(pyramid: Pyramid, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, video) for the names that are ids of videos or of clips."""
    clips = pyramid.dataset("clips")
    for some in chunks(names, _AT_ONCE):
        for row in select(pyramid.dataset("videos"), "video_id", some, ["video_id"]).to_pylist():
            yield row["video_id"], row["video_id"]
        for row in select(clips, "clip_id", some, ["clip_id", "video_id"]).to_pylist():
            yield row["clip_id"], row["video_id"]
        for video_id in select(clips, "video_id", some, ["video_id"])["video_id"].to_pylist():  # not in the ledger yet
            yield video_id, video_id


def _by_name(pyramid: Pyramid, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, video) for the names that videos are recorded under: one pass over all, however many names there are."""
    wanted: dict[str, set[str]] = {}
    for name in names:
        for form in (name, os.path.abspath(name)):
            wanted.setdefault(form, set()).add(name)
    if not wanted:
        return
    for batch in pyramid.dataset("videos").scanner(columns=["video_id", "uris"]).to_batches():
        for video_id, uris in zip(batch["video_id"].to_pylist(), batch["uris"].to_pylist(), strict=True):
            for end in (end for uri in uris or () for end in ends(uri)):
                for name in wanted.get(end, ()):
                    yield name, video_id


def ends(uri: str) -> Iterator[str]:
    """A URI, and each of its ends after a slash."""
    yield uri
    place = uri.find("/")
    while place >= 0:
        if rest := uri[place + 1 :]:
            yield rest
        place = uri.find("/", place + 1)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"{name[:200]!r}" for name in names[:_SHOWN]) + more
