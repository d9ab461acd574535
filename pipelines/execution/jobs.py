"""Curation jobs as a command runs them: recipe, pyramid, Ray, display, record and summary around `curate`, `cut` and
`caption`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from curation.contract import AMONG_OTHERS, CROWDING, LIKENESS, Source, Space
from curation.embed.clusters import scikit_learn
from curation.errors import UserError
from curation.inputs.folders import Tally
from curation.inputs.listed import named
from curation.inputs.sidecars import Sidecars
from curation.inputs.sources import NO_SIDECARS, Listing, Refused, list_sources
from curation.printable import printable
from curation.pyramid.history.census import census
from curation.pyramid.queries.videos import listing
from curation.pyramid.similar import vectors
from curation.pyramid.similar.clusters import in_force, nothing
from curation.pyramid.storage.columns import add_scores, add_spaces, check_spaces
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened
from curation.pyramid.tiering.tiers import Tiers
from curation.spaces import CLIP_SPACE
from pipelines import clusters, duplicates
from pipelines import curate as path
from pipelines.config import captions
from pipelines.config.adoption import ADD_TIERS, Choice, choose
from pipelines.config.captions import Captions
from pipelines.config.embedding_section import OURS
from pipelines.config.filters import Ready, listed
from pipelines.config.recipe import Recipe
from pipelines.doctor import checks
from pipelines.embedding import blocks
from pipelines.embedding.blocks import Embedding
from pipelines.execution import work
from pipelines.execution.cluster import Resources
from pipelines.execution.records.notices import (
    of_captions,
    of_clusters,
    of_copies,
    of_cutting,
    of_files,
    of_measuring,
    of_places,
    of_scores,
    of_takedown,
)
from pipelines.execution.records.recording import CurationRecording
from pipelines.execution.results.account import Account
from pipelines.execution.starting import started
from pipelines.progress.display import Display, results_only


@dataclass(frozen=True, slots=True)
class Started:
    """A run that has begun: its pyramid with the recipe chosen for it, and what it works with."""

    pyramid: Pyramid
    resources: Resources
    account: Account
    record: CurationRecording


@dataclass(frozen=True, slots=True)
class Options:
    """What `curate` and `cut` have in common. `recipe`: a path or a name, None for the pyramid's own."""

    recipe: str | None = None
    replace_recipe: bool = False
    address: str | None = None
    cpus: int | None = None
    retry: bool = False
    as_json: bool = False


def run_curate(
    sources: Sequence[str],
    to: str,
    options: Options,
    root: str | None = None,
    follow_links: bool = False,
    sidecars: Sidecars = NO_SIDECARS,
) -> int:
    """`ziggurat curate`; gives its exit code. What can be wrong with the arguments and the set-up is found before Ray
    starts, on a cluster before the first video; a new pyramid is made after that.
    """
    choice = choose(to, options.recipe, options.replace_recipe)
    captions.listed(choice.recipe)  # their prompts are on this machine, or it ends here
    blocks.listed(choice.recipe)
    with _shown(choice, options) as display:
        with display.searching("listing the sources"):
            taken, outside = choice.recipe.extensions, root is None
            listing = list_sources(
                sources,
                extensions=taken,
                root=root,
                allow_outside=outside,
                follow_links=follow_links,
                sidecars=sidecars,
            )
            entries = checked(listing)
        with _running(choice, to, options, display, checks.of_machine, sources, listing) as run:
            watch, name = run.record, run.record.name
            path.curate(entries, run.pyramid, choice.recipe, run.resources, watch, run.account, options.retry, name)
    return display.account.exit_code


