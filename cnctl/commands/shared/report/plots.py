"""Plots as SVG that needs no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnctl.commands.shared.report.pages import render

WIDTH, HEIGHT = 640, 180
"""Pixels of the plotted area; HEIGHT is that of lines."""
ROW = 36
"""Pixels between two rows of dots."""
COLOURS = ("#06c", "#c60", "#393", "#939")
LINE = 15
"""Pixels between two lines of text."""

Curve = Sequence[tuple[float, float]]
"""(x, y), by x."""


@dataclass(frozen=True)
class Dots:
    """Values in a row of dots; interval: low end, mean and high end, drawn over them."""

    values: Sequence[float]
    interval: tuple[float, float, float]


def plot(
    series: Mapping[str, Curve | Dots],
    *,
    x_name: str = "step",
    marks: Mapping[str, float] | None = None,
) -> str:
    """Return curves over common axes, or rows of dots over a common axis, as an SVG document.

    The extremes are written at the edges, and names beside the series; a curve alone has no name.
    marks: text -> x, where a dashed line stands.
    """
    with_dots = any(isinstance(one, Dots) for one in series.values())
    curves = [_points(one, row) for row, one in enumerate(series.values())]
    points = [point for curve in curves for point in curve]
    points += [(x, 0.0) for one in series.values() if isinstance(one, Dots) for x in one.interval]
    height = ROW * (len(series) - 1) if with_dots else HEIGHT
    x = _scale((x for x, _ in points), 0, last=WIDTH)
    y = _scale((y for _, y in points), height, last=0)
    marks = marks or {}
    ends = [y(curve[-1][1]) for curve in curves]
    names = _apart([end - 5 for end in ends])
    return render(
        "plot.svg.j2",
        width=WIDTH,
        height=height,
        left=20 + 7 * max(map(len, series)) if with_dots else 80,
        top=20 if with_dots else LINE * len(marks) + 10,
        bottom=36 if with_dots else 26,
        series=[
            {
                "name": name,
                "joined": not with_dots,
                "colour": COLOURS[0 if with_dots else number % len(COLOURS)],
                "points": [(x(step), y(value)) for step, value in curves[number]],
                "end": ends[number],
                "name_y": names[number],
                "interval": [x(end) for end in one.interval] if isinstance(one, Dots) else None,
            }
            for number, (name, one) in enumerate(series.items())
        ],
        marks=[(name, x(step), -6 - LINE * i) for i, (name, step) in enumerate(marks.items())],
        labels=_labels(points, height, x_name=x_name, with_y=not with_dots),
    )


def _points(one: Curve | Dots, row: int) -> Curve:
    return [(value, -float(row)) for value in one.values] if isinstance(one, Dots) else one


def _scale(values: Iterable[float], first: float, *, last: float) -> Callable[[float], float]:
    """Map the least value to `first` and the greatest to `last`."""
    given = list(values)
    low, high = min(given), max(given)
    return lambda value: round(first + (last - first) * (value - low) / (high - low or 1), 1)


def _apart(heights: Sequence[float]) -> list[float]:
    """Where names are written: near these heights, in their order, a line of text apart."""
    placed, last = {}, 5.0 - LINE
    for number in sorted(range(len(heights)), key=heights.__getitem__):
        placed[number] = last = max(heights[number], last + LINE)
    return [placed[number] for number in range(len(heights))]


def _labels(points: Curve, height: int, *, x_name: str, with_y: bool) -> list[tuple[Any, ...]]:
    """The extremes of the axes and the name of x: x, y, anchor and text of each."""
    xs, ys = ([point[axis] for point in points] for axis in (0, 1))
    below = height + (18 if with_y else 28)
    labels = [
        (0, below, "start", _number(min(xs))),
        (WIDTH, below, "end", _number(max(xs))),
        (WIDTH / 2, below, "middle", x_name),
    ]
    if with_y:
        labels += [(-6, 10, "end", _number(max(ys))), (-6, height, "end", _number(min(ys)))]
    return labels


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"
