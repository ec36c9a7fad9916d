"""A picture that tells its corners and channels apart."""

import numpy as np
import pytest


@pytest.fixture
def picture() -> np.ndarray:
    """RGB uint8 (24, 40, 3): smooth, unlike in every corner and channel."""
    y, x = np.mgrid[0:24, 0:40]
    return np.stack([y * 10, x * 6, 255 - x * 3 - y * 3], axis=2).astype(np.uint8)
