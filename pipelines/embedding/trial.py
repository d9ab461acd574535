"""Trying an embedder out before a run: it is made once and given one small thing, so that what it lacks is one line
here and not a fault of every clip.
"""

from __future__ import annotations

import numpy as np

from curation.embed.base import OfPictures, OfTexts, WrongVector
from curation.errors import UserError
from pipelines.embedding.blocks import Embedding

_CLIP = (3, 90, 160, 3)


def embedded(block: Embedding) -> None:
    """Make the embedder of a block and let it work. Raises `UserError` where it does not."""
    made = block.made()
    try:
        if block.space.of_caption:
            assert isinstance(made, OfTexts), block
            made.texts(["a red fox runs through snow"])
        else:
            assert isinstance(made, OfPictures), block
            made.pictures([list(np.random.default_rng(0).integers(0, 256, _CLIP, np.uint8))])
    except WrongVector as error:
        raise UserError(str(error), "see [[embeddings]] of the recipe") from error
    except UserError:
        raise
    except Exception as error:  # whatever a package or a user's class raises
        said = " ".join(str(error).split())[:200]
        cause = f"the embedder of {block.space.name} does not work: {type(error).__name__}: {said}"
        raise UserError(cause, "see `ziggurat doctor`") from error