def run_retry(uri: str, reason: str, options: Options) -> int:
    """`ziggurat retry`: the videos that were rejected or quarantined for a reason once more, and no other, by the
    pyramid's own recipe; their clips go the whole way.
    """
    choice, videos = _choice(uri, options), listing(Pyramid.open(uri), reason=reason)
    captions.listed(choice.recipe)
    blocks.listed(choice.recipe)
    lost = sum(not names for names, _ in videos.names())
    notices = [f"videos with this reason that no name leads to: {lost}"] if lost else []
    if videos.count() == lost:
        notices.append(f"nothing is left to be tried again for {reason}")
    for notice in notices:
        print(f"note: {notice}", file=sys.stderr)
    if videos.count() == lost:
        if options.as_json:
            with _shown(choice, options) as display:
                display.summary(census(Pyramid.open(uri)), notices)
        return 0
    with _shown(choice, options) as display:
        entries = Listing(named(videos.names()), Tally())
        with _running(choice, uri, options, display, checks.of_machine, listing=entries) as run:
            run.record.notices = [*run.record.notices, *notices]
            settings = (run.pyramid, choice.recipe, run.resources, run.record, run.account, options.retry)
            path.curate(entries, *settings, run.record.name, videos.reason)
    return display.account.exit_code


def run_fill(uri: str, options: Options) -> int:
    """`ziggurat curate PYRAMID --fill`: the scores that clips lack, then the cutting, without a source being listed."""
    choice = _choice(uri, options)
    settings = captions.listed(choice.recipe), blocks.listed(choice.recipe)
    return _fill(choice, uri, choice.recipe.cut.tier, options, *settings)


def run_caption(uri: str, names: Sequence[str], limit: int | None, options: Options) -> int:
    """`ziggurat caption`: the captions of the pyramid's recipe, of some blocks or of all, and nothing else."""
    choice = _choice(uri, options)
    if not choice.recipe.captions:
        raise UserError(
            f"the recipe {choice.recipe.name} makes no captions",
            "add [[captions]] to it (docs/captions.md), and curate with --replace-recipe",
        )
    wanted = captions.listed(choice.recipe, names)
    chosen = choice.recipe.model_copy(
        update={"captions": tuple(one for one in choice.recipe.captions if not names or one.name in names)}
    )
    choice = replace(choice, recipe=chosen)
    with (
        _shown(choice, options) as display,
        _running(choice, uri, options, display, checks.of_captions, filters=()) as run,
    ):
        watch, name = run.record, run.record.name
        watch.plan([block.stage for block in wanted], all_listed=True)
        settings = (run.pyramid, chosen, run.resources, watch, run.account, (), options.retry, name, wanted)
        with work.working(*settings) as job:
            for block in wanted:
                path.caption(job, block, job.again, limit)
    return display.account.exit_code


def run_embed(uri: str, names: Sequence[str], options: Options) -> int:
    """`ziggurat embed`: the vectors of some spaces, or of all that the pyramid's recipe has, and nothing else."""
    choice = _choice(uri, options)
    if not names and not choice.recipe.embeddings:
        raise UserError(
            f"the recipe {choice.recipe.name} fills no space of vectors",
            f"name one of {', '.join(OURS)}, or add [[embeddings]] to it (docs/search.md)",
        )
    wanted = blocks.listed(choice.recipe, names)
    spaces = [block.space for block in wanted]
    check_spaces(Pyramid.open(uri), spaces)

    def machine(_: Recipe) -> tuple[checks.Check, ...]:
        return checks.of_embeddings(wanted)

    with (
        _shown(choice, options) as display,
        _running(choice, uri, options, display, machine, filters=(), spaces=spaces) as run,
    ):
        watch, name = run.record, run.record.name
        watch.plan([block.stage for block in wanted], all_listed=True)
        settings = (run.pyramid, choice.recipe, run.resources, watch, run.account, (), options.retry, name, (), wanted)
        with work.working(*settings) as job:
            for block in wanted:
                path.embed(job, block, job.again)
    return display.account.exit_code


