"""Tombstones: what was taken down (`forget`) and never comes back, in `forgotten/` beside the datasets.

`*.json` name contents by their ids, with the time they were taken down: no name, nothing else. Beside them stand the
ids of sources that could not be read (hashes of their names, `rows.nameless_id`), and those of clips from before a
clip's id began as its video's does. A file never changes, so a process reads each once and then only lists the folder,
which costs the same for one tombstone as for 100,000. Two who add some at a time write a file each; `tidy` puts many
files into one.

`*.pending` is the work of a takedown that has not ended. While there is one, nobody merges or indexes the tail of a
dataset (`tail`): a copy of what is about to go would go astray.

Whoever writes rows, frames, clips or names asks here in the same breath, inside `locks.writing` (`gate`, `upsert`,
`names`, the stages); `forget` writes tombstones inside `locks.alone`. So on a local disk whoever began to write before
has ended when they are there, and whoever begins later sees them.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from curation.errors import UserError
from curation.pyramid.storage.files import Files
from curation.retry import retrying

FOLDER = "forgotten"
MANY = 32
"""Files that are put into one."""
_FILE, _PENDING = ".json", ".pending"
_read_already: dict[tuple[str, str], frozenset[str]] = {}
_last: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {}


@dataclass(frozen=True, slots=True)
class Work:
    """What a takedown is to remove: videos and clips by their ids. `asked`: hashes of the names that it was given, by
    which the same command is known when it is given again after the names are gone.
    """

    videos: frozenset[str] = frozenset()
    clips: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()

    def __or__(self, other: Work) -> Work:
        return Work(self.videos | other.videos, self.clips | other.clips, self.asked | other.asked)


def read(files: Files) -> frozenset[str]:
    """The ids of all that was taken down; the same object as long as there is nothing new. UserError where a tombstone
    is damaged: nobody can tell then what must not come in.
    """
    while True:
        names = tuple(_named(files, _FILE))
        if not names:
            return frozenset()
        if files.uri in _last and _last[files.uri][0] == names:
            return _last[files.uri][1]
        found = [_ids(files, name) for name in names]
        if all(ids is not None for ids in found):  # else somebody has put it into another file meanwhile
            known = frozenset().union(*(ids for ids in found if ids is not None))
            _last[files.uri] = names, known
            return known


def add(files: Files, ids: Collection[str]) -> int:
    """Take in more, for good; how many are new."""
    new = sorted(set(ids) - read(files))
    if new:
        _write(files, [{"at": datetime.now(UTC).isoformat(timespec="seconds"), "ids": new}])
    return len(new)


def adopt(files: Files, other: Files) -> int:
    """Take in those of another pyramid, whose rows are about to come into this one; how many are new."""
    return add(files, read(other))


def tidy(files: Files) -> None:
    """Put many files into one. Whoever lists the folder meanwhile finds the one, or all others."""
    names = _named(files, _FILE)
    if len(names) <= MANY:
        return
    contents = [(name, content) for name in names if (content := _content(files, name)) is not None]
    _write(files, [group for name, content in contents for group in _groups(files, name, content)])
    for name, _ in contents:
        retrying(f"cannot write to {files.uri}", lambda name=name: files.remove(name))


def begin(files: Files, work: Work) -> None:
    """Write work down before any of it is done."""
    data = {name: sorted(getattr(work, name)) for name in ("videos", "clips", "asked")}
    name = f"{FOLDER}/{_fresh()}{_PENDING}"
    retrying(f"cannot write to {files.uri}", lambda: files.write(name, json.dumps(data).encode()))


def is_pending(files: Files) -> bool:
    """Whether a takedown is at work, or was cut short."""
    return bool(_named(files, _PENDING))


def check_ended(files: Files, why: str) -> None:
    """UserError while a takedown is at work, or where one was cut short."""
    if is_pending(files):
        raise UserError(f"a takedown has not ended, {why}", f"finish it with `ziggurat forget {files.uri} --yes`")


def pending(files: Files) -> tuple[Work, tuple[str, ...]]:
    """The work that is not done, all together, and the files that say so."""
    names, work = tuple(_named(files, _PENDING)), Work()
    for name in names:
        if (content := _content(files, name)) is not None:
            try:
                data = json.loads(content)
                work |= Work(*(frozenset(map(str, data[part])) for part in ("videos", "clips", "asked")))
            except (ValueError, KeyError, TypeError):
                raise _damaged(files, name) from None
    return work, names


def done(files: Files, names: Iterable[str]) -> None:
    """Say that the work of these files is done."""
    for name in names:
        retrying(f"cannot write to {files.uri}", lambda name=name: files.remove(name))


def mark(files: Files, name: str) -> str:
    """What stands for a name in `Work.asked`."""
    return hashlib.sha256(f"{files.uri}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()


def _named(files: Files, suffix: str) -> list[str]:
    return retrying(f"cannot read {files.uri}", lambda: files.names(FOLDER, suffix))


def _ids(files: Files, name: str) -> frozenset[str] | None:
    known = _read_already.get((files.uri, name))
    if known is None and (content := _content(files, name)) is not None:
        known = frozenset(str(one) for group in _groups(files, name, content) for one in group["ids"])
        _read_already[files.uri, name] = known
    return known


def _content(files: Files, name: str) -> bytes | None:
    return retrying(f"cannot read {files.uri}", lambda: files.read(name))


def _groups(files: Files, name: str, content: bytes) -> list[dict[str, Any]]:
    try:
        return [{"at": str(group["at"]), "ids": list(map(str, group["ids"]))} for group in json.loads(content)]
    except (ValueError, KeyError, TypeError):
        raise _damaged(files, name) from None


def _damaged(files: Files, name: str) -> UserError:
    return UserError(f"{files.uri}/{name} is damaged", "restore it: without it what was taken down would come back")


def _write(files: Files, groups: list[dict[str, Any]]) -> None:
    name = f"{FOLDER}/{_fresh()}{_FILE}"
    retrying(f"cannot write to {files.uri}", lambda: files.write(name, (json.dumps(groups) + "\n").encode()))


def _fresh() -> str:
    return f"{int(time.time()):x}-{uuid.uuid4().hex}"
