"""Which spaces of vectors a recipe fills, and by what: settled before a run starts, and before a search.

`listed` says of each block which space it fills and who its vectors are by, as far as files and packages by name tell;
the embedder itself is made in a worker, or by a search (`MakeEmbedder`). `picture` and `text` need no block: `ziggurat
embed PYRAMID picture` fills the space with what ships. `clip` has none: the aesthetic filter fills it on its way, and
CLIP's weights, where the recipe has them, search it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.embed.base import Embedder
from curation.errors import UserError
from curation.spaces import CLIP_SPACE, Space
from pipelines.config.embedding_section import OURS, EmbeddingsSection
from pipelines.config.filters import listed as listed_filters
from pipelines.config.recipe import Recipe

READS = ("text", "open_clip", "custom")
SEES = ("picture", "open_clip", "custom")
"""The kinds that can read what is searched for, and those that can see it."""


@dataclass(frozen=True, slots=True)
class MakeEmbedder:
    """Makes an embedder where it is to work. `settings`: its kind and what that is made with, as JSON."""

    settings: str

    def __call__(self) -> Embedder:
        given = json.loads(self.settings)
        kind = given.pop("kind")
        match kind:
            case "picture":
                from curation.embed.picture import Pictures

                return Pictures()
            case "text":
                from pipelines.embedding.sentence import Sentences

                return Sentences()
            case "open_clip":
                from curation.embed.openclip import OpenClip

                return OpenClip(weights=Path(given.pop("weights")), **given)
            case _:
                from curation.embed.custom import Custom

                return Custom(**given)


@dataclass(frozen=True, slots=True)
class Embedding:
    """A block as a run and a search see it: the space, who its vectors are by, and of which clips they are made.
    `aside`: scores that the tier's clips need not have yet (`Ledger.unembedded`).
    """

    space: Space
    by: str
    make: MakeEmbedder
    kind: str
    tier: str | None = None
    gpus: float = 0.0
    aside: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        """What a run calls its stage."""
        return f"embed {self.space.name}"

    def made(self) -> Embedder:
        """The embedder, here; it makes vectors `by` which the block says."""
        found = self.make()
        assert (found.by, found.width) == (self.by, self.space.width), (found.by, self.by)
        return found


def listed(recipe: Recipe, names: Sequence[str] = ()) -> list[Embedding]:
    """The recipe's blocks in its order; with `names` those alone, of which `picture` and `text` need no block.
    `UserError` where a file or a package is missing, or a name is of no space.
    """
    sections = {one.name: one for one in recipe.embeddings}
    for name in names:
        if name not in sections and name in OURS:
            sections[name] = EmbeddingsSection(name=name, kind=name)  # pyright: ignore[reportArgumentType]
    if unknown := next((name for name in names if name not in sections), None):
        there = ", ".join(dict.fromkeys((*sections, *OURS)))
        cause = f"the aesthetic filter fills {unknown!r}" if unknown == CLIP_SPACE.name else f"no space {unknown!r}"
        raise UserError(cause, f"there are {there}; others are [[embeddings]] of the recipe")
    return [_embedding(one) for name, one in sections.items() if not names or name in names]


def computable(recipe: Recipe) -> list[Embedding]:
    """Those of the recipe's blocks that this machine has the files and packages for."""
    found: list[Embedding] = []
    for section in recipe.embeddings:
        with contextlib.suppress(UserError):
            found.append(_embedding(section))
    return found


def searched(recipe: Recipe, space: Space) -> Embedding:
    """What makes a vector of what is searched for in a space. `UserError` where nothing here does."""
    if space == CLIP_SPACE:
        return _clip(recipe)
    try:
        (found,) = listed(recipe, [space.name])
    except UserError as error:
        raise UserError(f"the space {space.name} cannot be searched here: {error.cause}", error.remedy) from None
    if found.space.width != space.width:
        raise UserError(
            f"the space {space.name} has vectors of {space.width} numbers, the recipe makes {found.space.width}",
            "give the block another name",
        )
    return found


def spaces(recipe: Recipe) -> tuple[Space, ...]:
    """The spaces of the recipe's blocks."""
    return tuple(map(space_of, recipe.embeddings))


def space_of(section: EmbeddingsSection) -> Space:
    """The space that a block fills."""
    match section.kind:
        case "picture":
            from curation.embed import picture

            return Space(section.name, picture.Pictures.width, picture.WHAT)
        case "text":
            from pipelines.embedding import sentence

            return Space(section.name, sentence.WIDTH, sentence.WHAT, of_caption=True)
        case "open_clip":
            what = f"the sample frames in open_clip's {section.model}, their mean"
        case _:
            what = section.what or f"what {section.filter} makes of the sample frames"
    assert section.width is not None
    return Space(section.name, section.width, what)


def _embedding(section: EmbeddingsSection) -> Embedding:
    by, settings, gpus = _maker(section)
    make = MakeEmbedder(json.dumps({"kind": section.kind, **settings}))
    return Embedding(space_of(section), by, make, section.kind, section.tier, gpus)


def _maker(section: EmbeddingsSection) -> tuple[str, dict[str, Any], float]:
    """Who the vectors of a block are by, what their maker is made with, and the GPUs that it holds."""
    match section.kind:
        case "picture":
            from curation.embed.picture import BY

            return BY, {}, 0.0
        case "text":
            from pipelines.embedding.sentence import sentence_by

            return sentence_by(), {}, 0.0
        case "open_clip":
            from curation.embed.openclip import open_clip_by

            weights = Path(section.weights or "").expanduser().absolute()
            settings = {"model": section.model, "weights": str(weights), "width": section.width}
            settings |= {"dtype": section.dtype, "device": section.device}
            return open_clip_by(section.model, weights, section.dtype), settings, float(section.device != "cpu")
        case _:
            from curation.embed.custom import custom_by

            assert section.width is not None
            made = {"name": section.name, "filter_": section.filter, "width": section.width}
            made |= {"version": section.version, "options": section.options}
            by = custom_by(section.name, section.version, section.filter, section.width, section.options)
            return by, made, section.gpus


def _clip(recipe: Recipe) -> Embedding:
    """The space that the aesthetic filter fills, by CLIP's both towers."""
    from curation.filters.aesthetic import MODEL

    (ready,) = (one for one in listed_filters(recipe) if one.name == "aesthetic")
    weights, _ = recipe.filters.aesthetic.weights  # pyright: ignore[reportAttributeAccessIssue]
    if ready.make is None or weights is None:
        raise UserError(
            f"the space clip cannot be searched here: the recipe's aesthetic filter does not run ({ready.why})",
            "get CLIP's weights (`ziggurat doctor`), use --like, or another --space",
        )
    settings = {"kind": "open_clip", "model": MODEL, "weights": str(weights.absolute()), "width": CLIP_SPACE.width}
    settings |= {"dtype": recipe.filters.aesthetic.dtype, "by": ready.fingerprint, "middle": True}  # pyright: ignore[reportAttributeAccessIssue]
    return Embedding(CLIP_SPACE, ready.fingerprint, MakeEmbedder(json.dumps(settings)), "open_clip")
