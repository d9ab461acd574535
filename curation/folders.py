"""Walking folders, local and remote: the entries below one, by extension or glob, in sorted order.

Called by `sources` for an argument that is a folder or a glob. Hidden entries are skipped. A local link is
taken when it leads to a file in the same folder; one that leads out of it is `Refused`. Memory holds the
names of the folders between the root and the current entry, never the whole tree.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pyarrow as pa
from pyarrow import fs

from curation import uris
from curation.contract import Reason, Source, Verdict

MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that was found and will not be opened."""

    uri: str
    verdict: Verdict


Entry = Source | Refused


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries below a folder are taken: by extension and, for a glob, by the parts of its pattern."""

    extensions: frozenset[str]
    parts: tuple[str, ...] = ()

    def file(self, relative: str) -> bool:
        names = tuple(relative.split("/"))
        return matches(names, self.parts) and (self.known(names[-1]) or self._spelt_out(names[-1]))

    def folder(self, relative: str) -> bool:
        return _may_lead(tuple(relative.split("/")), self.parts)

    def known(self, name: str) -> bool:
        return os.path.splitext(name)[1].lower() in self.extensions

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
    pending = _children(root)
    skip = len(root.rstrip("/")) + 1
    while pending:
        path = pending.pop()
        relative = path[skip:]
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                yield from _link(path, relative, root, wanted)
            elif not stat.S_ISDIR(status.st_mode):
                if wanted.file(relative):
                    yield entry(path, status)
            else:
                if wanted.known(relative) and wanted.file(relative):
                    yield entry(path, status)  # refused, so that it is not missed; what it holds is walked
                if wanted.folder(relative):
                    pending += _children(path)
        except OSError as error:
            yield unreadable(path, error)


def _children(folder: str) -> list[str]:
    """Paths in a folder, last one first: the walk takes them from the end."""
    with os.scandir(folder) as found:
        names = sorted((one.name for one in found if not one.name.startswith(".")), reverse=True)
    return [os.path.join(folder, name) for name in names]


def _link(path: str, relative: str, root: str, wanted: Wanted) -> Iterator[Entry]:
    """A link is taken when it leads to a file under `root`; a folder there is walked under its own name."""
    try:
        status = os.stat(path)
    except OSError:
        status = None
    folder = status is not None and stat.S_ISDIR(status.st_mode)
    if not (wanted.folder(relative) if folder else wanted.file(relative)):
        return
    if not uris.inside(path, root):
        verdict = Verdict(Reason.FORBIDDEN_FORMAT, detail=f"a link that leads outside {root}")
    elif status is None:
        verdict = Verdict(Reason.UNREADABLE, detail="a link to nothing")
    elif not folder:
        yield entry(path, status)
        return
    elif "/." in os.path.realpath(path)[len(os.path.realpath(root)) :]:
        verdict = Verdict(Reason.FORBIDDEN_FORMAT, detail="a link to a hidden folder: name that folder itself")
    else:
        return
    yield Refused(uris.local_uri(path), verdict)


def walk_remote(system: fs.FileSystem, root: str, folder: str, wanted: Wanted) -> Iterator[Entry]:
    """The same for a remote folder: `root` is its path in `system`, `folder` its URI."""
    pending = [(root, "")]
    while pending:
        path, relative = pending.pop()
        try:
            found = system.get_file_info(fs.FileSelector(path))
        except (OSError, pa.ArrowException) as error:
            if not relative:
                raise
            yield Refused(uris.child(folder, relative), Verdict(Reason.UNREADABLE, detail=str(error)))
            continue
        subfolders: list[tuple[str, str]] = []
        for info in sorted(found, key=lambda info: info.path):
            below = info.path[len(root) :].strip("/")
            if info.base_name.startswith("."):
                continue
            if info.type == fs.FileType.Directory and wanted.folder(below):
                subfolders.append((info.path, below))
            elif info.type == fs.FileType.File and wanted.file(below):
                yield remote_entry(uris.child(folder, below), info)
        pending += reversed(subfolders)


def remote_entry(uri: str, info: fs.FileInfo) -> Source:
    return Source(uri, info.size or 0, info.mtime.timestamp() if info.mtime else 0.0)
