"""The hint of an image: found by its condition's detector, or stated by the data set."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from cnctl.commands.annotate.inputs import InputImages, title
from cnctl.commands.annotate.plan import Target
from cnctl.commands.annotate.runs import Run
from cnctl.errors import CnctlError
from cnctl.hints.ground_truth import read_stated
from cnctl.hints.ready import Size
from cnctl.hints.run import LoadedDetector
from cnctl.images import fit_image, working_size
from cnctl.plugin import Detection


class HintSource:
    """Gives the hint of each target; `look_ahead` detects those of several images in one call.

    loaded: by the name of the condition. note: is called with a line about what is not read of an
    image, and about hints that are empty.
    """

    def __init__(
        self, loaded: Mapping[str, LoadedDetector], *, note: Callable[[str], None]
    ) -> None:
        self._loaded, self._note = loaded, note
        self.images = InputImages(note)
        self._found: dict[Path, Detection | None] = {}
        """By the path of the hint."""

    def look_ahead(self, targets: Sequence[Target]) -> None:
        """Detect these together, as far as their detectors can and images are of one size.

        A target that fails here is detected alone later, and its error is reported then.
        """
        self._found.clear()
        alike: dict[tuple[str, Size, str], list[tuple[Target, np.ndarray]]] = defaultdict(list)
        for target in targets:
            if target.truth or not self._takes_many(target):
                continue
            with suppress(CnctlError):
                image = at_working_size(self.images.picture(target.image), target.run)
                options = json.dumps(target.record["options"], sort_keys=True)
                alike[_name(target), image.shape[:2], options].append((target, image))
        for (name, _, _), group in alike.items():
            together = [image for _, image in group]
            with suppress(CnctlError):
                found = self._loaded[name].batch(together, **group[0][0].record["options"])
                self._found |= {t.path: f for (t, _), f in zip(group, found, strict=True)}

    def __call__(self, target: Target) -> tuple[np.ndarray, Detection]:
        """The picture at working size, and what is in it; CnctlError where there is nothing."""
        picture = self.images.picture(target.image)
        image = at_working_size(picture, target.run)
        options = target.record["options"]
        if target.truth:
            sizes = picture.shape[:2], image.shape[:2]
            condition = target.run.condition
            return image, read_stated(condition, target.truth, sizes=sizes, options=options)
        if target.path in self._found:
            found = self._found.pop(target.path)
        else:
            found = self._loaded[_name(target)](image, **options)
        if found is None:
            raise CnctlError(f"{_name(target)} found nothing in {title(target.image)}")
        if np.ptp(found.hint) == 0:
            name = title(target.image)
            self._note(f"{name}: the hint of {_name(target)} is empty; try other options")
        return image, found

    def _takes_many(self, target: Target) -> bool:
        return self._loaded[_name(target)].takes_many


def at_working_size(picture: np.ndarray, run: Run) -> np.ndarray:
    """The picture at the size that detectors of this run see."""
    size = working_size(*picture.shape[:2], resolution=run.resolution)
    return fit_image(picture, size=size)


def _name(target: Target) -> str:
    return target.run.condition.name
