"""Which space a search goes to, and the vector of a clip in it: what a person need not say.

Words go to the first space that reads them, pictures to the first that sees them, and a clip is compared where it has
a vector: the recipe's blocks in their order come before what is there without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.errors import UserError
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.similar import vectors
from curation.pyramid.storage.datasets import NO_VECTOR
from curation.pyramid.storage.lookup import select
from curation.pyramid.store import Pyramid
from curation.spaces import CLIP_SPACE, Space, mark
from pipelines.config.embedding_section import OURS
from pipelines.config.recipe import Recipe, parsed
from pipelines.embedding.blocks import searched

WORDS = ("open_clip", "text")
PICTURES = ("open_clip", "picture")
"""Kinds of spaces that are chosen for words and for pictures. One of a user's own is named."""


@dataclass(frozen=True, slots=True)
class OfClip:
    """A clip's vector in a space, by which maker, and what is to be said of the choice."""

    clip_id: str
    space: Space
    by: str
    vector: np.ndarray
    notes: tuple[str, ...] = ()


def recipe_of(pyramid: Pyramid) -> Recipe:
    """The recipe that the pyramid keeps; one that says nothing where it keeps none."""
    text = pyramid.recipe_text()
    return Recipe(name="none") if text is None else parsed(text, f"the recipe of {pyramid.uri}")


def space(pyramid: Pyramid, recipe: Recipe, name: str | None, kinds: Sequence[str]) -> Space:
    """The space called `name`, or the first one of `kinds` that holds vectors. UserError where there is none."""
    if name is not None:
        return named(pyramid, name)
    blocks = [one.name for one in recipe.embeddings if one.kind in kinds]
    for one in dict.fromkeys((*blocks, *(ours for ours in OURS if ours in kinds), CLIP_SPACE.name)):
        if one in pyramid.spaces and vectors.opened(pyramid, pyramid.spaces[one]).count_rows():
            return pyramid.spaces[one]
    what, ours = ("words", "text") if kinds is WORDS else ("pictures", "picture")
    raise UserError(
        f"no space of {pyramid.uri} that can be searched by {what} holds a vector",
        f"run `ziggurat embed {pyramid.uri} {ours}`, or name a space with --space",
    )


def named(pyramid: Pyramid, name: str) -> Space:
    """The space called `name`. UserError where the pyramid has none."""
    if name not in pyramid.spaces:
        fill = f"; `ziggurat embed {pyramid.uri} {name}` makes it" if name in OURS else ""
        raise UserError(f"{pyramid.uri} has no space {name!r}", f"it has {', '.join(pyramid.spaces)}{fill}")
    return pyramid.spaces[name]


def of_clip(pyramid: Pyramid, recipe: Recipe, name: str, space_name: str | None) -> OfClip:
    """The vector of the clip that `name` means, in the space called `space_name` or the first one that has it. By the
    maker that the recipe has, else by that of most vectors.
    """
    clip_id, caption = _clip(pyramid, name)
    if space_name is not None:
        chosen = [named(pyramid, space_name)]
    else:
        first = [*(one.name for one in recipe.embeddings if one.kind != "text"), "picture", CLIP_SPACE.name]
        chosen = [pyramid.spaces[one] for one in dict.fromkeys((*first, *pyramid.spaces)) if one in pyramid.spaces]
    for one in chosen:
        if by_maker := _vectors(pyramid, one, clip_id, caption):
            by = _maker(pyramid, recipe, one, list(by_maker))
            others = len(by_maker) > 1
            notes = (f"compared by {by}; {clip_id} has vectors of {len(by_maker)} makers",) if others else ()
            return OfClip(clip_id, one, by, by_maker[by], notes)
    raise UserError(_lacks(pyramid, chosen, clip_id), filling(pyramid, space_name or "picture"))


def filling(pyramid: Pyramid, name: str) -> str:
    """The command that fills a space."""
    if name == CLIP_SPACE.name:
        return f"run `ziggurat curate {pyramid.uri} --fill` with a recipe that has the aesthetic filter"
    return f"run `ziggurat embed {pyramid.uri} {name}`"


def _clip(pyramid: Pyramid, name: str) -> tuple[str, str | None]:
    """The id and the caption of the one clip whose id is `name` or begins so."""
    clips = [row for row in Ledger(pyramid).history(name).clips if row["clip_id"].startswith(name)]
    if len(clips) != 1:
        what = "several clips have" if clips else "no clip has"
        raise UserError(f"{what} an id that begins with {name!r:.60}", "give the whole id of a clip")
    return clips[0]["clip_id"], clips[0].get("caption")


def _vectors(pyramid: Pyramid, space: Space, clip_id: str, caption: str | None) -> dict[str, np.ndarray]:
    """The vectors of a clip by their makers, (width,) float32; where a space is of captions, of the one in force."""
    rows = select(vectors.opened(pyramid, space), "clip_id", [clip_id], ["by", *vectors.columns(space)])
    if space.of_caption:
        of = None if caption is None else mark(caption)
        rows = rows.filter(pa.array([one == of for one in rows["of"].to_pylist()], pa.bool_()))
    return {row["by"]: np.asarray(row["vector"], np.float32) for row in rows.to_pylist()}


def _maker(pyramid: Pyramid, recipe: Recipe, space: Space, makers: list[str]) -> str:
    if len(makers) == 1:
        return makers[0]
    try:
        ours = searched(recipe, space).by
    except UserError:  # what makes them is not here, and need not be to compare them
        ours = None
    if ours in makers:
        return str(ours)
    counts = vectors.makers(pyramid, space)
    return max(makers, key=lambda by: (counts[by], by))


def _lacks(pyramid: Pyramid, spaces: Sequence[Space], clip_id: str) -> str:
    """That a clip has no vector, and as far as it is known why."""
    names = {one.name for one in spaces}
    told = f"the clip {clip_id} has no vector in {', '.join(sorted(names))}"
    if NO_VECTOR not in pyramid.names:
        return told
    rows = select(pyramid.dataset(NO_VECTOR), "clip_id", [clip_id], ["space", "why"]).to_pylist()
    whys = sorted({f"{row['space']}: {row['why']}" for row in rows if row["space"] in names})
    return f"{told} ({'; '.join(whys)})" if whys else told
