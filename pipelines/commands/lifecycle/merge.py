"""`ziggurat merge`: two pyramids of one recipe brought together in a third."""

from __future__ import annotations

from curation.errors import UserError
from curation.pyramid.lifecycle import combine
from curation.pyramid.lifecycle.combine import Combined
from curation.pyramid.storage.about import normalize
from curation.pyramid.storage.address import located
from curation.pyramid.storage.locks import only_holder
from curation.pyramid.store import Pyramid
from curation.spaces import Space
from pipelines.config.recipe import Recipe, differences, parsed


def merge(first: str, second: str, to: str) -> Combined:
    """Bring two pyramids together at `to`, where none is yet, or one of this very merge that was cut short. UserError
    where they are of different recipes or tiers, or one of them is not whole.
    """
    sources = Pyramid.open(first), Pyramid.open(second)
    if sources[0].uri == sources[1].uri:
        raise UserError(f"{sources[0].uri} is named twice", "name two pyramids")
    recipe = _one_recipe(*sources)
    for source in sources:
        combine.check(source)
    target = _target(sources, to)
    with only_holder(target):
        done = combine.combine(sources, target, "" if recipe is None else recipe.plan.fingerprint)
        target.made_by("")
        return done


def _one_recipe(first: Pyramid, second: Pyramid) -> Recipe | None:
    """The recipe of both; None where neither keeps one."""
    remedy = "nothing was done: bring both under one with `ziggurat curate PYRAMID --recipe FILE --replace-recipe`"
    ours, theirs = first.recipe_text(), second.recipe_text()
    recipe = None
    if ours is not None and theirs is not None:
        recipe = parsed(ours, f"the recipe of {first.uri}")
        if found := differences(recipe, parsed(theirs, f"the recipe of {second.uri}")):
            raise UserError(f"{first.uri} and {second.uri} are of different recipes: {'; '.join(found[:12])}", remedy)
    elif ours != theirs or first.recipe_name != second.recipe_name:
        raise UserError(f"{first.uri} and {second.uri} do not keep one and the same recipe", remedy)
    if first.tiers != second.tiers:
        raise UserError(
            f"{first.uri} and {second.uri} have different thresholds by now",
            "nothing was done: `ziggurat tiers PYRAMID` shows them, `--move` makes them equal",
        )
    return recipe


def _spaces(first: Pyramid, second: Pyramid) -> tuple[Space, ...]:
    """The spaces of their own that both have. UserError where one name is two spaces."""
    for name in first.spaces.keys() & second.spaces.keys():
        ours, theirs = first.spaces[name], second.spaces[name]
        if (ours.width, ours.of_caption) != (theirs.width, theirs.of_caption):
            raise UserError(
                f"the space {name} has {ours.width} numbers a vector in {first.uri}, {theirs.width} in {second.uri}",
                "nothing was done: give one of them another name in a pyramid of its own",
            )
    return tuple({one.name: one for one in (*second.about.spaces, *first.about.spaces)}.values())


def _target(sources: tuple[Pyramid, Pyramid], to: str) -> Pyramid:
    """The pyramid to merge into: made now, or by this command before."""
    place, options = located(to, None)
    command = f"ziggurat merge {sources[0].uri} {sources[1].uri} --to {normalize(place)}"
    first, second = sources
    there = Pyramid.find(to, unready=True)
    if there is None:
        scores = tuple(dict.fromkeys((*first.about.scores, *second.about.scores)))
        spaces = _spaces(first, second)
        return Pyramid.create(to, first.tiers, first.recipe_name, options, first.recipe_text(), scores, command, spaces)
    if there.about.under_way != command:
        raise UserError(f"{there.uri} is a pyramid already", "choose another path for the merge")
    return there
