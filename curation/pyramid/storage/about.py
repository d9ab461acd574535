"""`pyramid.json`: what a pyramid says about itself: format version, tiers, recipe. Written whole or not at
all.

The file is what makes a folder a pyramid: `store` writes it after the datasets exist and reads it before any of them.
It names the recipe that the pyramid keeps (`recipes/`) and holds the tiers in force, which are the recipe's until a
threshold is moved. While the column `clips.tier` is brought in line with new tiers, or a command makes the pyramid what
it is to be (`migrate`, `merge`), it says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curation.contract import FORMAT_VERSION, NEWEST_FORMAT, SCORES, SPACES, Space
from curation.errors import UserError
from curation.pyramid.storage.files import Files, is_remote, options
from curation.pyramid.tiering.tiers import Bound, Tiers
from curation.retry import explained
from curation.spaces import MOST_WIDE, is_space_name

__all__ = ["FILE", "About", "Moved", "changing", "is_remote", "normalize", "options", "read", "write"]

FILE = "pyramid.json"
_EVERYWHERE = frozenset(space.name for space in SPACES)


@dataclass(frozen=True, slots=True)
class Moved:
    """A threshold that is not the recipe's: `before` is the recipe's range, `now` the one in force (None: no range)."""

    tier: str
    column: str
    before: Bound | None
    now: Bound | None


@dataclass(frozen=True, slots=True)
class About:
    """The content of `pyramid.json`.

    `tiers`: those in force. `recipe`: the recipe's name; `recipe_version`: which of the kept texts it is, None in a
    pyramid that was made without one; `recipe_sha256`: that text's hash, None where an older version wrote it.
    `recipe_tiers`: the tiers as the recipe has them, None where they are those in force. `retiering`: the column
    `clips.tier` may still hold tiers from before. `scores`: those that this pyramid has beside `contract.SCORES`, by
    filters of its users' own: those of the recipe that came last first, in its order. One that is a score of every
    pyramid by now is left out: the column is there, and its name is no user's any more. `under_way`: the command that
    is making the pyramid what it is to be, and has not ended; "" where none is. `spaces`: those of vectors that this
    pyramid has beside `contract.SPACES`; with some it is of format `NEWEST_FORMAT`.
    """

    tiers: Tiers
    recipe: str
    format: int = FORMAT_VERSION
    recipe_version: int | None = None
    recipe_tiers: Tiers | None = None
    retiering: bool = False
    scores: tuple[str, ...] = ()
    recipe_sha256: str | None = None
    under_way: str = ""
    spaces: tuple[Space, ...] = ()

    def __post_init__(self) -> None:
        if self.spaces and self.format == FORMAT_VERSION:
            object.__setattr__(self, "format", NEWEST_FORMAT)
        object.__setattr__(self, "scores", tuple(score for score in self.scores if score not in SCORES))
        for tiers in (self.tiers, self.recipe_tiers):
            if tiers is not None:
                tiers.check_columns(self.scores)

    @property
    def moved(self) -> tuple[Moved, ...]:
        """The thresholds that were moved away from the recipe's."""
        before = {step.name: step.ranges for step in (self.recipe_tiers or self.tiers).steps}
        found: list[Moved] = []
        for step in self.tiers.steps:
            was = before.get(step.name, {})
            for column in dict.fromkeys((*was, *step.ranges)):
                if was.get(column) != step.ranges.get(column):
                    found.append(Moved(step.name, column, was.get(column), step.ranges.get(column)))
        return tuple(found)

    def with_scores(self, scores: Sequence[str]) -> About:
        """The same with further scores of its own."""
        return replace(self, scores=tuple(dict.fromkeys((*self.scores, *scores))))

    def with_spaces(self, spaces: Sequence[Space]) -> About:
        """The same with these spaces too. Those that it has stay as they are: their datasets say what they hold."""
        every = {one.name: one for one in (*spaces, *self.spaces)}
        return replace(self, spaces=tuple(one for name, one in every.items() if name not in _EVERYWHERE))

    def moved_to(self, tiers: Tiers) -> About:
        """The same with these tiers in force."""
        before = self.recipe_tiers or self.tiers
        return replace(self, tiers=tiers, recipe_tiers=before, retiering=self.retiering or tiers != self.tiers)

    def to_json(self) -> str:
        data: dict[str, Any] = {"format": self.format, "recipe": self.recipe, "tiers": self.tiers.to_data()}
        if self.recipe_version is not None:
            data["recipe_version"] = self.recipe_version
        if self.recipe_sha256 is not None:
            data["recipe_sha256"] = self.recipe_sha256
        if self.recipe_tiers is not None and self.recipe_tiers != self.tiers:
            data["recipe_tiers"] = self.recipe_tiers.to_data()
        if self.retiering:
            data["retiering"] = True
        if self.scores:
            data["scores"] = list(self.scores)
        if self.under_way:
            data["under_way"] = self.under_way
        if self.spaces:
            data["spaces"] = [asdict(space) for space in self.spaces]
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, uri: str) -> About:
        """Parse; a newer format is refused before anything else of the file is looked at."""
        try:
            data = json.loads(text)
            version = int(data["format"])
        except (ValueError, KeyError, TypeError, OverflowError):
            raise UserError(
                f"{uri} is not a pyramid: its {FILE} is not readable", "give the path of a pyramid"
            ) from None
        if version > NEWEST_FORMAT:
            raise UserError(
                f"{uri} was made by a newer Ziggurat (format {version}, this one reads {NEWEST_FORMAT})",
                "upgrade ziggurat and run the command again",
            )
        try:
            tiers = Tiers.from_data(data["tiers"])
            kept = data.get("recipe_version")
            before = data.get("recipe_tiers")
            return cls(
                tiers,
                str(data["recipe"]),
                version,
                None if kept is None else int(kept),
                None if before is None else Tiers.from_data(before),
                bool(data.get("retiering", False)),
                tuple(map(str, data.get("scores", ()))),
                None if data.get("recipe_sha256") is None else str(data["recipe_sha256"]),
                str(data.get("under_way", "")),
                tuple(_space(one) for one in data.get("spaces", ())),
            )
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            remedy = "restore the file, or upgrade ziggurat if a newer one wrote it"  # whose scores tiers may bound
            raise UserError(f"{uri}/{FILE} is damaged ({error})", remedy) from None


