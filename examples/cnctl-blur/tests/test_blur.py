import numpy as np
from cnctl_blur import blur

from cnctl.testing import check_condition, load_detector


def test_contract():
    assert check_condition(blur) == []


def test_detail_goes_and_colour_stays():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2, 0] = 200  # red stripes, one pixel wide
    hint = load_detector(blur)(image, radius=8)
    assert np.ptp(hint[16:48, 16:48, 0].astype(int)) <= 2
    assert abs(hint[32, 32, 0] - 100.0) <= 2
    assert not hint[..., 1:].any()
