"""The images that `cnctl generate` has written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.commands.generate.outputs import PlannedImage
from cnctl.commands.generate.parameters import format_parameters
from cnctl.commands.generate.record import KEY, ImageRecord
from cnctl.images import write_image


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One image on disk, and all that made it."""

    path: Path
    hint: Path
    record: ImageRecord
    """The content of its metadata, even if none were written."""
    variant: Mapping[str, Any] = field(default_factory=dict)
    """The settings of a sweep, the number of the prompt and the seed."""

    def as_dict(self) -> dict[str, Any]:
        """The image as `--json` prints it."""
        return {"path": self.path, "hint": self.hint, **self.record.to_json()}

    def _repr_png_(self) -> bytes:
        """The image itself, where a notebook shows this value."""
        return self.path.read_bytes()


def write_generated(
    planned: PlannedImage,
    image: np.ndarray,
    hint: Path,
    record: ImageRecord,
    *,
    private: bool,
    overwrite: bool,
) -> GeneratedImage:
    """Write an image, uint8 (H, W, 3), with all that made it in its metadata unless private.

    Raises OutputExists where another run has written a file of its name meanwhile.
    """
    document = json.dumps(record.to_json(), ensure_ascii=False, default=str)
    texts = {} if private else {KEY: document, "parameters": format_parameters(record)}
    write_image(planned.path, image, metadata=texts, overwrite=overwrite)
    return generated(planned, hint, record)


def generated(planned: PlannedImage, hint: Path, record: ImageRecord) -> GeneratedImage:
    """An image that is on disk."""
    variant = {**planned.task.variant, "seed": planned.seed}
    return GeneratedImage(path=planned.path, hint=hint, record=record, variant=variant)
