"""Curves as SVG, drawn by the server: a line each, told apart by colour and by dashes, in the page's own colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

from pipelines.watching.curves import Curve

WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 8, 22
_TICKS = 4
LINES = 9
"""Lines that the page's colours tell apart."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, and for its legend the curves in the order of their lines with their last values."""

    title: str
    picture: Markup
    legend: tuple[tuple[str, str], ...]


def chart(title: str, curves: Mapping[str, Curve]) -> Chart:
    """The curves over their steps. The picture says in words what it shows."""
    assert curves and all(one.steps for one in curves.values())
    shown = dict(list(curves.items())[:LINES])
    steps = [step for one in shown.values() for step in (one.steps[0], one.steps[-1])]
    values = [value for one in shown.values() for value in one.values]
    frame = _Frame(*_ends(min(steps), max(steps)), *_ends(min(values), max(values)))
    lines = [frame.line(number, name, one) for number, (name, one) in enumerate(shown.items())]
    told = ", ".join(f"{name} {one.values[-1]:.4g} at step {one.steps[-1]:,}" for name, one in shown.items())
    picture = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        WIDTH, HEIGHT, f"{title}: {told}", frame.axes(), Markup("").join(lines)
    )
    return Chart(title, picture, tuple((name, f"{one.values[-1]:.4g}") for name, one in shown.items()))


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is shown, from where to where."""

    first: float
    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (step - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - self.low) / (self.high - self.low)

    def line(self, number: int, name: str, one: Curve) -> Markup:
        points = list(zip(one.steps, one.values, strict=True))
        if len(points) == 1:  # a line of one point is none
            points = [(self.first, points[0][1]), (self.last, points[0][1])]
        path = " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in points)
        return Markup('<polyline class="line line-{}" points="{}"><title>{}</title></polyline>').format(
            number, path, name
        )

    def axes(self) -> Markup:
        rule = Markup('<line class="rule" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
        tick = Markup('<text class="tick" text-anchor="{}" x="{:.1f}" y="{:.1f}">{}</text>')
        found: list[Markup] = []
        for value in _ticks(self.low, self.high):
            y = self.y(value)
            found += [rule.format(_LEFT, WIDTH - _RIGHT, y, y), tick.format("end", _LEFT - 5, y + 4, f"{value:.4g}")]
        for step in _ticks(self.first, self.last):
            x = min(self.x(step), WIDTH - 20)
            found.append(tick.format("middle", x, HEIGHT - 6, f"{step:,.6g}"))
        return Markup("").join(found)


def _ends(low: float, high: float) -> tuple[float, float]:
    """Of what is shown: with room where all is the same."""
    return (low, high) if high > low else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in between."""
    rough = (high - low) / _TICKS
    unit = 10.0 ** floor(log10(rough))
    step = unit * next(one for one in (1, 2, 5, 10) if one * unit >= rough)
    return [number * step for number in range(ceil(low / step), floor(high / step) + 1)]
