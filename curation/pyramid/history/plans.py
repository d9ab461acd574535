"""The plans that a pyramid's clips were measured under: `plans/FINGERPRINT.json`, one file each, never changed.

A run keeps its plan before it writes the first row that names it (`clips.plan`), so that clips can be cut later exactly
as they were measured, whatever the recipe says by then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_type_hints

from curation.media.plan import MediaPlan
from curation.pyramid.storage.files import Files
from curation.retry import retrying

FOLDER = "plans"


def keep(files: Files, plan: MediaPlan) -> None:
    """Keep a plan under its fingerprint, where it is not there yet, or damaged."""
    name = f"{FOLDER}/{plan.fingerprint}.json"

    def write() -> None:
        if load(files, plan.fingerprint) is None:
            files.write(name, to_json(plan).encode())

    retrying(f"cannot write to {files.uri}", write)


def load(files: Files, fingerprint: str) -> MediaPlan | None:
    """The plan with this fingerprint; None where it was not kept, or where this Ziggurat would do something else under
    it than the one that kept it.
    """
    if "/" in fingerprint:
        return None  # the text of a row is no path
    content = retrying(f"cannot read {files.uri}", lambda: files.read(f"{FOLDER}/{fingerprint}.json"))
    try:
        plan = None if content is None else from_json(content.decode())
    except (ValueError, TypeError):
        return None
    return plan if plan is not None and plan.fingerprint == fingerprint else None


def to_json(plan: MediaPlan) -> str:
    return json.dumps(asdict(plan), indent=2) + "\n"


def from_json(text: str) -> MediaPlan:
    """What `to_json` wrote; ValueError or TypeError for anything else. A field that it lacks has its default."""
    return _made(MediaPlan, json.loads(text))


def _made(kind: Any, data: Any) -> Any:
    """A dataclass of plain values, lists as tuples, and other such dataclasses."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{kind.__name__}: a table is needed, not {data!r:.80}")
    types = get_type_hints(kind)
    unknown = set(data) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{kind.__name__}: no such field {sorted(unknown)}")
    return kind(**{name: _value(types[name], value) for name, value in data.items()})


def _value(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        return _made(kind, value)
    return tuple(value) if isinstance(value, list) else value
