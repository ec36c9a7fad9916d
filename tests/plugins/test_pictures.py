import numpy as np
import pytest
from cnctl_conditions.pictures import blur_gaussian, ip2p, shuffle, tile

from cnctl.commands.conditions.check import check_condition
from cnctl.hints.run import load_detector


@pytest.mark.parametrize("condition", [shuffle, tile, blur_gaussian, ip2p], ids=lambda c: c.name)
def test_the_contract_is_kept(condition):
    assert check_condition(condition) == []


@pytest.fixture
def place():
    """A picture in which each pixel says where it is: row in red, column in green."""
    y, x = np.mgrid[:96, :128]
    return np.stack([y, x, np.full_like(x, 77)], axis=2).astype(np.uint8)


def test_shuffle_moves_pixels_along_a_smooth_flow(place):
    hint = load_detector(shuffle)(place, seed=1, scale=64)
    assert (hint[..., 2] == 77).all()  # every colour comes from the picture
    moved = np.hypot(*np.moveaxis(hint[..., :2].astype(float) - place[..., :2], 2, 0))
    assert moved.mean() > 10
    steps = np.abs(np.diff(hint[..., :2].astype(int), axis=1)).max()
    assert steps < 16
    assert hint[..., 0].min() <= 1  # the flow reaches every side
    assert hint[..., 0].max() >= 94
    assert hint[..., 1].max() >= 126


def test_shuffle_is_a_function_of_its_seed_alone(place):
    detect = load_detector(shuffle)
    np.random.seed(0)
    first = detect(place, seed=5)
    np.random.seed(1)
    assert (detect(place, seed=5) == first).all()
    assert (detect(place, seed=6) != first).any()
    drawn = {shuffle.training_options(np.random.default_rng(i))["seed"] for i in range(50)}
    assert len(drawn) == 50


def test_shuffle_is_measured_by_colours_wherever_they_are(place):
    """Of two flat pictures whose colours differ by d: the mean of |d . n| over 13 vectors n."""
    score = shuffle.metric.score
    assert score(place, place[::-1, ::-1]) == 0
    black, red = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), (255, 0, 0), np.uint8)
    assert score(black, red) == pytest.approx((1 + 4 / 2**0.5 + 4 / 3**0.5) / 13)
    half = black.copy()
    half[:2] = red[:2]
    assert score(black, half) == pytest.approx(score(black, red) / 2)


def test_training_draws_any_lack_of_detail():
    """Half of all factors are below the geometric mean of the least and the greatest."""
    rng = np.random.default_rng(0)
    factors = [tile.training_options(rng)["factor"] for _ in range(2000)]
    sigmas = [blur_gaussian.training_options(rng)["sigma"] for _ in range(2000)]
    for drawn, least, most in ((factors, 1, 8), (sigmas, 1, 9)):
        assert least <= min(drawn) < 1.1 * least
        assert 0.95 * most < max(drawn) <= most
        assert np.median(drawn) == pytest.approx((least * most) ** 0.5, rel=0.1)


def test_tile_takes_the_mean_of_each_block_and_keeps_the_whole():
    image = np.zeros((16, 16, 3), np.uint8)
    image[::2] = 200
    detect = load_detector(tile)
    assert (detect(image, factor=8.0) == 100).all()
    assert (detect(image, factor=1.0) == image).all()
    assert (detect(image) == image).all()


def test_blur_spreads_a_point_by_its_sigma():
    """A Gaussian of sigma 3: exp(-d^2 / 18) of its height at distance d."""
    image = np.zeros((61, 61, 3), np.uint8)
    image[25:36, 25:36] = 255
    hint = load_detector(blur_gaussian)(image, sigma=3.0).astype(float)
    x = np.arange(61)
    kernel = np.exp(-((x[:, None] - x[None]) ** 2) / 18)
    across = (kernel / kernel.sum(axis=1, keepdims=True)) @ (image[30, :, 0] / 255)
    expected = 255 * np.outer(across, across)
    assert np.abs(hint[..., 0] - expected).max() < 4, "but for the tails beyond 3 sigma"


def test_ip2p_is_the_picture_itself(place):
    assert (load_detector(ip2p)(place) == place).all()
