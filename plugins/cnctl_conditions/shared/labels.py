"""Maps of labels, and the colours that stand for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cnctl.plugin import Detection

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import RGB, Hint


def segments(labels: np.ndarray, palette: Mapping[str, RGB]) -> Detection:
    """The hint of these labels (H, W), and each label's share of it."""
    return Detection(hint=colour(labels, palette), data={"shares": shares(labels, palette)})


def colour(labels: np.ndarray, palette: Mapping[str, RGB]) -> Hint:
    """Labels (H, W), 0 for the palette's first -> uint8 (H, W, 3) in its colours."""
    import numpy as np

    return np.array(list(palette.values()), np.uint8)[labels]


def shares(labels: np.ndarray, palette: Mapping[str, RGB]) -> dict[str, float]:
    """Label -> its share of the pixels, largest first."""
    import numpy as np

    counts = np.bincount(labels.ravel(), minlength=len(palette))
    names = list(palette)
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    return {names[i]: round(float(counts[i] / labels.size), 4) for i in order}
