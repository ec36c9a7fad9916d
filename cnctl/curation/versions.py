"""The versions of the packages that decide pixels and bytes."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

import cv2
import numpy as np
import PIL

from cnctl.plugin import Condition
from cnctl.version import __version__

OF_NETWORKS = ("torch", "torchvision", "transformers", "controlnet-aux")


def installed(conditions: Iterable[Condition], *, captions: bool = False) -> dict[str, str]:
    """Versions by package; those of networks where a condition has weights,
    or images are captioned.
    """
    found = {
        "cnctl": __version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }
    if captions or any(condition.files for condition in conditions):
        found |= {name: version(name) for name in OF_NETWORKS}
    return found
