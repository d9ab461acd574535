"""How the answers of the commands that keep a pyramid up are shown: `upkeep`, `merge`, `migrate`."""

from __future__ import annotations

import dataclasses
import json

from curation.pyramid.lifecycle.combine import Combined
from curation.pyramid.lifecycle.migrate import Migrated
from curation.pyramid.lifecycle.upkeep import Upkept

UPKEEP = {
    "orphans": "stored frames and files without a clip, removed",
    "twins": "rows stored twice, removed",
    "outdated": "vectors of captions that are not in force, removed",
    "stale_clips": "clips of an earlier plan, removed",
    "redo": "videos that have lost clips: the next run does them again",
    "copied_bytes": "bytes of frames and clips copied to merge small files",
    "damaged": "files with a clip whose bytes no longer have their sha256, left as they are",
    "puzzling": "videos whose count of clips nothing explains: see `ziggurat why`",
    "freed_bytes": "bytes of old versions and of writers that died, freed",
    "bytes_before": "bytes on disk before",
    "bytes_after": "bytes on disk after",
    "old_versions": "older versions that are kept, with the files that only they need",
}
"""What the counts of an upkeep mean."""


def upkeep(done: Upkept, keep_days: float, as_json: bool) -> None:
    """Of `upkeep.upkeep`."""
    counts = dataclasses.asdict(done)
    if as_json:
        print(json.dumps(counts))
        return
    for name, value in counts.items():
        if value is not None:
            print(f"{UPKEEP.get(name, name.replace('_', ' '))}: {value}")
    if counts["old_versions"]:
        print(f"older versions go {keep_days:g} days after they were replaced; --keep-days 0 frees theirs now")


def merge(done: Combined, as_json: bool) -> None:
    """Of `merge.merge`."""
    if as_json:
        print(json.dumps(dataclasses.asdict(done)))
        return
    print(f"{done.videos} videos, {done.clips} clips; videos that were in both: {done.both}")
    if done.otherwise:
        print(f"settled otherwise in the two, of those: {done.otherwise} (docs/pyramid.md says which outcome stands)")
    if done.taken_down:
        print(f"videos left out, for one of the two has taken them down: {done.taken_down}")


def migrate(done: Migrated, as_json: bool) -> None:
    """Of `migrate.migrate`."""
    if as_json:
        print(json.dumps(dataclasses.asdict(done)))
        return
    if not done.work:
        print(f"the pyramid is of format {done.now} already")
        return
    print(f"format {done.before} -> {done.now}" if done.before else "what an earlier migration had begun is done")
    print(f"vectors moved to embeddings/: {done.vectors}")
    print(f"columns added: {', '.join(done.columns) or 'none'}")
    print(f"results of killed runs committed: {done.entries}")
    if done.vectors:
        print("`ziggurat upkeep` frees what the vectors took in older files")
