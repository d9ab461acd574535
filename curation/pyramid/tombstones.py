"""Tombstones: the videos that were taken down (`forget`), by their ids, in `forgotten.json` beside the datasets.

Whoever writes rows asks here: `commit` leaves out what a run at work, or what a killed one has left, still brings of
them, and the measuring stage refuses their bytes under whatever name they come again.
"""

from __future__ import annotations

import json
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import Reason
from curation.errors import UserError
from curation.pyramid.files import Files
from curation.pyramid.retry import retrying

FILE = "forgotten.json"


def read(files: Files) -> frozenset[str]:
    """The ids of all videos that were taken down."""
    content = retrying(f"cannot read {files.uri}", lambda: files.read(FILE))
    if content is None:
        return frozenset()
    try:
        return frozenset(map(str, json.loads(content)["videos"]))
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{files.uri}/{FILE} is damaged", "restore it: what was taken down would come back") from None


def add(files: Files, video_ids: Collection[str]) -> None:
    """Take in more. Not for two at a time: see `exclusive.only_holder`."""
    content = json.dumps({"videos": sorted({*read(files), *video_ids})}, indent=1) + "\n"
    retrying(f"cannot write to {files.uri}", lambda: files.write(FILE, content.encode()))


def alive(rows: pa.Table | None, dead: Collection[str]) -> pa.Table | None:
    """Rows of `clips` or `videos` without those of videos that were taken down. That one was refused for it may be said
    (`Reason.FORGOTTEN`).
    """
    if rows is None or not dead or "video_id" not in rows.column_names:
        return rows
    kept = ~pc.field("video_id").isin(pa.array(sorted(dead), pa.string()))
    if "reason" in rows.column_names:
        kept = kept | (pc.field("reason") == pc.scalar(str(Reason.FORGOTTEN)))
    return rows.filter(kept)
