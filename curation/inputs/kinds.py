"""Which names are videos', which are images' and which are animations'.

Asked by `sources`, for what a folder holds, and by the measuring stage: an image is an input that is called one and is
one. What a name is not, the content may still be: an animation is a video whatever it is called.
"""

from __future__ import annotations

import os

from curation.inputs import uris

_VIDEOS = """
.mp4 .m4v .mov .qt .mkv .webm .avi .divx .wmv .asf .flv .f4v .mpg .mpeg .m1v .m2v .mpv .vob .ts .mts .m2ts .mxf
.mp4v .3gp .3g2 .ogv .ogm .ogg .dv .rm .rmvb .ivf .nut .gxf .h264 .264 .avc .h265 .265 .hevc .obu .mjpeg .mjpg .y4m .m2t
.mk3d .mpe .insv .lrv
"""

VIDEO_EXTENSIONS = frozenset(_VIDEOS.split())
"""What counts as a video in a folder or a glob. A file that is named outright is always taken."""

IMAGE_EXTENSIONS = frozenset(".png .jpg .jpeg .jpe .webp .avif .heic .heif".split())
"""What counts as an image: of folders and globs only where the recipe takes them."""

PICTURE_EXTENSIONS = IMAGE_EXTENSIONS | {".gif", ".apng"}
"""Images, and animations that are called nothing else; they are taken together."""

FROM_FOLDERS = "[images] from_folders = true"
"""What a recipe says to take them from folders."""


def suffix(name: str) -> str:
    """The suffix in lower case, of a path or of a URI without its query."""
    bare = name.partition("?")[0] if uris.scheme(name) else name  # in a path '?' is a character as any other
    return os.path.splitext(bare)[1].lower()


def named_as_image(uri: str) -> bool:
    """Whether a path, or a URI without its options, has an image's name."""
    return suffix(uri) in IMAGE_EXTENSIONS
