"""Curation jobs as a command runs them: recipe, pyramid, Ray, display and summary around `curate` and `cut`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from curation.contract import Source
from curation.errors import UserError
from curation.filters.base import WEIGHTS_MISSING
from curation.pyramid.store import Pyramid
from curation.sources import Refused, list_sources
from pipelines import checks
from pipelines import curate as path
from pipelines.filters import Ready, ready
from pipelines.landing import Account
from pipelines.progress import Display, results_only
from pipelines.recipe import Recipe, load
from pipelines.starting import started

MANY_FILES = 2000


def run_curate(
    sources: Sequence[str],
    to: str,
    recipe_name: str,
    address: str | None,
    cpus: int | None,
    retry: bool,
    root: str | None,
    as_json: bool,
) -> int:
    """`ziggurat curate`; gives its exit code. What can be wrong with the arguments and the set-up is found before Ray
    starts, on a cluster before the first video; a new pyramid is made after that.
    """
    recipe = load(recipe_name)
    filters = ready(recipe)
    account = Account()
    with results_only() as out:
        display = Display(account, out, as_json, recipe.run.stall_s)
        with display.searching("listing the sources"):
            entries = _checked(list_sources(sources, root=root, allow_outside=root is None))
            Pyramid.find(to)  # one that is damaged, or newer, is told before anything starts
        with started(display, recipe, checks.of_machine, checks.of_places(to, sources), address, cpus) as resources:
            pyramid, notices = _pyramid(to, recipe)
            notices = _about_filters(filters) + notices
            for notice in notices:
                print(f"note: {notice}", file=sys.stderr)
            path.curate(entries, pyramid, recipe, resources, display, account, retry)
            display.summary(_sizes(pyramid), notices + _advice(pyramid))
    return account.exit_code


def run_cut(uri: str, tier: str, recipe_name: str, address: str | None, cpus: int | None, as_json: bool) -> int:
    """`ziggurat cut`: the cutting step alone, for a tier that was only measured; gives its exit code."""
    pyramid, recipe = Pyramid.open(uri), load(recipe_name)
    pyramid.tier(tier)
    account = Account()
    with results_only() as out:
        display = Display(account, out, as_json, recipe.run.stall_s)
        places = checks.of_places(uri, ())
        with started(display, recipe, checks.of_cutting, places, address, cpus) as resources:
            display.plan(("cut",), all_listed=True)
            with path.working(pyramid, recipe, resources, display, account) as job:
                path.cut(job, tier)
            display.summary(_sizes(pyramid), [])
    return account.exit_code


def _checked(entries: Iterator[Source | Refused]) -> Iterator[Source | Refused]:
    """The same entries; the first is read now, so that a wrong path is told before anything starts."""
    first = next(entries, None)
    if first is None:
        raise UserError("the sources name no video", "give files, folders, globs or lists that hold some")

    def again() -> Iterator[Source | Refused]:
        yield first
        yield from entries

    return again()


def _pyramid(uri: str, recipe: Recipe) -> tuple[Pyramid, list[str]]:
    """The pyramid with the recipe's tiers; says so where it had others."""
    pyramid = Pyramid.open_or_create(uri, recipe.pyramid_tiers, recipe.name)
    if pyramid.tiers == recipe.pyramid_tiers:
        return pyramid, []
    before = ", ".join(pyramid.tiers.names)
    return pyramid.with_tiers(recipe.pyramid_tiers, recipe.name), [
        f"the pyramid's tiers ({before}) are now those of the recipe {recipe.name}"
    ]


def _advice(pyramid: Pyramid) -> list[str]:
    """Past some thousand small files every commit and lookup takes a third of a second."""
    files = pyramid.scattered()
    return [f"{files} small files: `ziggurat upkeep {pyramid.uri}` merges them"] if files > MANY_FILES else []


def _about_filters(filters: Sequence[Ready]) -> list[str]:
    return [
        f"{filter_.score} is not computed: weights are missing (see `ziggurat doctor`)"
        for filter_ in filters
        if filter_.why == WEIGHTS_MISSING
    ]


def _sizes(pyramid: Pyramid) -> dict[str, int]:
    return {name: pyramid.tier(name).count() for name in pyramid.tiers.names}
