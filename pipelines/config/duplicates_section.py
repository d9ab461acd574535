"""`[duplicates]` of a recipe: what is taken for a copy, and which of several copies stays."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from curation.contract import LIKENESS
from curation.embed import alignment
from curation.embed.likeness import COPY, NEAR
from curation.identity import fingerprint
from curation.pyramid.similar.places import Rule
from pipelines.config.tomlfile import Section

METHOD = 1
"""Version of how copies are grouped. Raise it where groups come out otherwise: they are then made again."""
RANKED = ("pixels", "duration_s", "fps", "motion", "sharpness", "text_area", "jitter", "aesthetic")


def _ranked(value: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in value if name.removeprefix("-") not in RANKED]:
        raise ValueError(f"no column {unknown[0]!r} to rank clips by; allowed are {', '.join(RANKED)}")
    return value


Best = Annotated[tuple[str, ...], AfterValidator(_ranked)]
"""Columns that rank clips, `-` before those of which the least is best."""


class DuplicatesSection(Section):
    """Near-duplicates: clips that look like a better one (docs/duplicates.md)."""

    tier: str | None = None
    """Clips of this tier are compared; without it all."""
    copy_from: float = Field(default=COPY, ge=NEAR, le=3.0)
    """A clip whose `likeness` with a better one is as much is a copy of it."""
    best: Best = ("pixels", "aesthetic")
    """Of copies in one tier the one that stays: the greatest number of the first column, of equals of the next;
    `-COLUMN` for the least."""

    def rule(self, signed_by: str) -> Rule:
        """The rule, under a name that covers all that makes a clip's place. `signed_by`: the maker of signatures."""
        said = {"signatures": signed_by, "alignment": alignment.VERSION, "copy_from": self.copy_from}
        by = fingerprint(LIKENESS, METHOD, {**said, "best": list(self.best)})
        return Rule(self.copy_from, self.best, by)
