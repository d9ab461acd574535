"""Which recipe a command works by: the one that the pyramid keeps, unless the person says that another takes its place.

`choose` looks and judges, and changes nothing, so that a command can check everything else before `Choice.adopt` makes
the pyramid, or puts another recipe into it.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.errors import UserError
from curation.pyramid.queries import lineage
from curation.pyramid.storage.columns import add_scores, add_spaces, check_spaces
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import retier
from curation.pyramid.tiering.tiers import Tiers, shown
from pipelines.config.recipe import Recipe, differences, parsed, text_of
from pipelines.embedding.blocks import spaces

ADD_TIERS = "add [[tiers]] to its recipe, and curate with --replace-recipe"
"""What to do with a pyramid that has no tiers."""

DEFAULT = "small"
"""The recipe of a new pyramid where none is named."""

_MOST_DIFFERENCES = 12


@dataclass(frozen=True, slots=True)
class Choice:
    """A recipe, its text, and the pyramid that it is for (None: still to be made).

    `keeps`: the pyramid holds this recipe already. `replaces`: it takes the place of another, or of one that another
    job puts there meanwhile.
    """

    recipe: Recipe
    text: str
    pyramid: Pyramid | None
    keeps: bool = False
    replaces: bool = False

    def adopt(self, uri: str) -> tuple[Pyramid, list[str]]:
        """The pyramid at `uri` with this recipe, and what a person should know of it. Makes it where there is none."""
        if self.pyramid is None:
            tiers, name = self.recipe.pyramid_tiers, self.recipe.name
            own = self.recipe.own_scores
            made = Pyramid.open_or_create(
                uri, tiers, name, recipe_text=self.text, scores=own, spaces=spaces(self.recipe)
            )
            if made.recipe_text() == self.text:
                return made, []
            return choose_for(made, self.recipe, self.text, self.replaces).adopt(uri)  # another job was faster
        if self.keeps:
            return self.pyramid, []
        notices = self._notices(self.pyramid)
        tiers, name = self.recipe.pyramid_tiers, self.recipe.name
        own = self.recipe.own_scores
        taken = set(own) & (set(lineage.own(self.pyramid)) if set(own) - set(self.pyramid.about.scores) else set())
        notices += [f"the column {name} of your lists is extra.{name} from now on" for name in sorted(taken)]
        vectors = spaces(self.recipe)
        add_scores(self.pyramid, own)
        add_spaces(self.pyramid, vectors)
        changed = self.pyramid.with_recipe(
            name, self.text, tiers, keep_tiers=not self.replaces, scores=own, spaces=vectors
        )
        if changed.about.retiering:
            retier(changed)
        return changed.refreshed(), notices

    def _notices(self, pyramid: Pyramid) -> list[str]:
        if not self.replaces:
            return [f"the pyramid keeps the recipe {self.recipe.name} from now on; its thresholds stay as they are"]
        notices = [f"the recipe {self.recipe.name} takes the place of {pyramid.recipe_name}"]
        if pyramid.about.moved:
            moved = ", ".join(f"{one.tier} {one.column} {shown(one.now)}" for one in pyramid.about.moved)
            notices.append(f"thresholds that had been moved are the recipe's now: they were {moved}")
        return notices


def choose(uri: str, given: str | None, replace: bool = False) -> Choice:
    """The recipe for the pyramid at `uri`, which may not exist yet.

    `given`: a recipe by path or name, None for the pyramid's own. UserError where it says something else than the
    pyramid's and `replace` is not set.
    """
    pyramid = Pyramid.find(uri)
    if given is not None:
        text = text_of(given)
        recipe = parsed(text, given)
        return (
            Choice(recipe, text, None, replaces=replace)
            if pyramid is None
            else choose_for(pyramid, recipe, text, replace)
        )
    if replace:
        raise UserError("--replace-recipe without a recipe", "name it with --recipe")
    if pyramid is None:
        text = text_of(DEFAULT)
        return Choice(parsed(text, DEFAULT), text, None)
    return _own(pyramid)


def choose_for(pyramid: Pyramid, recipe: Recipe, text: str, replace: bool) -> Choice:
    """The choice of `recipe` for a pyramid that exists."""
    try:
        kept = pyramid.recipe_text()
        if kept is None:
            return _first(pyramid, recipe, text, replace)
        own = parsed(kept, f"the pyramid's recipe {pyramid.recipe_name}")
    except UserError:
        if not replace:
            raise
        return Choice(recipe, text, pyramid, replaces=True)  # damaged, or of a version that took what this does not
    found = differences(own, recipe)
    if not found:
        return Choice(own, kept, pyramid, keeps=True)
    if not replace:
        raise _refusal(pyramid, recipe, "; ".join(_listed(found)))
    check_spaces(pyramid, spaces(recipe))
    return Choice(recipe, text, pyramid, replaces=True)


def _own(pyramid: Pyramid) -> Choice:
    kept = pyramid.recipe_text()
    if kept is not None:
        return Choice(parsed(kept, f"the pyramid's recipe {pyramid.recipe_name}"), kept, pyramid, keeps=True)
    try:
        text = text_of(pyramid.recipe_name)
    except UserError:
        raise UserError(
            f"{pyramid.uri} was made before pyramids kept their recipe, which was {pyramid.recipe_name}",
            "name it once with --recipe",
        ) from None
    return _first(pyramid, parsed(text, pyramid.recipe_name), text, replace=False)


def _first(pyramid: Pyramid, recipe: Recipe, text: str, replace: bool) -> Choice:
    """The choice for a pyramid that keeps only the name and the tiers of its recipe."""
    if replace:
        return Choice(recipe, text, pyramid, replaces=True)
    if recipe.name != pyramid.recipe_name:
        raise _refusal(pyramid, recipe, f"name {pyramid.recipe_name} -> {recipe.name}")
    if recipe.pyramid_tiers.names != pyramid.tiers.names:
        named = (_names(pyramid.tiers), _names(recipe.pyramid_tiers))
        raise _refusal(pyramid, recipe, f"tiers {named[0]} -> {named[1]}")
    return Choice(recipe, text, pyramid)


def _refusal(pyramid: Pyramid, recipe: Recipe, what: str) -> UserError:
    return UserError(
        f"{pyramid.uri} keeps another recipe than {recipe.name}: {what}",
        "nothing was done: leave --recipe out to go on by the pyramid's own, or add --replace-recipe",
    )


def _listed(found: list[str]) -> list[str]:
    more = len(found) - _MOST_DIFFERENCES
    return [*found[:_MOST_DIFFERENCES], f"and {more} more"] if more > 0 else found


def _names(tiers: Tiers) -> str:
    return ", ".join(tiers.names) or "none"
