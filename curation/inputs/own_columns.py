"""The user's own columns of a list, which go with a video from the list to queries and exports.

They are kept as one JSON object with sorted keys (`Source.extra`, then `videos.extra`): text, so that a `Source` stays
hashable and the ledger needs no new column for a new list. A cell that is empty or null is not kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from curation.caption.cleaning import plain

CAPTIONS = ("caption", "text")
"""Columns, in any case, that fill `clips.caption`; the first that is there counts."""

MOST = 1 << 20
"""Characters of JSON that a video may carry."""


def packed(columns: Mapping[str, Any]) -> str:
    """`columns` as JSON, "" where nothing is in them. Raises ValueError at what JSON cannot say, naming the column."""
    kept = {}
    for name, value in columns.items():
        try:
            plain = _plain(value)
            json.dumps({name: plain}, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"column {name!a} is not UTF-8 text") from error
        except (TypeError, RecursionError) as error:
            raise ValueError(f"column '{name}' holds {type(value).__name__}, which JSON cannot say") from error
        if plain is not None and plain != "":
            kept[name] = plain
    text = json.dumps(kept, ensure_ascii=False, sort_keys=True) if kept else ""
    if len(text) > MOST:
        raise ValueError(f"the further columns are longer than {MOST} characters")
    return text


def united(old: str | None, new: str | None) -> str | None:
    """The columns of both; of one that both have the value of `new`. None where neither has any."""
    if not old or not new:
        return new or old or None
    return packed(json.loads(old) | json.loads(new))


def caption(text: str | None) -> str | None:
    """The caption among the columns `text`, of characters that are shown; None where there is none."""
    columns = json.loads(text) if text else {}
    ours = {name.lower(): value for name, value in columns.items() if name.lower() in CAPTIONS}
    texts = {name: plain(value) for name, value in ours.items() if isinstance(value, str)}
    lower = {name: value for name, value in texts.items() if value.strip()}
    return next((lower[name] for name in CAPTIONS if name in lower), None)


def _plain(value: Any) -> Any:
    """A value as JSON has it: times as ISO 8601, decimals as text, what is not a number as null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case date() | datetime() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return value
