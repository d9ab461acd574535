"""From a figure to bytes: matplotlib's Agg and SVG, without a window, and the same bytes for the same numbers.

The only module that decides how a figure looks in all; `pages` makes them with it.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from curation.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
INK, BAR, FAINT = "#222222", "#3b6ea5", "#8a8a8a"
COLOURS = ("#1f4e79", "#3b6ea5", "#7a3e48", "#4f7942", "#8c6d1f", "#5b4a8a")
_DPI = 130
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "ziggurat",  # names of parts in an SVG: random without it
    "text.parse_math": False,  # names of folders and captions may hold dollars
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def check() -> None:
    """UserError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("figures need matplotlib, which is not installed", "pip install '.[stats]', or leave -o out")


@contextmanager
def drawing() -> Iterator[None]:
    """Our style while figures are made and written. A character that the font lacks is a box, and no complaint."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def blank(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    return figure


def files(name: str, figure: Figure) -> Iterator[tuple[str, bytes]]:
    """The figure as `name.png` and `name.svg`."""
    for kind in FORMATS:
        out = io.BytesIO()
        unsigned = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, metadata=unsigned)
        yield f"{name}.{kind}", out.getvalue()
