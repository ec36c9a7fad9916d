"""The report on a data set: report.html for people, report.json for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from cnctl.commands.shared.report.pages import embedded, render
from cnctl.commands.shared.report.plots import plot
from cnctl.commands.shared.report.sheets import arrange, labelled, reduced, visible
from cnctl.curation.layout import PAGE, REPORT
from cnctl.curation.parts import Record
from cnctl.curation.plan import Plan, shard_rows
from cnctl.curation.shard import read_part
from cnctl.curation.sources.reading import read_row
from cnctl.curation.statistics import KEPT, Histogram, Statistics
from cnctl.errors import CnctlError, shown
from cnctl.images import encode_image, read_hint_as_stored, read_image, write_file

CELL = (192, 192)
"""Aspect and least side of a picture on the page."""


def write_set_report(
    out: Path, plan: Plan, statistics: Statistics, secrets: Mapping[str, str]
) -> None:
    """Write the page, which needs no other file, and then JSON, which says that all is done."""
    page = render(
        "dataset.html.j2",
        title=f"cnctl annotate: {statistics.done} of {statistics.rows} images",
        counts=_counts(statistics),
        left_out=statistics.left_out,
        not_met=statistics.not_met,
        captions=statistics.captions,
        plots={name: _plot(name, h) for name, h in statistics.histograms.items()},
        samples={
            reason or "kept": [*_pictures(out, plan, reason, records, secrets)]
            for reason, records in statistics.samples.items()
        },
        recipe=json.dumps(plan.recipe.as_dict(), indent=1),
    )
    document = json.dumps(statistics.as_dict(), indent=2)
    for name, text in ((PAGE, page), (REPORT, document)):
        write_file(out / name, text.encode("utf-8", "backslashreplace"), overwrite=True)


def _counts(statistics: Statistics) -> dict[str, int]:
    splits = {f"in {split}": count for split, count in statistics.splits.items()}
    subsets = {f"in subset {size}": count for size, count in statistics.subsets.items()}
    left_out = sum(statistics.left_out.values())
    several = statistics.several_frames
    return {
        "inputs": statistics.rows,
        "done": statistics.done,
        **splits,
        **subsets,
        "left out": left_out,
        **({"the first of several frames is read": several} if several else {}),
    }


def _plot(name: str, histogram: Histogram) -> str:
    """The counts as a stepped curve."""
    width = (histogram.most - histogram.least) / len(histogram.counts)
    corners = [
        (histogram.least + width * place, float(count))
        for number, count in enumerate(histogram.counts)
        for place in (number, number + 1)
    ]
    ends = [(histogram.least, 0.0), *corners, (histogram.most, 0.0)]
    return plot({"": ends}, x_name=name)


def _pictures(
    out: Path, plan: Plan, reason: str, records: Sequence[Record], secrets: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield a caption and a picture, "" where there is none, of each of these rows."""
    for record in records:
        picture = ""
        with suppress(CnctlError):  # that it cannot be shown is why it is left out
            cells = (
                _kept(out, plan, record) if reason == KEPT else _source(out, plan, record, secrets)
            )
            sheet = arrange([labelled([(reduced(cell, CELL), name) for name, cell in cells])])
            picture = embedded(encode_image(sheet, ".webp", {}), format="webp")
        yield f"{shown(record['name'])}: {record['error'] or _listed(record['numbers'])}", picture


def _listed(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in numbers.items())


def _kept(out: Path, plan: Plan, record: Record) -> list[tuple[str, np.ndarray]]:
    """The image and its hints as they are stored."""
    shard = record["row"] // plan.recipe.per_shard
    key = record["key"]
    ((_, files),) = read_part(out, plan.recipe.form, record["split"], shard, only=key)
    pictures = {kind: data for kind, data in files.items() if not kind.endswith(("txt", "json"))}
    (image,) = (data for kind, data in pictures.items() if "." not in kind)
    hints = ((kind, data) for kind, data in pictures.items() if "." in kind)
    return [
        ("image", read_image(image)),
        *((kind, visible(read_hint_as_stored(data))) for kind, data in hints),
    ]


def _source(
    out: Path, plan: Plan, record: Record, secrets: Mapping[str, str]
) -> list[tuple[str, np.ndarray]]:
    """The input as it is now."""
    shard = record["row"] // plan.recipe.per_shard
    row = shard_rows(out, plan, shard)[record["row"] - plan.first_row(shard)]
    return [("image", read_image(read_row(row, secrets).data))]
