"""`ziggurat forget`: videos taken down, from every dataset and version, so that they never come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from curation.pyramid import forget as takedown
from curation.pyramid.forget import Forgotten
from curation.pyramid.ledger import History
from curation.pyramid.store import Pyramid


@dataclass(frozen=True, slots=True)
class Takedown:
    """What was asked for, by video; `done` is None where it was only looked at."""

    videos: dict[str, History]
    done: Forgotten | None


def forget(pyramid: str, names: Sequence[str], listed: str | None, sure: bool) -> Takedown:
    """Take down the videos that names and the lines of a list mean. Without `sure` they are only looked up."""
    place = Pyramid.open(pyramid)
    wanted = [*names, *(_lines(listed) if listed is not None else ())]
    if not wanted:
        raise UserError("no video is named", "give ids, URIs or file names, or --list FILE")
    videos = takedown.found(place, wanted)
    return Takedown(videos, takedown.forget(place, videos.keys()) if sure else None)


def _lines(path: str) -> list[str]:
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", "name a text file with a video in each line") from error
    return [line.strip() for line in lines if line.strip()]
