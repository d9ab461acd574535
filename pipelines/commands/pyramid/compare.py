"""`ziggurat compare`: two pyramids, of two recipes on the same sources: what each has, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from curation.errors import UserError
from curation.pyramid.queries.comparison import Comparison
from curation.pyramid.queries.comparison import compare as compared
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened
from curation.pyramid.tiering.tiers import shown
from pipelines.config.recipe import Recipe, changes, parsed


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: where it is, its recipe's name, and the plan that its recipe makes clips by (None: not known)."""

    uri: str
    recipe: str
    plan: str | None


@dataclass(frozen=True, slots=True)
class Compared:
    """What two pyramids are beside each other. `recipe`: keys of the kept recipes that differ, `thresholds`: ranges in
    force ("tier.column") that differ, both with the values of A and B. `sheet`: where clips were drawn, `drawn`: how
    many.
    """

    a: Side
    b: Side
    found: Comparison
    recipe: Mapping[str, tuple[str, str]]
    thresholds: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...]
    sheet: str | None = None
    drawn: int = 0

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        found = self.found
        return {
            "a": {**asdict(self.a), **asdict(found.a)},
            "b": {**asdict(self.b), **asdict(found.b)},
            "recipe": {key: {"a": a, "b": b} for key, (a, b) in self.recipe.items()},
            "thresholds": {key: {"a": a, "b": b} for key, (a, b) in self.thresholds.items()},
            "videos": {
                "differ": [{"a": a, "b": b, "videos": count} for (a, b), count in found.outcomes.most_common()],
                "some": [asdict(one) for one in found.listed],
            },
            "clips": {
                **asdict(found.clips),
                "seconds_only_a": found.seconds_only_a,
                "seconds_only_b": found.seconds_only_b,
                "tiers": [{"a": a, "b": b, "clips": count} for (a, b), count in found.tiers.most_common()],
                "most": [{"video_id": name, **asdict(one)} for name, one in found.most],
            },
            "notes": list(self.notes),
            **({} if self.sheet is None else {"sheet": self.sheet, "drawn": self.drawn}),
        }


def compare(a: str, b: str, output: str | None = None, clips: int = 48, seed: int = 0) -> Compared:
    """Compare the pyramids at two places, and draw up to `clips` clips that differ where an output is named.

    UserError where one is no pyramid, or the sheet cannot be written; nothing is read before that is known.
    """
    if output is not None:
        from pipelines.sheet.contact_sheet import check_output

        check_output(output)
    one, other = opened(a), opened(b)
    notes = ["A and B are the same pyramid"] if one.uri == other.uri else []
    recipes = [_recipe(pyramid, letter, notes) for pyramid, letter in ((one, "A"), (other, "B"))]
    found, drawn = _compared(one, other, output, clips, seed)
    if output is not None and not drawn:
        notes.append(f"no clip differs: {output} was not written")
    first, second = recipes
    return Compared(
        _side(one, first),
        _side(other, second),
        found,
        changes(first, second) if first is not None and second is not None else {},
        _thresholds(one, other),
        tuple(notes),
        output if drawn else None,
        drawn,
    )


def _compared(a: Pyramid, b: Pyramid, output: str | None, clips: int, seed: int) -> tuple[Comparison, int]:
    if output is None:
        return compared(a, b), 0
    from pipelines.sheet.comparison_sheet import Choice, draw

    choice = Choice(max(1, clips // 4), seed)  # of two groups, and of one that shows pairs
    found = compared(a, b, choice.take)
    return found, draw(a, b, found, choice, output)


def _side(pyramid: Pyramid, recipe: Recipe | None) -> Side:
    return Side(pyramid.uri, pyramid.recipe_name, None if recipe is None else recipe.plan.fingerprint)


def _recipe(pyramid: Pyramid, letter: str, notes: list[str]) -> Recipe | None:
    """The recipe that a pyramid keeps; a note where it cannot be compared."""
    try:
        text = pyramid.recipe_text()
        if text is not None:
            return parsed(text, f"the recipe {pyramid.recipe_name} of {letter}")
        notes.append(f"{letter} keeps no recipe: recipe keys are not compared")
    except UserError as error:
        notes.append(f"{error}: recipe keys are not compared")
    return None


def _thresholds(a: Pyramid, b: Pyramid) -> dict[str, tuple[str, str]]:
    """The tiers' own ranges, as they are in force now, that differ."""
    ranges = [{f"{step.name}.{c}": r for step in one.tiers.steps for c, r in step.ranges.items()} for one in (a, b)]
    ours, theirs = ranges
    return {
        name: (shown(ours.get(name)), shown(theirs.get(name)))
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    }
