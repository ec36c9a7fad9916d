"""The hints of several images, together as far as their detectors take several."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath

import numpy as np

from cnctl.curation.assembling import Loaded
from cnctl.curation.recipe import HintRecipe
from cnctl.curation.tools import Tools
from cnctl.errors import CnctlError
from cnctl.hints.ground_truth import map_of, read_stated
from cnctl.hints.ready import Size
from cnctl.hints.run import LoadedDetector
from cnctl.plugin import Detection

Result = Detection | CnctlError | None
"""What was found, why the detector failed, or None where nothing was found."""


def detect(loaded: Sequence[Loaded], tools: Tools) -> dict[int, dict[str, Result]]:
    """The results by row and condition; raises what would fail every image."""
    found: dict[int, dict[str, Result]] = {one.number: {} for one in loaded}
    for hint in tools.recipe.hints:
        if tools.recipe.ground_truth is not None:
            for one in loaded:
                found[one.number][hint.condition] = _stated(one, hint, tools)
            continue
        detector = tools.detectors[hint.condition]
        for number, result in _of_condition(loaded, hint, detector).items():
            found[number][hint.condition] = result
    return found


def _of_condition(
    loaded: Sequence[Loaded], hint: HintRecipe, detector: LoadedDetector
) -> dict[int, Result]:
    alike: dict[tuple[Size, str], list[Loaded]] = defaultdict(list)
    found: dict[int, Result] = {}
    if detector.takes_many:
        for one in loaded:
            options = json.dumps(dict(one.options[hint.condition]), sort_keys=True)
            alike[_image(one, hint).shape[:2], options].append(one)
    for group in alike.values():
        if len(group) > 1:
            with suppress(CnctlError):  # then each is detected alone, and errors are reported
                found |= _together(group, hint, detector)
    return {
        one.number: found[one.number] if one.number in found else _alone(one, hint, detector)
        for one in loaded
    }


def _together(
    group: Sequence[Loaded], hint: HintRecipe, detector: LoadedDetector
) -> dict[int, Result]:
    images = [_image(one, hint) for one in group]
    found = detector.batch(images, **group[0].options[hint.condition])
    return {one.number: result for one, result in zip(group, found, strict=True)}


def _alone(one: Loaded, hint: HintRecipe, detector: LoadedDetector) -> Result:
    try:
        return detector(_image(one, hint), **one.options[hint.condition])
    except CnctlError as error:
        if error.exit_code != CnctlError.exit_code and not _works(detector, hint):
            raise
        return error


def _works(detector: LoadedDetector, hint: HintRecipe) -> bool:
    """Whether a blank image passes: then memory, or whatever failed, is short for one image."""
    blank = np.zeros((hint.resolution, hint.resolution, 3), np.uint8)
    try:
        detector(blank, **hint.options)
    except CnctlError:
        return False
    return True


def _stated(one: Loaded, hint: HintRecipe, tools: Tools) -> Result:
    condition = tools.conditions[hint.condition]
    try:
        path = map_of(condition, Path(f"{tools.recipe.ground_truth}"), PurePath(one.row.name))
        sizes = one.size, _image(one, hint).shape[:2]
        return read_stated(condition, path, sizes=sizes, options=one.options[hint.condition])
    except CnctlError as error:
        return error


def _image(one: Loaded, hint: HintRecipe) -> np.ndarray:
    return one.images[hint.resolution]
