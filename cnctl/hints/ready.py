"""Hints that are not detected: read from a file, stated by a data set, or drawn from data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.errors import CnctlError, shown
from cnctl.hints.contract import blame, check_detection, check_hint
from cnctl.hints.options import check_options
from cnctl.images import read_hint, read_values
from cnctl.plugin import Condition, Detection, OptionValue

Size = tuple[int, int]
"""Height and width."""


def read_ready(condition: Condition, source: Path | bytes) -> np.ndarray:
    """The hint in a file, (H, W, stored_channels): a picture, or .npz; the condition's ground
    truth; or drawn from JSON, as a pose editor writes it. bytes: of a picture or an .npz.
    """
    name = source.name if isinstance(source, Path) else _picture_name(source)
    if condition.ground_truth and name.endswith(condition.ground_truth.ending):
        found = _from_ground_truth(condition, source, check_options(condition, {}), sizes=None)
        if found is not None:
            return found.hint
    if isinstance(source, Path) and source.suffix.lower() == ".json":
        return draw_hint(condition, _read_json(source))
    return read_hint(source, channels=condition.stored_channels)


def read_ground_truth(
    condition: Condition,
    path: Path,
    *,
    sizes: tuple[Size, Size],
    options: Mapping[str, OptionValue],
) -> Detection:
    """The hint that a data set's file states, with its data, at the file's own size.

    sizes: (height, width) of the image on disk, and of the hint that is wanted.
    """
    found = _from_ground_truth(condition, path, check_options(condition, options), sizes=sizes)
    if found is None:
        raise CnctlError(f"{shown(path)} is not ground truth of {condition.name}")
    return found


def draw_hint(condition: Condition, data: Mapping[str, Any]) -> np.ndarray:
    """The hint that these data describe, uint8 (H, W, stored_channels)."""
    if condition.draw is None:
        raise CnctlError(f"{condition.name} cannot draw a hint from data", hint="give it an image")
    whose = "check the file; `cnctl annotate --json` shows what such data look like"
    with blame(condition, "could not draw these data", hint=whose):
        hint = condition.draw(data)
    return check_hint(condition, hint, size=np.shape(hint)[:2])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CnctlError(
            f"{shown(path)} cannot be read as JSON: {error}", hint="check the file"
        ) from error


def _picture_name(data: bytes) -> str:
    return "hint.npz" if data[:2] == b"PK" else "hint.png"


def _from_ground_truth(
    condition: Condition,
    source: Path | bytes,
    options: Mapping[str, OptionValue],
    *,
    sizes: tuple[Size, Size] | None,
) -> Detection | None:
    assert condition.ground_truth is not None
    if isinstance(source, Path) and source.suffix.lower() == ".json":
        values = _read_json(source)
    else:
        values, colours = read_values(source)
        if colours is not None and _is_painted(condition, np.unique(values), colours):
            return None
    title = "a shard's hint" if isinstance(source, bytes) else shown(source)
    with blame(condition, f"could not read {title}"):
        found = condition.ground_truth.read(values, sizes=sizes, **options)
    if found is None:
        return None
    hint = found.hint if isinstance(found, Detection) else found
    return check_detection(condition, found, size=np.shape(hint)[:2])


def _is_painted(condition: Condition, indices: np.ndarray, colours: np.ndarray) -> bool:
    """Whether an image with a palette shows the condition's colours, as a hint that a tool has
    compressed; otherwise its indices are the values.

    A map of labels may use these colours too: each label has the colour of its number.
    """
    own = [tuple(rgb) for rgb in condition.palette.values()]
    seen = {int(index): tuple(colours[index].tolist()) for index in indices}
    in_order = all(own[index] == rgb for index, rgb in seen.items() if index < len(own))
    return not in_order and set(seen.values()) <= set(own)