def run_duplicates(uri: str, options: Options) -> int:
    """`ziggurat duplicates`: the signatures that clips lack, and then the place of every clip among its copies."""
    choice = _choice(uri, options)
    section = choice.recipe.duplicates
    (picture,) = blocks.listed(choice.recipe, ["picture"])
    picture = replace(picture, tier=section.tier, aside=tuple(AMONG_OTHERS))
    check_spaces(Pyramid.open(uri), [picture.space])

    def machine(_: Recipe) -> tuple[checks.Check, ...]:
        return checks.of_embeddings([picture])

    with (
        _shown(choice, options) as display,
        _running(choice, uri, options, display, machine, filters=(), spaces=[picture.space]) as run,
    ):
        add_scores(run.pyramid, [LIKENESS])
        pyramid, watch = run.pyramid.having(scores=[LIKENESS]), run.record
        watch.plan([picture.stage, duplicates.STAGE], all_listed=True)
        settings = (pyramid, choice.recipe, run.resources, watch, run.account, (), options.retry, run.record.name)
        with work.working(*settings) as job:
            path.embed(job, picture, job.again)
            wanted = duplicates.Wanted(section.rule(picture.by), section.tier, picture.space, picture.by)
            duplicates.find(job, wanted, job.again)
    return display.account.exit_code


def run_clusters(uri: str, again: bool, options: Options) -> int:
    """`ziggurat clusters`: the vectors that clips lack, and then the cluster of every clip. `again`: new clusters are
    made.
    """
    choice = _choice(uri, options)
    section = choice.recipe.clusters
    scikit_learn()
    lacking, space, by = _clustered(choice.recipe, Pyramid.open(uri))

    def machine(_: Recipe) -> tuple[checks.Check, ...]:
        return checks.of_embeddings(lacking)

    with (
        _shown(choice, options) as display,
        _running(choice, uri, options, display, machine, filters=(), spaces=[one.space for one in lacking]) as run,
    ):
        add_scores(run.pyramid, [CROWDING])
        pyramid, watch = run.pyramid.having(scores=[CROWDING]), run.record
        watch.plan([*(one.stage for one in lacking), clusters.STAGE], all_listed=True)
        settings = (pyramid, choice.recipe, run.resources, watch, run.account, (), options.retry, run.record.name)
        with work.working(*settings) as job:
            for one in lacking:
                path.embed(job, one, job.again)
            found = clusters.find(job, clusters.Wanted(section, space, by, again))
            run.record.notices = [*run.record.notices, *found, *of_clusters(pyramid)]
    return display.account.exit_code


def _clustered(recipe: Recipe, pyramid: Pyramid) -> tuple[list[Embedding], Space, str]:
    """The space that the recipe clusters, whose vectors count, and the block that fills it; none fills `clip`."""
    name = recipe.clusters.space
    if name == CLIP_SPACE.name:
        makers, there = vectors.makers(pyramid, CLIP_SPACE), in_force(pyramid)
        if not makers:
            raise nothing(pyramid, CLIP_SPACE)
        is_by = there is not None and there.asked.space == name and there.asked.by in makers
        return [], CLIP_SPACE, there.asked.by if there is not None and is_by else makers.most_common(1)[0][0]
    (found,) = blocks.listed(recipe, [name])
    check_spaces(pyramid, [found.space])
    tier = recipe.clusters.pool(pyramid.tiers) or found.tier
    return [replace(found, tier=tier, aside=tuple(AMONG_OTHERS))], found.space, found.by


def run_cut(uri: str, tier: str, options: Options) -> int:
    """`ziggurat cut`: as `run_fill`, for a tier that the person names."""
    if not options.replace_recipe:
        _check_tier(tier, Pyramid.open(uri).tiers)
    choice = _choice(uri, options)
    if options.replace_recipe:
        _check_tier(tier, choice.recipe.pyramid_tiers if choice.replaces else Pyramid.open(uri).tiers)
    return _fill(choice, uri, tier, options)


def _check_tier(tier: str, tiers: Tiers) -> None:
    if tier not in tiers.names:
        there = f"there are {', '.join(tiers.names)}" if tiers.names else f"the pyramid has none: {ADD_TIERS}"
        raise UserError(f"no tier {tier!r}", there)


