"""Captions in files beside the videos: `clip.txt` or `clip.json` for `clip.mp4`, as in the folders of many trainers.

`sources` calls it for local entries where a person asked for sidecars (`--sidecars`). What such a file says becomes the
column `caption` of its source, as if a list had named it: from there on one rule holds for both (`own_columns`). A file
that gives no caption is counted by why (`Tally`), and its video goes on without one.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from curation.caption.cleaning import MOST, plain
from curation.contract import Source
from curation.errors import UserError
from curation.inputs import own_columns, uris
from curation.inputs.folders import Entry, Links, Refused, Tally

KINDS = ("txt", "json")
"""What a sidecar may be. Text: all of it is the caption. JSON: a string, or an object with a key of
`own_columns.CAPTIONS` that holds a string or a list of one."""

LARGEST = 1 << 20
"""Bytes of the largest sidecar that is read."""


@dataclass(frozen=True, slots=True)
class Sidecars:
    """Which files beside a video are looked for: of `kinds` the first that is there counts. None: no file is."""

    kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str | None) -> Self:
        """From the words of `--sidecars`: `txt`, `json` or `txt,json`. UserError: another kind, or one twice."""
        kinds = tuple(kind.strip() for kind in text.split(",")) if text is not None else ()
        if wrong := [kind for kind in kinds if kind not in KINDS or kinds.count(kind) > 1]:
            raise UserError(f"--sidecars {text}: {wrong[0]!r}", f"give {' or '.join(KINDS)}, or both with a comma")
        return cls(kinds)


class _Unfit(ValueError):
    """A file that gives no caption; the message says why."""


def attached(
    entries: Iterator[Entry], wanted: Sidecars, root: str | None, links: Links, tally: Tally
) -> Iterator[Entry]:
    """The entries, those of local files with the caption of their sidecar. `root`: the folder out of which no sidecar
    leads, but for what `links` follows; None for the video's own.
    """
    if not wanted.kinds:
        yield from entries
        return
    for entry in entries:
        yield entry if isinstance(entry, Refused) else _with_caption(entry, wanted, root, links, tally)


def _with_caption(source: Source, wanted: Sidecars, root: str | None, links: Links, tally: Tally) -> Source:
    if own_columns.caption(source.extra) is not None:
        return source  # the list's own row says it
    video = uris.local_path(source.uri)
    if video is None:
        tally.sidecar_unfit("videos of remote stores: write their captions into a list", source.uri)
        return source
    path = video
    try:
        beside = (_beside(video, kind) for kind in wanted.kinds)
        found = next((one for one in beside if _is_there(one)), None)
        if found is None:
            tally.without_sidecar += 1
            return source
        path = found
        text = _caption(_read(path, root or os.path.dirname(video), links), path)
        columns = json.loads(source.extra) if source.extra else {}
        extra = own_columns.packed({**columns, own_columns.CAPTIONS[0]: text})
    except ValueError as error:  # `_Unfit`, or more than a video may carry
        tally.sidecar_unfit(str(error), path)
        return source
    except OSError as error:
        tally.sidecar_lost(error.strerror or type(error).__name__, path)
        return source
    tally.sidecars += 1
    return replace(source, extra=extra)


def _is_there(path: str) -> bool:
    """Whether there is something, be it a link to nothing. Raises `OSError` where the machine cannot tell."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _beside(video: str, kind: str) -> str:
    return f"{os.path.splitext(video)[0]}.{kind}"


def _read(path: str, root: str, links: Links) -> bytes:
    """The content of a sidecar, which no more than a video leads out of its folder or is a pipe or a device."""
    real = os.path.realpath(path)
    if not uris.inside(path, root) and not links.follows(real, root, folder=False):
        raise _Unfit("a link that leads outside")
    if not _is_there(real):
        raise _Unfit("a link to nothing")
    if not stat.S_ISREG(os.stat(real).st_mode):
        raise _Unfit("no regular file")
    with open(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _Unfit("no regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise _Unfit(f"larger than {LARGEST >> 20} MiB")
    return content


def _caption(content: bytes, path: str) -> str:
    """The caption on one line, of characters that are shown."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _Unfit("no UTF-8") from None
    said = _of_json(text) if path.endswith(".json") else text
    if len(said) > MOST:
        raise _Unfit(f"longer than {MOST} characters")
    found = " ".join(plain(said).split())
    if not found:
        raise _Unfit("empty")
    return found


def _of_json(text: str) -> str:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise _Unfit("no JSON") from None
    if isinstance(found, dict):
        lower = {str(name).lower(): value for name, value in found.items()}
        found = next((lower[name] for name in own_columns.CAPTIONS if name in lower), None)
    if isinstance(found, list) and len(found) > 1:
        raise _Unfit("several captions, and one is needed")
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, str):
        raise _Unfit(f"no {' or '.join(own_columns.CAPTIONS)} that is a text")
    return found
