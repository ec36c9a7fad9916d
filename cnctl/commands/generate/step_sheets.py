"""`--save-steps`: beside each image a sheet of its estimates, which grows step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnctl.commands.shared.report.sheets import in_rows, labelled, reduced
from cnctl.errors import OutputExists
from cnctl.images import write_image


def sheet_path(image: Path) -> Path:
    """X-steps.png beside X.png."""
    return image.with_name(f"{image.stem}-steps.png")


@dataclass(frozen=True)
class StepSheets:
    """The sheets of a batch. images: place in the batch -> path of the image.

    Without `overwrite`, a sheet whose name another run has taken is not written.
    """

    images: Mapping[int, Path]
    overwrite: bool = False
    cells: dict[int, list[np.ndarray]] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    """The places of the images whose sheets are another run's."""

    def check(self, place: int) -> None:
        """Raise OutputExists where the sheet of an image is another run's."""
        if place in self.taken:
            raise OutputExists(f"{sheet_path(self.images[place])} exists")

    def add(self, done: int, pictures: Iterable[np.ndarray]) -> None:
        """Write each sheet again with one more picture, RGB uint8 (H, W, 3)."""
        for place, picture in enumerate(pictures):
            if place in self.images and place not in self.taken:
                shown = reduced(picture, picture.shape[:2])
                (cell,) = labelled([(shown, f"step {done}")])
                self._write(place, cell)

    def remove(self, place: int) -> None:
        """Remove the sheet of an image that is not written after all."""
        if place in self.cells and place not in self.taken:
            sheet_path(self.images[place]).unlink(missing_ok=True)

    def _write(self, place: int, cell: np.ndarray) -> None:
        cells = self.cells.setdefault(place, [])
        is_ours = bool(cells)
        cells.append(cell)
        try:
            path = sheet_path(self.images[place])
            write_image(path, in_rows(cells), overwrite=is_ours or self.overwrite)
        except OutputExists:
            self.taken.add(place)
