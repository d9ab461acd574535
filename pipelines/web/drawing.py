"""Histograms as SVG, drawn by the server: a bar a bin, those outside of the bounds pale, in the page's own colours."""

from __future__ import annotations

from markupsafe import Markup

from curation.pyramid.queries.histogram import Histogram
from curation.pyramid.tiering.tiers import Bound, Range

WIDTH, HEIGHT = 240, 48


def histogram(found: Histogram, bounds: Bound | None) -> Markup:
    """The bars of a column. The picture says in words what it shows."""
    low, high = (bounds.low, bounds.high) if isinstance(bounds, Range) else (None, None)
    most, wide = max(1, *found.counts), WIDTH / len(found.counts)
    bars: list[str] = []
    for place, (count, start, stop) in enumerate(zip(found.counts, found.edges, found.edges[1:], strict=False)):
        tall = 0.0 if not count else max(1.0, (HEIGHT - 2) * count / most)
        inside = (low is None or stop > low) and (high is None or start <= high)
        kind = "in" if inside else "out"
        bars.append(
            f'<rect class="{kind}" x="{place * wide:.2f}" y="{HEIGHT - tall:.2f}" width="{max(0.5, wide - 0.5):.2f}" '
            f'height="{tall:.2f}"/>'
        )
    told = f"{found.column}: {sum(found.counts)} clips from {found.edges[0]:.3g} to {found.edges[-1]:.3g}"
    more = ((found.below, "below"), (found.above, "above"), (found.null, "without a value"))
    told = ", ".join([told, *(f"{many} {where}" for many, where in more if many)])
    return Markup(
        '<svg class="histogram" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, told, Markup("".join(bars)))
