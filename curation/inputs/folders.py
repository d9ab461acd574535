"""Walking folders, local and remote: the entries below one, by extension or glob, in sorted order.

Called by `sources` for an argument that is a folder or a glob. What is not asked for is counted by extension, hidden
entries too. A local link is taken when it leads to a file in the same folder; one that leads out of it is `Refused`
unless `Links` says otherwise. Memory holds the names of the folders between the root and the current entry, never the
whole tree.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase

import pyarrow as pa
from pyarrow import fs

from curation.contract import Reason, Source, Verdict
from curation.inputs import odd_keys, uris

MAGIC = frozenset("*?[")
_MOST_KINDS = 500


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that was found and will not be opened."""

    uri: str
    verdict: Verdict
    extra: str = ""


Entry = Source | Refused


@dataclass(slots=True)
class Tally:
    """What a listing saw and did not yield. `passed_over`: files by extension, "hidden" and "no extension" among them.

    `links_out`: links that were refused because they lead out; `repeated`: rows that name an entry again and say other
    things of it. Of sidecars: `sidecars` that gave a caption; videos that have none; those that hold no caption, and
    those that could not be read, by why; `first_sidecar` of each why.
    """

    passed_over: Counter[str] = field(default_factory=Counter)
    links_out: int = 0
    repeated: int = 0
    sidecars: int = 0
    without_sidecar: int = 0
    sidecars_unfit: Counter[str] = field(default_factory=Counter)
    sidecars_lost: Counter[str] = field(default_factory=Counter)
    first_sidecar: dict[str, str] = field(default_factory=dict)

    def sidecar_unfit(self, why: str, name: str) -> None:
        """Count a sidecar that holds no caption, or may not be read."""
        self.sidecars_unfit[why] += 1
        self.first_sidecar.setdefault(why, name)

    def sidecar_lost(self, why: str, name: str) -> None:
        """Count a sidecar that the machine could not read."""
        self.sidecars_lost[why] += 1
        self.first_sidecar.setdefault(why, name)


class Links(Enum):
    """Which links out of a folder are followed: none; those of a hub's cache; or all."""

    NONE = "none"
    HUB = "hub"
    ALL = "all"

    def follows(self, real: str, root: str, folder: bool) -> bool:
        if self is Links.HUB:
            return not folder and _is_blob(real, os.path.realpath(root))
        return self is Links.ALL


def _is_blob(real: str, root: str) -> bool:
    """Whether a file lies where a hub's cache keeps the bytes of the data set whose revision `root` is:
    NAME/snapshots/REVISION holds names, which are links into NAME/blobs.
    """
    home, snapshots, revision = f"{root}/".rpartition("/snapshots/")
    return bool(snapshots and revision) and os.path.dirname(real) == f"{home}/blobs"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries below a folder are taken: by extension and, for a glob, by the parts of its pattern."""

    extensions: frozenset[str]
    parts: tuple[str, ...] = ()
    links: Links = Links.NONE
    tally: Tally = field(default_factory=Tally)

    def file(self, relative: str) -> bool:
        names = tuple(relative.split("/"))
        return matches(names, self.parts) and (self.known(names[-1]) or self._spelt_out(names[-1]))

    def folder(self, relative: str) -> bool:
        return _may_lead(tuple(relative.split("/")), self.parts)

    def known(self, name: str) -> bool:
        return os.path.splitext(name)[1].lower() in self.extensions

    def pass_over(self, relative: str) -> None:
        """Count a file that was asked for by its folder and is not taken."""
        names = tuple(relative.split("/"))
        if matches(names, self.parts):
            ending = os.path.splitext(names[-1])[1].lower() or "no extension"
            kind = "hidden" if names[-1].startswith(".") else ending
            counts = self.tally.passed_over
            counts[kind if kind in counts or len(counts) < _MOST_KINDS else "other"] += 1

    def _spelt_out(self, name: str) -> bool:
        # "*.bin" asks for .bin files, while "*" and "**" ask for videos.
        last = self.parts[-1] if self.parts else ""
        ending = os.path.splitext(last)[1]
        return bool(ending) and not MAGIC & set(ending) and fnmatchcase(name, last)


def split_glob(path: str) -> tuple[str, tuple[str, ...]]:
    """The folder above the first wildcard, and the parts of the pattern below it."""
    parts = path.split("/")
    first = next(index for index, part in enumerate(parts) if MAGIC & set(part))
    return "/".join(parts[:first]) or "/", tuple(part for part in parts[first:] if part)


def matches(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether a glob matches a path or a folder above it (a folder that matches is walked)."""
    if not parts:
        return True
    if parts[0] == "**":
        return matches(names, parts[1:]) or (bool(names) and matches(names[1:], parts))
    return bool(names) and fnmatchcase(names[0], parts[0]) and matches(names[1:], parts[1:])


