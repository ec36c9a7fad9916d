"""What a process that makes shards has in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cnctl.curation.recipe import Recipe
from cnctl.hints.run import LoadedDetector

NO_ROWS = (-1, -1)


@dataclass(frozen=True, kw_only=True)
class Tools:
    """detectors: by condition. secrets: URLs with credentials, see `read_row`.

    at: is called with the first and the last of the rows in work, NO_ROWS for none.
    """

    recipe: Recipe
    detectors: Mapping[str, LoadedDetector]
    secrets: Mapping[str, str] = field(default_factory=dict)
    at: Callable[[int, int], None] = lambda first, last: None
