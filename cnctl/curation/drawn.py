"""Random numbers of an image: a function of the seed and its name, not of its place in a list."""

from __future__ import annotations

import hashlib
import os

import numpy as np


def rng_of(seed: int, name: str) -> np.random.Generator:
    """The generator of an image."""
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def share_of(digest: str) -> float:
    """The place of a sha256 in [0, 1), by which content is split."""
    return int(digest[:12], 16) / 16**12
