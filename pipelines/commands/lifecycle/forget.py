"""`ziggurat forget`: videos taken down, for ever. First what the names mean and what would go; then it goes.

Two functions, so that a face can show the first one's answer, and ask, before it calls the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.errors import UserError
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import forget as taking_down
from curation.pyramid.takedown import tombstones
from curation.pyramid.takedown.forget import Forgotten
from curation.pyramid.takedown.subject import Target, clips_of, find
from curation.pyramid.takedown.tombstones import Work
from curation.shards.takedown import naming


@dataclass(frozen=True, slots=True)
class Takedown:
    """What is to be taken down. `asked`: the names given; `already`: those of them that were taken down before;
    `unfinished`: videos of a takedown that was cut short, which is done to its end along with this one; `pins`: tags of
    versions that will keep some of it; `manifests`: those that name a clip of it.
    """

    pyramid: Pyramid
    asked: tuple[str, ...]
    targets: tuple[Target, ...]
    already: tuple[str, ...] = ()
    unfinished: int = 0
    pins: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()


def takedown(uri: str, names: Sequence[str], list_: str | None = None, ahead: bool = False) -> Takedown:
    """What a takedown by these names, and those in the file `list_`, would be. Nothing is written. UserError where a
    name means nothing or several videos; `ahead`: see `curation.pyramid.takedown.subject.find`.
    """
    pyramid = Pyramid.open(uri)
    asked = tuple(dict.fromkeys((*names, *(_lines(list_) if list_ is not None else ()))))
    work, _ = tombstones.pending(pyramid.files)
    if not asked and not work.videos:
        raise UserError("no video is named", "give ids, URIs or file names, or --list FILE with one in each line")
    found = find(pyramid, asked, ahead)
    ids = frozenset(found.targets)
    pins = taking_down.pins(pyramid, Work(ids, frozenset(clips_of(pyramid, ids))))
    manifests = naming(pyramid, {*ids, *found.already, *work.videos, *work.clips})
    return Takedown(pyramid, asked, tuple(found.targets.values()), found.already, len(work.videos), pins, manifests)


def forget(wanted: Takedown) -> Forgotten:
    """Carry it out; what went and what could not."""
    # Opened again: somebody may have given it a space of vectors while the person was asked.
    pyramid = wanted.pyramid.refreshed()
    ids = {one.video_id for one in wanted.targets}
    known = tombstones.read(pyramid.files)
    work, _ = tombstones.pending(pyramid.files)
    done = taking_down.forget(pyramid, ids | {one for one in wanted.already if one in known}, wanted.asked)
    # Looked up again: somebody may have frozen a manifest while the person was asked.
    return replace(done, manifests=naming(pyramid, {*ids, *wanted.already, *work.videos, *work.clips}))


def _lines(path: str) -> list[str]:
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"{path} cannot be read: {why}", "name a text file with a name or an id in each line") from None
    return [line.strip() for line in lines if line.strip()]
