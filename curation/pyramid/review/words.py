"""What a person may say of a clip, and how it stands in its row: a decision, and tags, each with who said it and when.

    keep, drop, undecide; tags that come and go -> [words] -> the columns `contract.REVIEW` of one row

Plain functions on rows. `changing` writes what they give; `merge` unites by them what two pyramids have been told.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from curation.contract import REVIEW
from curation.errors import UserError

Row = Mapping[str, Any]
COLUMNS = tuple(field.name for field in REVIEW)
NULL = "null"
MOST_TAGS = 100
"""Tags of a clip at most."""
_TAG = re.compile(r"\w[\w.:+/-]{0,63}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,80}")


class Decision(StrEnum):
    """What a person may decide of a clip. One that is dropped is in no tier."""

    KEEP = "keep"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Word:
    """Who said something, and when: UTC in ISO 8601, of one width, so that texts are in the order of their times."""

    by: str
    at: str

    @classmethod
    def now(cls, by: str) -> Word:
        """What somebody says now. UserError where that is no name of anybody."""
        return cls(checked_name(by), datetime.now(UTC).isoformat(timespec="microseconds"))


@dataclass(frozen=True, slots=True)
class Retag:
    """Tags that come and tags that go."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def checked_name(by: str) -> str:
    """The name of who speaks. UserError where it is none."""
    if not _NAME.fullmatch(by) or not by.strip():
        raise UserError(f"{by[:80]!r} is no name of a person", "give a name of 1 to 80 characters in one line")
    return by


def is_dropped(row: Row) -> bool:
    """Whether a person has dropped the clip of a row."""
    return row.get("decision") == Decision.DROP


def decision(text: str) -> Decision:
    """`keep` or `drop`; UserError for anything else."""
    if text not in {*Decision}:
        raise UserError(f"{text[:80]!r} is no decision", f"there are {', '.join(Decision)}")
    return Decision(text)


def tag(text: str) -> str:
    """A tag as it is kept. UserError where it cannot be one."""
    found = unicodedata.normalize("NFC", text.strip())
    if not _TAG.fullmatch(found) or found == NULL:
        told = "letters, digits and _ . : + / - are allowed, up to 64, a letter or digit first"
        raise UserError(f"{text[:80]!r} cannot be a tag", told)
    return found


def tags(texts: Iterable[str]) -> tuple[str, ...]:
    """Tags, given one by one or with commas between, sorted and each once."""
    parts = (part for text in texts for part in text.split(","))
    return tuple(sorted({tag(part) for part in parts if part.strip()}))


def retag(add: Iterable[str] = (), remove: Iterable[str] = ()) -> Retag:
    """Tags that come and go. UserError: there are none, or one does both."""
    found = Retag(tags(add), tags(remove))
    if not found.add and not found.remove:
        raise UserError("no tag is named", "name tags to add or to remove")
    if both := {*found.add} & {*found.remove}:
        raise UserError(f"the tag {min(both)} is both added and removed", "choose one")
    return found


def typed(text: str) -> Retag:
    """What a line of text says of tags: `sunset, -blurry` adds one and removes another."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    gone = [part.removeprefix("-") for part in parts if part.startswith("-")]
    return retag([part for part in parts if not part.startswith("-")], gone)


def tags_of(row: Row) -> dict[str, Word]:
    """The tags of a row, each with whose it is."""
    if not row.get("tagged"):
        return {}
    names = row["tagged"].split(",")
    return {name: Word(by, at) for name, by, at in zip(names, row["tagged_by"], row["tagged_at"], strict=True)}


def said(row: Row) -> dict[str, Any]:
    """The columns of people's alone; null where the row lacks them."""
    return {name: row.get(name) for name in COLUMNS}


def decided(row: Row, wanted: Decision | None, word: Word) -> dict[str, Any]:
    """`said` of a row after a decision, or with None after the one that stood was taken back. The same decision again
    changes nothing: it stays whose it was.
    """
    if row.get("decision") == wanted:
        return said(row)
    return {**said(row), "decision": wanted and str(wanted), "decision_by": word.by, "decided_at": word.at}


def tagged(row: Row, wanted: Retag, word: Word) -> dict[str, Any]:
    """`said` of a row after a change of its tags. A tag that is there stays whose it was. UserError: too many."""
    found = dict.fromkeys(wanted.add, word) | tags_of(row)
    found = {name: one for name, one in found.items() if name not in wanted.remove}
    if len(found) > MOST_TAGS:
        raise UserError(f"a clip would have {len(found)} tags", f"remove some: {MOST_TAGS} at most")
    return said(row) | _columns(found)


def united(old: Row, new: Row) -> dict[str, Any]:
    """`said` of two rows of one clip: the decision that came last, of the time that each has, and the tags of both.
    One that both have is whose it was first.
    """
    later = new if (new.get("decided_at") or "") >= (old.get("decided_at") or "") else old
    both = tags_of(new)
    for name, word in tags_of(old).items():
        both[name] = min(word, both.get(name, word), key=lambda one: one.at)
    return {**said(later), **_columns(both)}


def _columns(found: Mapping[str, Word]) -> dict[str, Any]:
    if not found:
        return {"tagged": None, "tagged_by": None, "tagged_at": None}
    names = sorted(found)
    return {
        "tagged": ",".join(names),
        "tagged_by": [found[name].by for name in names],
        "tagged_at": [found[name].at for name in names],
    }
