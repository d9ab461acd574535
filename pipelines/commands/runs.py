"""`ziggurat runs`: the records of the runs that have worked on a pyramid."""

from __future__ import annotations

from curation.pyramid.history import runs as records
from curation.pyramid.history.runs import Run
from curation.pyramid.tiering.retier import opened


def runs(pyramid: str, name: str | None = None) -> list[Run]:
    """All of them, the newest last; or the one that `name`, its id or the beginning of it, means."""
    files = opened(pyramid).files
    return records.listed(files) if name is None else [records.find(files, name)]
