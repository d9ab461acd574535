"""Which figures there are of some statistics: the report's figures 3 and 4 first, then scores, sources and reasons.

`commands.pyramid.stats` writes them. A figure of which there is nothing to show is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from curation.stats.gather import ASPECT, DURATION, LENGTH
from curation.stats.report import Numbers, Stats, Values
from pipelines.figures import bars, canvas, cloud

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 2
_PANEL = (4.6, 3.0)
_LONGEST = 40
"""Characters of a caption beside its bar."""
_UNITS = {
    "aesthetic": "score, 1 to 10",
    DURATION: "seconds",
    ASPECT: "height / width",
    LENGTH: "words",
}
_FIGURE_3 = ("aesthetic", DURATION, ASPECT, LENGTH)


def drawn(stats: Stats) -> Iterator[tuple[str, bytes]]:
    """The files of all figures, by name: each as PNG and as SVG."""
    with canvas.drawing():
        for name, draw in _PAGES.items():
            figure = draw(stats)
            if figure is not None:
                yield from canvas.files(name, figure)


def _distributions(stats: Stats) -> Figure | None:
    """Figure 3 of the report."""
    return _histograms({name: stats.numbers[name] for name in _FIGURE_3}) if stats.clips else None


def _scores(stats: Stats) -> Figure | None:
    found = {name: numbers for name, numbers in stats.numbers.items() if name not in _FIGURE_3[1:]}
    return _histograms(found) if stats.clips else None


def _words(stats: Stats) -> Figure | None:
    """Figure 4 of the report."""
    if not stats.captions.words:
        return None
    figure = canvas.blank(cloud.WIDTH / 100, cloud.HEIGHT / 100)
    cloud.draw(figure.add_axes((0.01, 0.01, 0.98, 0.98)), stats.captions.words)
    return figure


def _captions(stats: Stats) -> Figure | None:
    found = {"captions by": stats.captions.by, "no caption": Values(stats.captions.missing)}
    common = enumerate(stats.captions.commonest, 1)
    alike = {f"{number}. {one.caption[:_LONGEST]}": one.clips for number, one in common}
    return _counted({**found, "equal captions": Values(alike, is_exact=stats.captions.equal_are_exact)})


def _sources(stats: Stats) -> Figure | None:
    return _counted(dict(stats.sources))


def _reasons(stats: Stats) -> Figure | None:
    found = {
        "videos of the whole pyramid": Values(stats.videos),
        "why videos have no clips": Values(stats.reasons),
        "why clips are not cut": Values(stats.not_cut),
        "why clips end": Values(stats.ended_by),
    }
    missing = {f"no {name}": Values(one.missing) for name, one in stats.numbers.items() if one.missing}
    return _counted({**found, **missing})


def _clusters(stats: Stats) -> Figure | None:
    return None if stats.clusters is None else _counted({"clusters": stats.named_clusters})


_PAGES: Mapping[str, Callable[[Stats], Figure | None]] = {
    "distributions": _distributions,
    "words": _words,
    "scores": _scores,
    "captions": _captions,
    "sources": _sources,
    "reasons": _reasons,
    "clusters": _clusters,
}


def _histograms(found: Mapping[str, Numbers]) -> Figure:
    """A panel for each column, two beside each other."""
    rows = -(-len(found) // _COLUMNS)
    figure = canvas.blank(_PANEL[0] * _COLUMNS, _PANEL[1] * rows)
    for number, (name, numbers) in enumerate(found.items(), 1):
        axes = figure.add_subplot(rows, _COLUMNS, number)
        bars.distribution(axes, name.replace("_", " "), _UNITS.get(name, "score"), numbers)
    figure.tight_layout()
    return figure


def _counted(found: Mapping[str, Values]) -> Figure | None:
    """A panel for each that has something, one below the other, as high as it has bars."""
    panels = {title: values for title, values in found.items() if values.clips}
    if not panels:
        return None
    heights = [bars.rows(values.clips) + 1 for values in panels.values()]
    figure = canvas.blank(9.0, 0.2 * sum(heights) + 0.6 * len(panels) + 0.2)
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for number, (title, values) in enumerate(panels.items()):
        bars.values(figure.add_subplot(grid[number]), title, values)
    figure.tight_layout()
    return figure
