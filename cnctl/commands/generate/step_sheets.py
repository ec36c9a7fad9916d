"""`--save-steps`: beside each image a sheet of its estimates, which grows step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnctl.commands.shared.report.sheets import in_rows, labelled, reduced
from cnctl.images import write_image


def sheet_path(image: Path) -> Path:
    """X-steps.png beside X.png."""
    return image.with_name(f"{image.stem}-steps.png")


@dataclass(frozen=True)
class StepSheets:
    """The sheets of a batch. images: place in the batch -> path of the image."""

    images: Mapping[int, Path]
    cells: dict[int, list[np.ndarray]] = field(default_factory=dict)

    def add(self, done: int, pictures: Iterable[np.ndarray]) -> None:
        """Write each sheet again with one more picture, RGB uint8 (H, W, 3)."""
        for place, picture in enumerate(pictures):
            if place in self.images:
                cell = labelled(reduced(picture, picture.shape[:2]), f"step {done}")
                cells = self.cells.setdefault(place, [])
                cells.append(cell)
                write_image(sheet_path(self.images[place]), in_rows(cells), overwrite=True)
