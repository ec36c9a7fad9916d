"""Curves over the steps of training, as SVG that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 180
COLOURS = ("#06c", "#c60", "#393", "#939")
LINE = 15
"""Between lines of text."""

Curve = Sequence[tuple[float, float]]
"""(step, value), by step."""


def plot(curves: Mapping[str, Curve], *, marks: Mapping[str, float] | None = None) -> str:
    """Curves by name, in colours, their common extremes written at the edges.

    A curve alone goes without its name. marks: a dashed line at a step, by what it says.
    """
    places = [place for curve in curves.values() for place in curve]
    steps, values = ([place[axis] for place in places] for axis in (0, 1))
    first, last, low, high = min(steps), max(steps), min(values), max(values)

    def x(step: float) -> float:
        return round(WIDTH * (step - first) / (last - first or 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT * (1 - (value - low) / (high - low or 1)), 1)

    marks = marks or {}
    parts = [
        f"<rect x='-80' y='{-LINE * len(marks) - 10}' width='{WIDTH + 100}' "
        f"height='{HEIGHT + LINE * len(marks) + 34}' fill='#f6f6f6'/>"
    ]
    for number, (name, curve) in enumerate(curves.items()):
        points = " ".join(f"{x(step)},{y(value)}" for step, value in curve)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(
            f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>"
        )
        if len(curves) > 1:
            end = y(curve[-1][1]) - 5
            parts.append(_text(name, x=WIDTH, y=end, anchor="end", fill=colour))
    for number, (said, step) in enumerate(marks.items()):
        top = -6 - LINE * number
        parts.append(f"<path d='M{x(step)} {top}V{HEIGHT}' stroke='#c40' stroke-dasharray='4'/>")
        parts.append(_text(said, x=x(step), y=top, anchor="middle"))
    parts += [
        _text(f"{high:.4g}", x=-6, y=10, anchor="end"),
        _text(f"{low:.4g}", x=-6, y=HEIGHT, anchor="end"),
        _text(f"{first:.0f}", x=0, y=HEIGHT + 18),
        _text(f"step {last:.0f}", x=WIDTH, y=HEIGHT + 18, anchor="end"),
    ]
    box = f"-80 {-LINE * len(marks) - 10} {WIDTH + 100} {HEIGHT + LINE * len(marks) + 34}"
    opening = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='{box}' width='100%'"
    return f"{opening} font-size='12' font-family='sans-serif'>{''.join(parts)}</svg>"


def _text(said: str, *, x: float, y: float, anchor: str = "start", fill: str = "black") -> str:
    place = f"x='{x}' y='{y}' text-anchor='{anchor}' fill='{fill}'"
    return f"<text {place}>{escape(said)}</text>"
