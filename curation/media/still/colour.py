"""From a decoded image of any kind to 8-bit sRGB: 16 bits, palettes, grey, CMYK, colour profiles, transparency.

Part of `picture`. A colour profile (ICC) is applied where there is one that fits the picture; without one, numbers are
taken for sRGB. What is transparent lies over white.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
"""The mode of pictures that a profile of this space is for."""

_GREY = ("1", "L", "LA", "La")
CONVERTED = "colour profile to sRGB"
NOT_READ = "colour profile not read, taken for sRGB"


def to_srgb(image: Image.Image) -> tuple[Image.Image, str | None]:
    """A loaded image in mode RGB, and what was done to its light (`Span.conversion`)."""
    colour, alpha = _parted(image)
    profile, note = image.info.get("icc_profile"), None
    if profile:
        colour, note = _by_profile(colour, profile)
    rgb = colour.convert("RGB")
    if alpha is None:
        return rgb, note
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha), note


def _parted(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The picture in mode L, RGB or CMYK, and its alpha channel where it has one."""
    if image.mode.startswith("I"):
        return _eight_bits(image)
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        return whole.convert("L" if image.mode in _GREY else "RGB"), whole.getchannel("A")
    if image.mode == "CMYK":
        return image, None
    return image.convert("L" if image.mode in _GREY else "RGB"), None


def _eight_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Of 16-bit grey, rounded."""
    levels = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
    clear = image.info.get("transparency")
    alpha = Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)) if isinstance(clear, int) else None
    return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8)), alpha


def _space_of(profile: ImageCms.ImageCmsProfile) -> str:
    space: str = profile.profile.xcolor_space  # pyright: ignore[reportAttributeAccessIssue]
    return space.strip()


def _by_profile(colour: Image.Image, content: bytes) -> tuple[Image.Image, str]:
    """The picture in sRGB; as it is where the profile is damaged, or for pictures of another kind."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        wanted = _SPACES.get(_space_of(profile))
        if wanted == "RGB" and colour.mode == "L":
            colour = colour.convert("RGB")
        if colour.mode != wanted:
            return colour, NOT_READ
        made = ImageCms.profileToProfile(
            colour,
            profile,
            _SRGB,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return colour, NOT_READ
    assert made is not None, "only a conversion in place gives nothing"
    return made, CONVERTED
