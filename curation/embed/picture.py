"""The space `picture`: the signature of a clip's sample frames, which no network has learned. "Looks like this".

It needs no weights, so it is there wherever Ziggurat runs. What it means that two are close, `signature` says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curation.embed.base import Made
from curation.embed.signature import VERSION, WIDTH, signature
from curation.identity import fingerprint

BY = fingerprint("picture", VERSION, {"width": WIDTH})
WHAT = "outlines and colours of the sample frames: what looks alike, whatever it shows"
NO_SHAPE = "no shape: the sample frames have one colour"
"""Why a clip has no vector: a black clip looks like every other one."""


class Pictures:
    """`base.OfPictures` by `signature`."""

    by = BY
    width = WIDTH

    def pictures(self, clips: Sequence[Sequence[np.ndarray]]) -> list[Made]:
        """See `base.OfPictures`."""
        return [made if made.any() else NO_SHAPE for made in map(signature, clips)]