def _choice(uri: str, options: Options) -> Choice:
    """The recipe for a pyramid that must be there."""
    Pyramid.open(uri)
    return choose(uri, options.recipe, options.replace_recipe)


def _fill(
    choice: Choice,
    uri: str,
    tier: str | None,
    options: Options,
    captioned: Sequence[Captions] = (),
    embedded: Sequence[Embedding] = (),
) -> int:
    recipe, filters = choice.recipe, listed(choice.recipe)
    machine = checks.of_fill if captioned or embedded else checks.of_filling
    with _shown(choice, options) as display, _running(choice, uri, options, display, machine) as run:
        watch, name = run.record, run.record.name
        watch.plan(path.stages(filters, tier, captioned, embedded)[1:], all_listed=True)
        settings = (run.pyramid, recipe, run.resources, watch, run.account, filters, options.retry, name)
        with work.working(*settings, captioned, embedded) as job:
            path.fill(job, tier, job.again)
    return display.account.exit_code


@contextmanager
def _shown(choice: Choice, options: Options) -> Iterator[Display]:
    """The display of a run, whose summary goes where results go."""
    with results_only() as out:
        yield Display(Account(), out, options.as_json, choice.recipe.run.stall_s)


@contextmanager
def _running(
    choice: Choice,
    uri: str,
    options: Options,
    display: Display,
    machine: Callable[[Recipe], Sequence[checks.Check]],
    sources: Sequence[str] = (),
    listing: Listing | None = None,
    filters: Sequence[Ready] | None = None,
    spaces: Sequence[Space] = (),
) -> Iterator[Started]:
    """Ray, the pyramid and the run's record around a block; the summary after it. `filters`: those that the run comes
    to, None for all of the recipe's. `spaces`: that the pyramid gets, beside those of its recipe.
    """
    account, recipe = display.account, choice.recipe
    filters = listed(recipe) if filters is None else filters
    places = checks.of_places(uri, sources)
    with started(display, recipe, machine, places, options.address, options.cpus) as (resources, of_checks):
        if listing is not None:  # filling may find nothing for them to do
            path.check_gpus(recipe, filters, bool(resources.gpus))
        pyramid, notices = choice.adopt(uri)
        add_spaces(pyramid, spaces)
        pyramid = opened(pyramid.uri, pyramid.storage_options).having(spaces=spaces)
        notices = (
            of_scores(pyramid.tiers, filters)
            + of_captions(pyramid, spaces)
            + of_takedown(pyramid)
            + of_checks
            + notices
        )
        if listing is not None:
            notices += of_cutting(recipe, pyramid.uri, pyramid.tiers)
        elif choice.replaces:  # a full pass, for what was measured under the recipe before
            notices += of_measuring(pyramid, recipe.plan)
        for notice in notices:
            print(f"note: {printable(notice)}", file=sys.stderr)
        with CurationRecording(pyramid, account, display).kept() as record:
            record.notices = notices
            record.joined(resources)
            yield Started(pyramid, resources, account, record)
            notices = list(record.notices)
            if listing is not None:
                account.passed_over = listing.tally.passed_over
                account.sidecars_lost = listing.tally.sidecars_lost
                notices = notices + listing.notices()
            pyramid = pyramid.refreshed()
            of_pyramid = of_places(pyramid) + of_copies(pyramid) + of_files(pyramid)
            record.notices, record.exit = notices + of_pyramid, account.exit_code
            display.summary(census(pyramid), list(record.notices))


def checked(entries: Iterator[Source | Refused]) -> Iterator[Source | Refused]:
    """The same entries; the first is read now, so that a wrong path is told before anything starts."""
    first = next(entries, None)
    if first is None:
        raise UserError("the sources name no video", "give files, folders, globs or lists that hold some")

    def again() -> Iterator[Source | Refused]:
        yield first
        yield from entries

    return again()
