"""`ziggurat runs`: the records of the runs that have worked on a pyramid, or have trained into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curation.pyramid.history import runs as records
from curation.pyramid.history.runs import Run
from curation.pyramid.storage import about
from curation.pyramid.storage.files import Files
from curation.pyramid.tiering.retier import opened


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, and the `state` of its run as it was judged where it lies (`history.runs.state`)."""

    run: Run
    state: str


def seen(place: str, name: str | None = None) -> list[Seen]:
    """Of `runs`, with the state of each."""
    return [Seen(run, records.state(run)) for run in runs(place, name)]


def runs(place: str, name: str | None = None) -> list[Run]:
    """All of them, the newest last; or the one that `name`, its id or the beginning of it, means. `place`: a pyramid,
    or the folder of a training run. UserError: neither is there."""
    files = Files(place) if _holds_records_alone(place) else opened(place).files
    return records.listed(files) if name is None else [records.find(files, name)]


def _holds_records_alone(place: str) -> bool:
    """Whether it is no pyramid and has records: of training, which may have ended before its first checkpoint."""
    return Path(place, records.FOLDER).is_dir() and not Path(place, about.FILE).exists()
