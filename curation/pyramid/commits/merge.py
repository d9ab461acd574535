"""How a row of `clips` or `videos` that exists already is united with one that arrives: plain functions on
dicts.

`commit` calls these between reading rows at one version and writing them back on the condition that nobody
else did. The rules make the outcome the same whichever of two jobs comes first:

    clips    a value is never replaced by null, unless a filter says that null is its answer (`<score>_by` is
    set); a clip that has been cut has no `media_why`; what a clip is a copy of goes with its likeness, and its
             cluster with how crowded that is; of captions see `_caption`, of what people say `review.words`
    videos   names are united; what was decided stays, under whatever plan, when a later attempt could not
    decide: `detail` then says why not, and `tried` which attempt it was (of two jobs it may be forgotten, and the next
    run makes it once more)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curation.contract import AMONG_OTHERS, GIVEN, SCORES, Status
from curation.inputs import own_columns
from curation.pyramid.history.failures import TRIED_AGAIN
from curation.pyramid.queries.derived import DERIVED
from curation.pyramid.review import words
from curation.pyramid.tiering.tiers import Tiers

Row = dict[str, Any]


def clip(old: Row | None, new: Row, tiers: Tiers, scores: Sequence[str] = SCORES) -> Row:
    """The clip row to write: `new` over `old`, scores that are not numbers made null, `tier` judged again.

    A score goes with its `_by` and `_why`: what `new` does not say of them, it says is null.
    """
    row = dict(old or {})
    beside = [(score, f"{score}_by", f"{score}_why") for score in scores]
    of_scores = {column for columns in beside for column in columns}
    row |= {name: value for name, value in new.items() if value is not None and name not in of_scores}
    for score, by, why in beside:
        if score not in new:
            continue
        value, maker, reason = new[score], new.get(by), new.get(why)
        if value is not None and value != value:
            value, reason = None, "the filter returned not a number"
            maker = maker or "unknown"
        judged = row.get(score) is not None or row.get(by) is not None
        if value is not None or maker is not None or (not judged and (reason is not None or old is None)):
            row |= {score: value, by: maker, why: reason}
    for score, (column, _) in AMONG_OTHERS.items():
        if new.get(f"{score}_by") is not None:
            row[column] = new.get(column)
    row |= _caption(old or {}, new) | words.united(old or {}, new)
    if row.get("media") is not None:
        row["media_why"] = None  # an earlier attempt had failed
    row["tier"] = tiers.highest(values(row))
    return row


_CAPTION = ("caption", "caption_by", "caption_why")


def _caption(old: Row, new: Row) -> Row:
    """The caption in force with its maker, or why there is none: a caption comes before none, what a model wrote before
    what a list gave, and else what came last.
    """
    first, then = ({name: row.get(name) for name in _CAPTION} for row in (old, new))
    if then["caption"] is not None:
        kept = first["caption"] is not None and then["caption_by"] == GIVEN != (first["caption_by"] or GIVEN)
        return first if kept else then | {"caption_why": None}
    said = then["caption_by"] is not None or then["caption_why"] is not None
    return then if said and first["caption"] is None else first


def displaced_caption(old: Row | None, new: Row) -> Row | None:
    """Of two rows of a clip that have different captions, the one whose caption is not in force afterwards."""
    if old is None or old.get("caption") is None or new.get("caption") is None:
        return None
    if all(old.get(name) == new.get(name) for name in ("caption", "caption_by")):
        return None
    return new if _caption(old, new)["caption_by"] == old.get("caption_by") != new.get("caption_by") else old


def values(row: Row) -> Row:
    """A clip row with its derived columns, as `Tiers` wants it."""
    found = {name: column.value(row) for name, column in DERIVED.items()}
    return row | {name: number for name, number in found.items() if number is not None}


def video(old: Row | None, new: Row) -> Row:
    """The ledger row to write: `new` over `old`, with the names of both, the user's columns of both (of one that both
    have, the value that came last) and the larger number of attempts.
    """
    if old is None:
        uris, modified = _named(new)
        return new | {"uris": uris, "modified": modified}
    undecided = new.get("status") == Status.QUARANTINED and old.get("status") in (Status.DONE, Status.REJECTED)
    row = old | ({"detail": _why_not(new)} | _tried(new) if undecided else new)
    row = row | {"extra": own_columns.united(old.get("extra"), new.get("extra"))}
    uris, modified = _named(old, new)
    attempts = [number for number in (old.get("attempts"), new.get("attempts")) if number is not None]
    return row | {"uris": uris, "modified": modified, "attempts": max(attempts, default=None)}


def _why_not(new: Row) -> str:
    said = [str(new[name]) for name in ("reason", "detail") if new.get(name)]
    return ": ".join(["a later attempt could not judge it", *said])


def _tried(new: Row) -> Row:
    """The attempt that no run repeats unasked: none where its reason does not lie in the data."""
    return {"tried": None if new.get("reason") in TRIED_AGAIN else new.get("tried")}


def displaces(old: Row | None, new: Row) -> bool:
    """Whether `new` settles a video that `old` had settled with clips of another plan: those clips must go. Whoever
    measured it did not know of them where two runs with different recipes met it at the same time.
    """
    settles = new.get("status") in (Status.DONE, Status.REJECTED) and new.get("fingerprint") is not None
    if old is None or not settles or not old.get("clips"):
        return False
    return old.get("fingerprint") is not None and old["fingerprint"] != new["fingerprint"]


def _named(*rows: Row) -> tuple[list[str], list[float]]:
    """The union of `uris`, each with the `modified` that came last, in order of the names so that it is one
    outcome.
    """
    names: dict[str, float] = {}
    for row in rows:
        uris = row.get("uris") or []
        modified = row.get("modified") or [0.0] * len(uris)
        names |= dict(zip(uris, modified, strict=True))
    ordered = sorted(names)
    return ordered, [names[name] for name in ordered]
