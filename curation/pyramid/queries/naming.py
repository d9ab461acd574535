"""File names of exported clips: a pattern such as `{source}_{shot}_{clip_id}`, checked before anything is written, and
the suffix of what the file holds.

Names stay inside their folder and fit every file system and store: letters and digits of any script and `. _ - = + @ ,`
remain, all else becomes `_`. Every name holds the clip's id, so no two clips have the same one.
"""

from __future__ import annotations

import os
import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.contract import Kind
from curation.errors import UserError
from curation.pyramid.queries import kinds

FIELDS = (
    *("clip_id", "video_id", "source", "shot", "start_frame", "end_frame", "frames", "width", "height", "tier"),
    kinds.COLUMN,
)
"""What a pattern may name; `source` is the file name of the clip's video without its suffix."""

SUFFIX = ".mp4"
_IMAGES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
"""Suffixes of images, by how their bytes begin."""
_ID = re.compile(r"[0-9a-f]{8,64}")
_LITERAL = re.compile(r"[\w.=+@,-]*")
_LONGEST = 240
"""Bytes of a name: file systems take 255, and a file that is being written has a name beside it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern in parts: (text, name of a field or None) in turn."""

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Parse; UserError for an unknown field, an unsafe character, or no `{clip_id}`."""
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        try:
            found = [(literal, *rest) for literal, *rest in string.Formatter().parse(_without_suffix(text))]
        except ValueError as error:
            raise UserError(f"{text!r:.80} is not a pattern of names ({error})", f"there are {known}") from None
        parts: list[tuple[str, str | None]] = []
        for literal, field, form, conversion in found:
            if field is not None and (field not in FIELDS or form or conversion):
                raise UserError(f"no field {{{field[:40]}}} in a pattern of names", f"there are {known}")
            if not _LITERAL.fullmatch(literal):
                raise UserError(
                    f"{literal!r:.80} cannot be part of a file name", "use letters, digits and . _ - = + @ ,"
                )
            parts.append((literal, field))
        fields = [field for _, field in parts if field is not None]
        if len(set(fields)) < len(fields):
            raise UserError(f"{text!r:.80} names a field twice", "name it once")
        if "clip_id" not in fields:
            raise UserError(f"{text!r:.80} gives two clips the same name", "add {clip_id}: it tells them apart")
        if text.startswith("."):
            raise UserError(f"{text!r:.80} gives hidden files", "begin with something else than a dot")
        if len(text.encode()) > _LONGEST // 2:
            raise UserError(f"the pattern of names is longer than {_LONGEST // 2} bytes", "shorten it")
        return cls(tuple(parts))

    def name(self, row: Mapping[str, Any]) -> str:
        """The file name of the clip `row` without its suffix; UserError where its id is not one of Ziggurat's. A long
        source is cut.
        """
        clip_id = row["clip_id"]
        if not _ID.fullmatch(clip_id):
            raise UserError(
                f"clip id {clip_id!r} is not one of Ziggurat's", "it is not used as a file name; leave it out"
            )
        values = {field: safe(_text(row, field)) for _, field in self.parts if field is not None}
        room = _LONGEST - len(self._filled(values | {"source": ""}).encode())
        if room < 0:
            raise UserError(f"the name of clip {clip_id} is longer than {_LONGEST} bytes", "name fewer fields")
        if "source" in values:
            values["source"] = _cut(values["source"], room)
        return self._filled(values)

    def _filled(self, values: Mapping[str, str]) -> str:
        whole = "".join(literal + (values[field] if field else "") for literal, field in self.parts)
        return "_" + whole[1:] if whole.startswith(".") else whole


def _without_suffix(text: str) -> str:
    """A pattern without the suffix that a file gets by its bytes."""
    stem, dot, last = text.rpartition(".")
    return stem if dot + last in (SUFFIX, *_IMAGES.values()) else text


def suffix(clip_id: str, kind: str, content: bytes) -> str:
    """The suffix of a clip's file; UserError for an image that is neither JPEG nor PNG."""
    if kind == Kind.VIDEO:
        return SUFFIX
    for beginning, found in _IMAGES.items():
        if content.startswith(beginning):
            return found
    raise UserError(f"the image {clip_id} is neither JPEG nor PNG", "the store is damaged: restore it")


def safe(text: str) -> str:
    """`text` with nothing in it that means something to a file system, a shell or a URI."""
    return "".join(c if _is_safe(c) else "_" for c in unicodedata.normalize("NFC", text)) or "_"


def _is_safe(character: str) -> bool:
    return character in "._-=+@," or unicodedata.category(character)[0] in "LMN"  # letters, their marks, numbers


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row[field]
    if value is None:
        return "none"
    return os.path.splitext(value)[0] or value if field == "source" else str(value)


def _cut(text: str, most: int) -> str:
    """The beginning of `text`, at most so many bytes of UTF-8."""
    return text.encode()[: max(0, most)].decode("utf-8", "ignore")
