"""From a decoded frame to the picture that is measured and encoded: planar 8-bit 4:2:0, SDR, with true colour tags.

Both passes put every frame through a `Converter` (by way of `develop.py`), so scores and clips see the same pixels.
What is 8-bit 4:2:0 SDR already goes through untouched and uncopied; all else takes one libavfilter graph, kept as long
as frames stay alike:

    [alpha over black]  ->  [HDR or wide gamut: RGB in 16 bits, through the table of `tone.py`]  ->  yuv420p, rounded

Matrix and range of a source are kept, except that RGB becomes limited-range YUV of the matrix that its size implies,
and whatever went through the table is limited-range BT.709. The tables are handed to the graph in memory: the decoder's
process can write no file.
"""

from __future__ import annotations

from collections.abc import Sequence

import av
from av.filter import Graph
from av.filter.context import FilterContext

from curation.contract import Reason
from curation.media.pictures.colour import FULL, LIMITED, NO_TAGS, Light, Tagged, light_of, tag
from curation.media.pictures.mapping import BASE, FORMAT, add_mapping
from curation.media.probe import Unfit

PLANAR = frozenset({"yuv420p", "yuvj420p"})
"""What passes uncopied."""

Filter = tuple[str, str]
_MATRIX = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_EXACT = "flags=bilinear:sws_dither=none"
"""Dither would count as sharpness: the Laplacian's variance of a smooth picture rises from 3 to 8."""

_RANGE = {LIMITED: "limited", FULL: "full"}


class Converter:
    """Converts the frames of one stream. What comes out depends on the frame alone, never on those before it.

    `container`: what the container says, which stands in for tags that a frame lacks (see `light_of`).
    """

    def __init__(self, container: Tagged = NO_TAGS) -> None:
        self._container = container
        self._key: tuple[object, ...] | None = None
        self._light: Light | None = None
        self._graph: _Graph | None = None

    def light(self, frame: av.VideoFrame) -> Light:
        """The light of a frame as it was decoded (not of one that came out of here: its tags are the clip's)."""
        self._look(frame)
        assert self._light is not None
        return self._light

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame as 8-bit 4:2:0 with its tags; itself where it has that form. Its pts and key mark are kept."""
        self._look(frame)
        light, graph = self._light, self._graph
        assert light is not None
        return tag(frame if graph is None else graph(frame), light.shown)

    def _look(self, frame: av.VideoFrame) -> None:
        form = frame.format.name
        tags = frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range
        key = (form, frame.width, frame.height, *tags)
        if key == self._key:
            return
        self._light = light_of(frame, self._container)
        plain = form in PLANAR and not self._light.mapped
        try:
            self._graph = None if plain else _Graph(frame, self._light)
        except NotImplementedError as error:  # libswscale does not read every format that decoders give
            raise Unfit(Reason.UNSUPPORTED_CODEC, detail=f"no conversion of pictures in {form}") from error
        self._key = key


class _Graph:
    """One libavfilter graph: frame in, frame out."""

    def __init__(self, like: av.VideoFrame, light: Light) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        self._source = self._graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=BASE)
        self._sink = self._graph.add("buffersink")
        self._count = 0
        head = self._chain(self._source, [*_alpha(like, light), *_to_rgb(light)])
        feed = None
        if light.mapped:
            head, feed = add_mapping(self._graph, head, light.primaries, light.transfer)
        self._chain(head, _to_yuv(like, light)).link_to(self._sink)
        self._graph.configure()
        if feed is not None:
            feed()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        # The graph gets a clock of its own, for it wants times that only grow and a source may be read again.
        pts = frame.pts
        frame.pts = self._count
        self._count += 1
        self._source.push(frame)
        frame.pts = pts
        made = self._sink.pull()
        assert isinstance(made, av.VideoFrame)
        made.pts = pts
        if frame.time_base is not None:
            made.time_base = frame.time_base
        return made

    def _chain(self, head: FilterContext, filters: Sequence[Filter]) -> FilterContext:
        for name, options in filters:
            node = self._graph.add(name, options)
            head.link_to(node)
            head = node
        return head


def _has_alpha(frame: av.VideoFrame) -> bool:
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def _alpha(like: av.VideoFrame, light: Light) -> list[Filter]:
    """Pictures with alpha become RGB over black. (libswscale alone shows what lies under it.)"""
    if not _has_alpha(like):
        return []
    form = "gbrap" if light.depth == 8 else "gbrap16le"
    return [("scale", f"{_input(light)}out_range=full"), ("format", form), ("premultiply", "inplace=1")]


def _to_rgb(light: Light) -> list[Filter]:
    if not light.mapped:
        return []
    return [("scale", f"{_input(light)}out_range=full"), ("format", FORMAT)]


def _to_yuv(like: av.VideoFrame, light: Light) -> list[Filter]:
    shown = light.shown
    source = f"in_range=full:{_EXACT}:" if light.mapped or _has_alpha(like) else _input(light)
    scale = ("scale", f"{source}out_color_matrix={_MATRIX.get(shown.matrix, 'auto')}:out_range={_RANGE[shown.range]}")
    last = ("format", "yuv420p")
    if light.mapped or (light.rgb and light.depth > 8):
        # From deep RGB straight to 8 bits libswscale dithers whatever it is told.
        return [scale, ("format", "yuv420p16le"), ("scale", _EXACT), last]
    return [scale, last]


def _input(light: Light) -> str:
    """Options of `scale` that say how to read a source; it keeps transfer and primaries, which are not its business."""
    matrix = "auto" if light.rgb else _MATRIX.get(light.matrix, "auto")
    return f"in_color_matrix={matrix}:in_range={_RANGE[light.range]}:{_EXACT}:"
