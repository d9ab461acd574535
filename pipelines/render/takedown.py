"""How a takedown is shown: before it, what would go; after it, what went and what is left."""

from __future__ import annotations

import dataclasses
import json

from rich import filesize

from curation.pyramid.takedown.forget import Forgotten
from pipelines.commands.lifecycle.forget import Takedown
from pipelines.render.lines import line, note

FORGOTTEN = {
    "tombstones": "ids that never come in again, new (of its content, and that its names would have unread)",
    "needless": "rows of frames and clips that no clip had any more, removed as well",
    "references": "clips of other videos that were called duplicates of it",
    "records": "records of runs that named it, struck out",
    "clusters": "centroids of clusters removed, for they may be of it (`ziggurat clusters` makes new ones)",
    "rewritten_rows": "rows copied into files without it",
    "rewritten_bytes": "bytes of frames and clips copied into files without it",
    "versions": "older versions removed",
    "files": "files of no version removed",
    "freed_bytes": "bytes freed",
}
"""What the counts of a takedown mean."""
_SHOWN = 100
"""Videos that a screen shows."""


def takedown(wanted: Takedown, as_json: bool) -> None:
    """Of `forget.takedown`."""
    if as_json:
        for one in wanted.targets:
            print(json.dumps({"kind": "video", **dataclasses.asdict(one)}))
        rest = {"already": wanted.already, "unfinished": wanted.unfinished}
        rest |= {"pins": wanted.pins, "manifests": wanted.manifests}
        print(json.dumps({"kind": "takedown", "videos": len(wanted.targets), **rest}))
        return
    for one in wanted.targets[:_SHOWN]:
        names = ", ".join(one.uris) or "no row of it is there: it will never come in"
        size = filesize.decimal(one.media_bytes)
        line(f"{one.video_id}: {one.clips} clips, frames of {one.samples}, files of {one.media} ({size}); {names}")
    if (more := len(wanted.targets) - _SHOWN) > 0:
        line(f"and {more} more videos")
    if wanted.already:
        line(f"taken down already: {len(wanted.already)}")
    if wanted.unfinished:
        line(f"a takedown of {wanted.unfinished} ids was cut short, and is done to its end")
    if wanted.pins:
        line(f"pinned versions will keep some of it: {', '.join(wanted.pins)}; unpin them, before or after")
        line("  (those of a manifest: `ziggurat manifests PYRAMID NAME --unpin`)")
    if wanted.manifests:
        line(f"manifests that name a clip of it, with its caption, and never change: {', '.join(wanted.manifests)}")


def forgotten(done: Forgotten, as_json: bool) -> None:
    """Of `forget.forget`; what is left goes to standard error as notes, or stands in the JSON object."""
    if as_json:
        print(json.dumps({"kind": "forgotten", **dataclasses.asdict(done)}))
        return
    for name, value in dataclasses.asdict(done).items():
        if name == "rows":
            line(f"rows removed: {', '.join(f'{count} of {dataset}' for dataset, count in value.items())}")
        elif name in FORGOTTEN:
            line(f"{FORGOTTEN[name]}: {value}")
    pinned = [f"pinned versions still hold some of it: {', '.join(done.pins)}"] if done.pins else []
    named = [f"manifests name a clip of it, which is not encoded any more: {', '.join(done.manifests)}"]
    for told in [
        *pinned,
        *(named if done.manifests else []),
        *(f"left: {what}" for what in done.left),
        "what was exported from the pyramid is not touched",
    ]:
        note(told)
