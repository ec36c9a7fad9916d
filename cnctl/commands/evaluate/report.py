"""The pages of an evaluation: a plot of all scores, and a sheet of the best and worst cases."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from html import escape

import numpy as np

from cnctl.commands.evaluate.cases import Case, Cases
from cnctl.commands.evaluate.intervals import Interval
from cnctl.commands.evaluate.result import Evaluation
from cnctl.commands.shared.report.sheets import arrange, labelled, reduced, visible
from cnctl.images import encode_image, read_hint, read_image, write_file

SHOWN = 5
"""Cases of a kind on the page."""
WIDTH, ROW = 640, 36
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100% } svg { background: #f6f6f6 } figure { margin: 1rem 0 }
"""


def write_pages(found: Evaluation, cases: Cases, *, channels: int) -> None:
    """Write the pages into the evaluation's folder; none needs another file. JSON comes last."""
    plot = draw_plot(found)
    page = "\n".join(_page(found, plot, cases, channels))
    document = json.dumps(found.as_dict(), indent=2, ensure_ascii=False, default=str)
    for path, text in zip(found.pages, (plot, page, document), strict=True):
        write_file(path, text.encode("utf-8", "backslashreplace"), overwrite=True)


def draw_plot(found: Evaluation) -> str:
    """Each case's score as a dot, a row for each set, and over it the mean's interval, as SVG."""
    rows = {one.name: [*one.by_case("fidelity").values()] for one in found.sets}
    intervals = found.intervals["fidelity"]
    values = [value for row in rows.values() for value in row]
    low, high = min(values), max(values)

    def x(value: float) -> float:
        return round(WIDTH * (value - low) / (high - low or 1), 1)

    parts = []
    for number, (name, row) in enumerate(rows.items()):
        y = ROW * number + ROW // 2
        parts += [
            f"<circle cx='{x(value)}' cy='{y}' r='3' fill='#06c' opacity='.3'/>" for value in row
        ]
        parts.append(_mark(intervals[name], x, y))
        parts.append(f"<text x='-12' y='{y + 4}' text-anchor='end'>{escape(name)}</text>")
    height = ROW * len(rows)
    labels = {"x='0'": f"{low:.3g}", f"x='{WIDTH}' text-anchor='end'": f"{high:.3g}"}
    parts += [f"<text {where} y='{height + 14}'>{text}</text>" for where, text in labels.items()]
    parts.append(
        f"<text x='{WIDTH / 2}' y='{height + 14}' text-anchor='middle'>"
        f"{escape(found.metric.name)}</text>"
    )
    margin = 20 + 7 * max(map(len, rows))
    box = f"{-margin} 0 {WIDTH + margin + 12} {height + 24}"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='{box}' font-size='12' width='100%'"
    return f"{head} font-family='sans-serif'>{''.join(parts)}</svg>\n"


def _mark(interval: Interval, x: Callable[[float], float], y: int) -> str:
    left, middle, right = x(interval.low), x(interval.mean), x(interval.high)
    return (
        f"<path d='M{left} {y}H{right}M{middle} {y - 9}v18' stroke='#c40' stroke-width='3' "
        "fill='none'/>"
    )


def _page(found: Evaluation, plot: str, cases: Cases, channels: int) -> Iterator[str]:
    title = escape(f"cnctl evaluate: {found.condition}")
    yield f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
    yield f"<style>{STYLE}</style><h1>{title}</h1>"
    yield f"<pre>{escape(chr(10).join(found.lines()))}</pre>{plot}"
    ordered = found.ordered()
    kinds = {"Best": ordered[:SHOWN], "Worst": ordered[SHOWN:][: -SHOWN - 1 : -1]}
    if len(found.sets) > 1:
        kinds["Where they differ most"] = _most_different(found)[:SHOWN]
    for kind, chosen in kinds.items():
        if chosen:
            yield f"<h2>{kind}</h2>"
        for case in chosen:
            picture = base64.b64encode(
                encode_image(_sheet(found, case, cases, channels), ".webp", {})
            )
            text = escape(f"{case.title}: {case.prompt}")
            yield (
                f"<figure><img alt='{text}' src='data:image/webp;base64,{picture.decode()}'>"
                f"<figcaption>{text}</figcaption></figure>"
            )
    yield "</html>\n"


def _most_different(found: Evaluation) -> list[Case]:
    """The cases that all sets have, by the distance between the best and the worst of them."""
    scores = [one.by_case("fidelity") for one in found.sets]
    common = [case for case in found.cases if all(case.id in by_case for by_case in scores)]
    return sorted(common, key=lambda case: -np.ptp([by_case[case.id] for by_case in scores]))


def _sheet(found: Evaluation, case: Case, cases: Cases, channels: int) -> np.ndarray:
    """The hint, then the first picture of each set and the hint that is found in it."""
    pictures = [
        (one.name, next((p for p in one.pictures if p.case == case.id), None)) for one in found.sets
    ]
    cells = [(visible(read_hint(case.hint, channels=channels)), "hint")]
    for name, scored in pictures:
        if scored is None:
            continue
        picture = read_image(scored.path)
        again = cases.detect(picture, case.options)
        blank = np.zeros_like(picture)
        cells.append((picture, f"{name}  {scored.fidelity:.3f}"))
        cells.append((blank if again is None else visible(again), "found again"))
    size = cells[0][0].shape[:2]
    return arrange([[labelled(reduced(cell, size), text) for cell, text in cells]])
