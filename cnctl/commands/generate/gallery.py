"""Sheets of generated images side by side, and a page of all of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from cnctl.commands.generate.generated import GeneratedImage
from cnctl.commands.generate.record import FORMAT, KEY
from cnctl.commands.shared.report.pages import render
from cnctl.commands.shared.report.sheets import arrange, labelled, visible
from cnctl.errors import OutputExists
from cnctl.images import (
    SUFFIXES,
    encode_image,
    fit_image,
    read_hint_as_stored,
    read_image,
    read_metadata,
    write_file,
    write_same,
)

LONGEST_PROMPT = 30
"""Letters; a caption gives only the number of a longer prompt."""


def write_grids(made: Sequence[GeneratedImage], *, overwrite: bool = False) -> list[Path]:
    """Write a sheet for each input, X-grid.png beside X-hint.png: the hint, then its images.

    From column to column the setting of a sweep changes, or else the seed, or else the prompt;
    everything else changes from row to row. Where X-grid.png is another one and `overwrite` is
    false, the sheet becomes X-grid-1a2b3c4d.png by its content. It has the records of its images.
    """
    return [
        _write_grid(
            _beside(images[0], hint),
            encode_image(_grid(hint, images), ".png", _records(images)),
            overwrite=overwrite,
        )
        for hint, images in _by_hint(made)
    ]


def write_gallery(made: Sequence[GeneratedImage], path: Path, *, overwrite: bool = False) -> None:
    """Write a page that shows the files of each input's hint and images, with captions.

    Raises OutputExists where there is a file already and `overwrite` is false.
    """
    inputs = []
    for hint, images in _by_hint(made):
        shown = [("hint", _url_of_hint(hint, path.parent))]
        shown += [(_words(image), _url(image.path, path.parent)) for image in images]
        inputs.append(shown)
    page = render("gallery.html.j2", title="cnctl generate", inputs=inputs)
    write_file(path, page.encode("utf-8", "backslashreplace"), overwrite=overwrite)


def _url_of_hint(hint: Path, folder: Path) -> str:
    """The address of its file, or the picture itself where browsers cannot show that file."""
    if hint.suffix in SUFFIXES:
        return _url(hint, folder)
    content = encode_image(visible(read_hint_as_stored(hint)), ".png", {})
    return f"data:image/png;base64,{b64encode(content).decode()}"


def _url(file: Path, folder: Path) -> str:
    """The address of a file in a page of this folder, whatever bytes its name has."""
    relative = os.path.relpath(file, folder).replace(os.sep, "/")
    return quote(os.fsencode(relative))


def _write_grid(path: Path, content: bytes, *, overwrite: bool) -> Path:
    """Write a sheet; returns its path."""
    try:
        write_same(path, content, overwrite=overwrite)
    except OutputExists:
        mark = hashlib.sha256(content).hexdigest()[:8]
        path = path.with_name(f"{path.stem}-{mark}{path.suffix}")
        write_same(path, content)
    return path


def _records(images: Sequence[GeneratedImage]) -> dict[str, str]:
    """What the images say of how they were made, as one text."""
    texts = [read_metadata(image.path).get(KEY) for image in images]
    records = [json.loads(text) for text in texts if text]
    document = {"format": FORMAT, "images": records}
    return {KEY: json.dumps(document, ensure_ascii=False)} if records else {}


def _by_hint(made: Sequence[GeneratedImage]) -> list[tuple[Path, list[GeneratedImage]]]:
    ordered = sorted(made, key=lambda image: str(image.hint))  # keeps the order among equals
    groups = itertools.groupby(ordered, key=lambda image: image.hint)
    return [(hint, list(images)) for hint, images in groups]


def _beside(image: GeneratedImage, hint: Path) -> Path:
    return image.path.parent / f"{hint.stem.removesuffix('-hint')}-grid.png"


def _grid(hint: Path, images: Sequence[GeneratedImage]) -> np.ndarray:
    """RGB uint8 (H, W, 3)."""
    across = _across(images)
    columns = {image.variant[across]: _label(across, image) for image in images}
    rows: dict[tuple[Any, ...], dict[Any, GeneratedImage]] = {}
    for image in images:
        others = tuple((n, v) for n, v in image.variant.items() if n != across)
        rows.setdefault(others, {})[image.variant[across]] = image
    size = read_image(images[0].path).shape[:2]
    blank = np.full((*size, 3), 255, np.uint8)
    shown = fit_image(visible(read_hint_as_stored(hint)), size=size)
    cells = []
    for others, row in rows.items():
        varied = [n for n, v in others if len({dict(row).get(n) for row in rows}) > 1]
        first = next(iter(row.values()))
        cells.append((shown, ", ".join(_label(n, first) for n in varied) or "hint"))
        for column, label in columns.items():
            found = row.get(column)
            picture = fit_image(read_image(found.path), size=size) if found else blank
            cells.append((picture, label))
    named, width = labelled(cells), len(columns) + 1
    return arrange([named[i : i + width] for i in range(0, len(named), width)])


def _across(images: Sequence[GeneratedImage]) -> str:
    """The name of what changes from column to column."""
    swept = [name for name in images[0].variant if name not in ("prompt", "seed")]
    names = [*reversed(swept), "seed", "prompt"]
    return next((n for n in names if len({i.variant.get(n) for i in images}) > 1), "seed")


def _label(name: str, image: GeneratedImage) -> str:
    """The caption of a cell: the value of `name`, or the text of a short prompt."""
    prompt = image.record.prompt
    if name == "prompt" and 0 < len(prompt) <= LONGEST_PROMPT:
        return prompt
    return f"{name} {image.variant[name]}"


def _words(image: GeneratedImage) -> str:
    about = {"prompt": image.record.prompt, "seed": image.record.seed, **image.variant}
    return ", ".join(f"{name} {value}" for name, value in about.items())