def _space(data: Any) -> Space:
    """A space as `to_json` wrote it; its name becomes a folder."""
    space = Space(str(data["name"]), int(data["width"]), str(data["what"]), bool(data["of_caption"]))
    if not is_space_name(space.name) or not 0 < space.width <= MOST_WIDE:
        raise ValueError(f"space {space.name!r:.60} of width {space.width}")
    return space


def looked_up(place: str, storage_options: Mapping[str, str] | None) -> About | None:
    """As `read`; UserError where the place does not answer."""
    try:
        return read(place, options(place, storage_options))
    except (OSError, RuntimeError, ValueError) as error:
        raise explained(error, f"cannot reach {place}") or UserError(
            f"cannot reach {place} ({str(error)[:200]})", "check the URI and its credentials"
        ) from error


def ready(place: str, about: About) -> About:
    """`about`; UserError where the pyramid at `place` is of an older format, or not made to its end."""
    if about.under_way:
        raise UserError(f"{place} is not what it is to be yet", f"run `{about.under_way}` to its end")
    if about.format < FORMAT_VERSION:
        raise UserError(
            f"{place} was made by an older Ziggurat (format {about.format}, this one works on {FORMAT_VERSION})",
            f"run `ziggurat migrate {place}`: it keeps everything, and older versions refuse the pyramid afterwards",
        )
    return about


def normalize(uri: str | os.PathLike[str]) -> str:
    """A local path made absolute (so that every process of a cluster means the same), other URIs without end
    slash.
    """
    text = os.fspath(uri)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "\x00" in text or not text:
        raise UserError(f"{text!r} is not a path", "give the path or URI of a pyramid")
    return text.rstrip("/") if is_remote(text) else str(Path(text).expanduser().absolute())


def read(uri: str, storage_options: Mapping[str, str] | None) -> About | None:
    """The description of the pyramid at `uri`, None where there is none."""
    try:
        content = Files(uri, storage_options).read(FILE)
    except OSError as error:
        if is_remote(uri):
            raise
        raise UserError(f"cannot read {uri}/{FILE} ({error.strerror})", "check its permissions") from error
    return None if content is None else About.from_json(content.decode("utf-8", "replace"), uri)


def write(uri: str, about: About, storage_options: Mapping[str, str] | None) -> None:
    """Replace the description at `uri`: a reader sees the old one or the new one."""
    Files(uri, storage_options).write(FILE, about.to_json().encode())


@contextmanager
def changing(uri: str) -> Iterator[None]:
    """Read, change and write in this block: on a local disk one process at a time, so that no change is lost. Object
    stores have no such lock.
    """
    if is_remote(uri):
        yield
        return
    import fcntl

    with Path(uri, ".changing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # goes when its process does
        yield
