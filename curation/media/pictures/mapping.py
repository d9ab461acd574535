"""Colour mapping inside a libavfilter graph: the table of `tone.py` as a filter, with nothing on disk.

`convert.py` builds it into the graph of HDR and wide-gamut sources. `haldclut` takes its table as a picture on a second
input, so the table needs no file, which the decoder's process could not write. Planar RGB of 16 bits is what
libavfilter has vector code for: 20 ms for a 1080p frame with all conversions, where packed RGB takes 60.
"""

from __future__ import annotations

import functools
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext

from curation.media.pictures.tone import hald

FORMAT = "gbrp16le"
"""What goes in and comes out: planar full-range RGB."""

BASE = Fraction(1, 1000)
_MAPPER = "clut=first:interp=tetrahedral"


def add_mapping(graph: Graph, head: FilterContext, primaries: int, transfer: int) -> tuple[FilterContext, Feed]:
    """Put the table for these primaries and transfer behind `head`; call the feed once the graph is configured."""
    return _add(graph, head, np.ascontiguousarray(hald(primaries, transfer)[..., _order()]))


class Feed:
    """Pushes the table into its graph."""

    def __init__(self, source: FilterContext, table: av.VideoFrame) -> None:
        self._source, self._table = source, table

    def __call__(self) -> None:
        self._source.push(self._table)
        self._source.push(None)


def _add(graph: Graph, head: FilterContext, table: np.ndarray) -> tuple[FilterContext, Feed]:
    picture = av.VideoFrame.from_ndarray(table, format="rgb48le")
    picture.pts, picture.time_base = 0, BASE
    source = graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=BASE)
    mapper = graph.add("haldclut", _MAPPER)
    planar = graph.add("format", FORMAT)
    source.link_to(planar)
    head.link_to(mapper, 0, 0)
    planar.link_to(mapper, 0, 1)
    return mapper, Feed(source, picture)


@functools.cache
def _order() -> list[int]:
    """Which result (0 red, 1 green, 2 blue) each channel of a table must hold for its pixels to come out right.

    `haldclut` of libavfilter 11 writes the planes of planar RGB in another order than it reads them. A table of one
    colour tells which, and whether some later version still does.
    """
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=16, height=16, format=av.VideoFormat(FORMAT), time_base=BASE)
    mapper, feed = _add(graph, source, np.full((8, 8, 3), [1000, 2000, 3000], np.uint16))
    mapper.link_to(graph.add("buffersink"))
    graph.configure()
    feed()
    frame = av.VideoFrame(16, 16, FORMAT)
    frame.pts, frame.time_base = 0, BASE
    source.push(frame)
    planes = graph.vpull().planes  # green, blue, red
    shown = {
        colour: round(int(np.frombuffer(memoryview(planes[i]), "<u2")[0]) / 1000) - 1
        for i, colour in enumerate((1, 2, 0))
    }
    assert sorted(shown.values()) == [0, 1, 2], shown
    return [next(colour for colour, channel in shown.items() if channel == wanted) for wanted in range(3)]
