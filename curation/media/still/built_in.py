"""What images need of Pillow and libheif, which can be built without it.

The decoder's process asks before its first request: later a lack of ours would look like damage of the data.
"""

from __future__ import annotations

import pillow_heif
from PIL import features

from curation.errors import UserError

_NEEDED = {"jpg": "JPEG", "zlib": "PNG", "webp": "WebP", "avif": "AVIF", "littlecms2": "colour profiles"}
"""Features by Pillow's names, and ours for what they are for."""


def require() -> None:
    """`UserError` where something lacks."""
    lacking = [what for feature, what in _NEEDED.items() if not features.check(feature)]
    if lacking:
        said = f"this Pillow is built without {', '.join(lacking)}"
        raise UserError(said, "pip install --force-reinstall --only-binary pillow pillow")
    decoders: dict[str, str] = pillow_heif.libheif_info()["decoders"]
    if not any("HEVC" in name for name in decoders.values()):
        said = "this libheif has no decoder for HEIC"
        raise UserError(said, "pip install --force-reinstall --only-binary pillow-heif pillow-heif")
