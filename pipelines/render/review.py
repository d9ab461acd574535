"""How it is shown what a person said of clips."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from curation.pyramid.review import words
from pipelines.render.lines import line, note

if TYPE_CHECKING:
    from curation.pyramid.review.changing import Replaced
    from pipelines.commands.review.saying import Answer

DONE: Mapping[str, str] = {"keep": "kept", "drop": "dropped", "undecide": "undecided again"}


def said(answer: Answer, as_json: bool) -> None:
    """Of `saying.decide` and `saying.tag`."""
    for one in answer.notes:
        note(one)
    if as_json:
        line(json.dumps(answer.as_data()))
        return
    line(summary(answer))
    for one in answer.changed.told:
        line(f"  {before(one)}")
    if (more := answer.changed.replaced - len(answer.changed.told)) > 0:
        line(f"  and {more} decisions more")


def summary(answer: Answer) -> str:
    """In one line."""
    done = DONE.get(answer.said) or f"tagged {answer.said.removeprefix('tag ')}"
    changed = answer.changed
    told = [f"{changed.changed} clips {done} by {answer.by}"]
    told += [f"{changed.same} were so already"] if changed.same else []
    told += [f"{changed.replaced} had been decided otherwise"] if changed.replaced else []
    told += [f"{len(changed.missing)} are not there any more"] if changed.missing else []
    return "; ".join(told)


def of_people(row: Mapping[str, Any]) -> Iterator[str]:
    """What people have said of a clip, a line each: decision and tags with who and when."""
    if row.get("decided_at") is not None:
        yield f"{DONE[row['decision'] or 'undecide']} {whose(row['decision_by'], row['decided_at'])}"
    for name, word in words.tags_of(row).items():
        yield f"tagged {name} {whose(word.by, word.at)}"


def whose(by: str, at: str) -> str:
    """Who said something, and when: `by anna at 2026-12-01 13:50 UTC`."""
    return f"by {by} at {at[:16].replace('T', ' ')} UTC"


def before(one: Replaced) -> str:
    """A decision that has given way."""
    return f"{one.clip_id} was {DONE[one.decision]} {whose(one.by, one.at)}"
