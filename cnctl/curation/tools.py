"""What a process that makes shards has in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnctl.curation.recipe import Recipe
from cnctl.hints.run import LoadedDetector
from cnctl.plugin import Condition

if TYPE_CHECKING:
    from cnctl.hints.captioner import Caption

NO_ROWS = (-1, -1)


@dataclass(frozen=True, kw_only=True)
class Tools:
    """conditions, detectors: by name; there are no detectors where hints are ground truth.

    caption: of images without one. secrets: as of `read_row`.
    at: is called with the first and the last of the rows in work, NO_ROWS for none.
    """

    recipe: Recipe
    conditions: Mapping[str, Condition]
    detectors: Mapping[str, LoadedDetector]
    caption: Caption | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    at: Callable[[int, int], None] = lambda first, last: None