def _may_lead(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether something below this folder can match."""
    if not names or not parts or parts[0] == "**":
        return True
    return fnmatchcase(names[0], parts[0]) and _may_lead(names[1:], parts[1:])


def entry(path: str, status: os.stat_result) -> Entry:
    """A local path as a source, or refused where it is no regular file."""
    if stat.S_ISREG(status.st_mode):
        return Source(uris.local_uri(path), status.st_size, status.st_mtime)
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
    return Refused(uris.local_uri(path), Verdict(Reason.NOT_A_FILE, detail=kind))


def unreadable(path: str, error: OSError) -> Refused:
    return Refused(uris.local_uri(path), Verdict(Reason.UNREADABLE, detail=error.strerror or str(error)))


def walk(root: str, wanted: Wanted) -> Iterator[Entry]:
    """The entries below a local folder. An unreadable `root` raises, a folder below it is `Refused`."""
    pending = _children(root, wanted, "")
    places = {os.path.realpath(root)}  # whose files are listed under their own names, or were
    skip = len(root.rstrip("/")) + 1
    while pending:
        path = pending.pop()
        relative = path[skip:]
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                found, folder = _link(path, relative, root, wanted, places)
            else:
                found, folder = _plain(path, relative, status, wanted)
                # A link to a folder above the ones that were walked leads to them once more.
                folder = folder and not (wanted.links is Links.ALL and os.path.realpath(path) in places)
            if found is not None:
                yield found
            if folder:
                pending += _children(path, wanted, relative)
        except OSError as error:
            yield unreadable(path, error)


def _children(folder: str, wanted: Wanted, relative: str) -> list[str]:
    """Paths in a folder, last one first: the walk takes them from the end."""
    with os.scandir(folder) as found:
        names = sorted((one.name for one in found), reverse=True)
    for name in names:
        if name.startswith("."):
            wanted.pass_over(f"{relative}/{name}".strip("/"))
    return [os.path.join(folder, name) for name in names if not name.startswith(".")]


def _plain(path: str, relative: str, status: os.stat_result, wanted: Wanted) -> tuple[Entry | None, bool]:
    """What is yielded for a file or folder that is no link, and whether a folder is walked."""
    folder = stat.S_ISDIR(status.st_mode)
    if wanted.file(relative) and (not folder or wanted.known(relative)):
        return entry(path, status), folder and wanted.folder(relative)  # a folder so called is refused: not missed
    if not folder:
        wanted.pass_over(relative)
    return None, folder and wanted.folder(relative)


def _link(path: str, relative: str, root: str, wanted: Wanted, places: set[str]) -> tuple[Entry | None, bool]:
    """The same for a link. Where it leads to something in one of `places`, a folder is walked under its own name only,
    so that a loop ends; a place outside that is entered is one more of them.
    """
    try:
        status = os.stat(path)
    except OSError:
        status = None
    folder = status is not None and stat.S_ISDIR(status.st_mode)
    if not (wanted.folder(relative) if folder else wanted.file(relative)):
        if not folder:
            wanted.pass_over(relative)
        return None, False
    real = os.path.realpath(path)
    place = _place(real, places)
    if place is None and not wanted.links.follows(real, root, folder):
        wanted.tally.links_out += 1
        how = "; --follow-links takes it" if status is not None else ", to nothing"
        return _refused(path, Reason.OUTSIDE, f"a link that leads outside {root}{how}"), False
    if status is None:
        return _refused(path, Reason.UNREADABLE, "a link to nothing"), False
    if not folder:
        return entry(path, status), False
    if place is None:
        places.add(real)
        return None, True
    if "/." in real[len(place) :]:
        return _refused(path, Reason.OUTSIDE, "a link to a hidden folder: name that folder itself"), False
    return None, False


def _refused(path: str, reason: Reason, detail: str) -> Refused:
    return Refused(uris.local_uri(path), Verdict(reason, detail=detail))


def _place(real: str, places: Collection[str]) -> str | None:
    """The one of `places` that a path is or lies under; all are free of links."""
    while real not in places:
        above = os.path.dirname(real)
        if above == real:
            return None
        real = above
    return real


def walk_remote(system: fs.FileSystem, root: str, folder: str, wanted: Wanted) -> Iterator[Entry]:
    """The same for a remote folder: `root` is its path in `system`, `folder` its URI."""
    pending = [(root, "")]
    while pending:
        path, relative = pending.pop()
        try:
            found = system.get_file_info(fs.FileSelector(path))
            # A store's keys are no paths: in one with '//' a folder seems to hold itself.
            if any(info.path == path or info.base_name in _ODD for info in found):
                found = _with_odd_keys(system, path, found)
        except (OSError, pa.ArrowException) as error:
            if not relative:
                raise
            yield Refused(uris.child(folder, relative), Verdict(Reason.UNREADABLE, detail=str(error)))
            continue
        subfolders: list[tuple[str, str]] = []
        for info in sorted(found, key=lambda info: info.path):
            below = info.path[len(root) + 1 :]
            if info.type == fs.FileType.Directory and not _hidden(info.base_name):
                subfolders += [(info.path, below)] if wanted.folder(below) else []
            elif wanted.file(below) and not any(map(_hidden, below.split("/"))):
                yield _remote_named(uris.child(folder, below), below, info)
            else:
                wanted.pass_over(below)
        pending += reversed(subfolders)


_ODD = ("", ".", "..")
"""Parts of a key that are no names in a path."""


def _with_odd_keys(system: fs.FileSystem, path: str, found: Sequence[fs.FileInfo]) -> list[fs.FileInfo]:
    """What a folder holds, and instead of the folders with an odd name all objects below them."""
    below = [one for one in system.get_file_info(fs.FileSelector(path, recursive=True)) if one.path.rstrip("/") != path]
    odd = [one for one in below if one.type == fs.FileType.File and one.path[len(path) + 1 :].split("/")[0] in _ODD]
    return odd + [one for one in found if one.path != path and one.base_name not in _ODD]


def _hidden(name: str) -> bool:
    return name.startswith(".") and name not in _ODD


def _remote_named(uri: str, relative: str, info: fs.FileInfo) -> Entry:
    if ".." in relative.split("/"):
        return Refused(uri, Verdict(Reason.OUTSIDE, detail="'..' in a key: copy the object to another one"))
    return remote_entry(odd_keys.readable(uri), info)


def remote_entry(uri: str, info: fs.FileInfo) -> Source:
    return Source(uri, info.size or 0, uris.modified(info))
