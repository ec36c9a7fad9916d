"""Mirror the maps of a rendered image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

RIGHT_TO_LEFT = np.array([-1, 1, 1], np.float32)
OTHER_SIDE = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
"""OpenPose keypoint -> the one on the other side of the body."""


def mirror_maps(maps: Mapping[str, Any]) -> dict[str, Any]:
    """Return the maps, as `cnctl.plugin.Condition.from_maps` takes them, of the mirrored image."""
    width = maps["image"].shape[1]
    mirrored = {
        name: value[:, ::-1]
        for name, value in maps.items()
        if name in ("image", "depth", "normals", "labels", "edges")
    }
    mirrored["normals"] = mirrored["normals"] * RIGHT_TO_LEFT
    people = maps["people"][:, OTHER_SIDE].copy()
    people[..., 0] = width - 1 - people[..., 0]
    return {**maps, **mirrored, "people": people}
