"""Trying an embedder out before a run: it is made once and given one small thing, so that what it lacks is one line
here and not a fault of every clip. `ziggurat search` has its embedder answer by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curation.embed.base import Made, OfPictures, OfTexts, WrongVector
from curation.errors import UserError
from curation.spaces import Space
from pipelines.embedding.blocks import Embedding

_CLIP = (3, 90, 160, 3)


def embedded(block: Embedding) -> None:
    """Make the embedder of a block and let it work. Raises `UserError` where it does not."""
    made, remedy = block.made(), "see [[embeddings]] of the recipe, and `ziggurat doctor`"
    if block.space.of_caption:
        assert isinstance(made, OfTexts), block
        answered(block.space, lambda: made.texts(["a red fox runs through snow"]), remedy)
    else:
        assert isinstance(made, OfPictures), block
        clip = list(np.random.default_rng(0).integers(0, 256, _CLIP, np.uint8))
        answered(block.space, lambda: made.pictures([clip]), remedy)


def answered(space: Space, make: Callable[[], list[Made]], remedy: str) -> list[Made]:
    """What an embedder answers. `UserError` with `remedy` for whatever it raises: it may be anybody's."""
    try:
        return make()
    except UserError:
        raise
    except WrongVector as error:
        raise UserError(str(error), remedy) from error
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"the embedder of {space.name} does not work: {said}", remedy) from error
