"""Panels of bars: distributions of numbers, and counts by a value. `pages` puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from curation.printable import printable
from curation.stats.report import Numbers, Values
from pipelines.figures.canvas import BAR, FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 20
"""Bars of counts in one panel; what is beyond them is told in its title."""
_LONGEST = 48


def distribution(axes: Axes, title: str, unit: str, numbers: Numbers) -> None:
    """A histogram of shares, and below it how many clips are outside, or have no value and why."""
    axes.set_title(title, color=INK)
    axes.set_xlabel(unit)
    if numbers.count:
        widths = [high - low for low, high in zip(numbers.edges, numbers.edges[1:], strict=False)]
        shares = [100 * count / numbers.count for count in numbers.counts]
        axes.bar(numbers.edges[:-1], shares, widths, align="edge", color=BAR, edgecolor="white", linewidth=0.4)
        axes.set_ylabel("% of clips")
        axes.set_ylim(0, 1.45 * max(*shares, 1e-9))  # room for what is told
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.text(0.98, 0.96, _told(numbers), transform=axes.transAxes, ha="right", va="top", color=FAINT, fontsize=7)


def _told(numbers: Numbers) -> str:
    lines = [f"{numbers.count:,} clips"]
    if numbers.quantiles:
        lines.append(f"median {numbers.quantiles['0.5']:.4g}, mean {numbers.mean:.4g}")
    if numbers.below or numbers.above:
        lines.append(f"outside: {numbers.below:,} below, {numbers.above:,} above")
    lines += [f"no value, {_short(why)}: {count:,}" for why, count in list(numbers.missing.items())[:3]]
    return "\n".join(lines)


def counts(axes: Axes, title: str, clips: Mapping[str, int], other: int = 0) -> None:
    """One bar a value, the highest first."""
    shown = list(clips.items())[:MOST]
    rest = other + sum(count for _, count in list(clips.items())[MOST:])
    title += f"; all others: {rest:,}" if rest else ""
    places = range(len(shown))
    axes.barh(places, [count for _, count in shown], color=BAR, height=0.7)
    axes.set_yticks(places, labels=[_short(name) for name, _ in shown])
    axes.invert_yaxis()
    axes.set_title(title, color=INK, loc="left")
    for place, (_, count) in zip(places, shown, strict=True):
        axes.text(count, place, f" {count:,}", va="center", color=FAINT, fontsize=7)
    axes.margins(x=0.15)


def values(axes: Axes, title: str, found: Values) -> None:
    """As `counts`; told where they are not exact."""
    counts(axes, title if found.is_exact else f"{title} (at least)", found.clips, found.other)


def rows(found: Mapping[str, Any]) -> int:
    """How many bars a panel has."""
    return min(len(found), MOST)


def _short(name: str) -> str:
    """The end of a long name, which tells it from others."""
    name = printable(name)
    return name if len(name) <= _LONGEST else f"...{name[-_LONGEST:]}"
