"""The pages of an evaluation: a plot of all scores, and a sheet of the best and worst cases."""

from __future__ import annotations

import json

import numpy as np

from cnctl.commands.evaluate.cases import Case, Cases
from cnctl.commands.evaluate.result import Evaluation
from cnctl.commands.shared.report.pages import embedded, render
from cnctl.commands.shared.report.plots import Dots, plot
from cnctl.commands.shared.report.sheets import arrange, labelled, reduced, visible
from cnctl.images import encode_image, read_hint, read_image, write_file

SHOWN = 5
"""Cases of a kind on the page."""


def write_pages(found: Evaluation, cases: Cases, *, channels: int) -> None:
    """Write the pages into the evaluation's folder; none needs another file. JSON comes last."""
    drawn = _plot(found)
    page = _page(found, drawn, cases=cases, channels=channels)
    document = json.dumps(found.as_dict(), indent=2, ensure_ascii=False, default=str)
    for path, text in zip(found.pages, (drawn, page, document), strict=True):
        write_file(path, text.encode("utf-8", "backslashreplace"), overwrite=True)


def _plot(found: Evaluation) -> str:
    """Each case's score as a dot, a row for each set, and over it the mean's interval."""
    means = found.intervals["fidelity"]
    rows = {one.name: [*one.by_case("fidelity").values()] for one in found.sets}
    dots = {
        name: Dots(row, (means[name].low, means[name].mean, means[name].high))
        for name, row in rows.items()
    }
    return plot(dots, x_name=found.metric.name)


def _page(found: Evaluation, drawn: str, *, cases: Cases, channels: int) -> str:
    ordered = found.ordered()
    kinds = {"Best": ordered[:SHOWN], "Worst": ordered[SHOWN:][: -SHOWN - 1 : -1]}
    if len(found.sets) > 1 and len(ordered) > SHOWN:  # fewer are all among the best
        kinds["Where they differ most"] = _most_different(found)[:SHOWN]
    sheets = {
        kind: [
            (f"{case.title}: {case.prompt}", _sheet(found, case, cases=cases, channels=channels))
            for case in chosen
        ]
        for kind, chosen in kinds.items()
    }
    return render(
        "evaluation.html.j2",
        title=f"cnctl evaluate: {found.condition}",
        scores="\n".join(found.lines()),
        plot=drawn,
        sheets_by_kind=sheets,
    )


def _most_different(found: Evaluation) -> list[Case]:
    """The cases that all sets have, by the distance between the best and the worst of them."""
    scores = [one.by_case("fidelity") for one in found.sets]
    common = [case for case in found.cases if all(case.id in by_case for by_case in scores)]
    return sorted(common, key=lambda case: -np.ptp([by_case[case.id] for by_case in scores]))


def _sheet(found: Evaluation, case: Case, *, cases: Cases, channels: int) -> str:
    """Return the hint, then each set's first picture and the hint found in it, as a data: URL."""
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
    sheet = arrange([labelled([(reduced(cell, size), text) for cell, text in cells])])
    return embedded(encode_image(sheet, ".webp", {}), format="webp")
