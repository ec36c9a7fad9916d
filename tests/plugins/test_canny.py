import numpy as np
import pytest
from cnctl_conditions.canny import canny
from scipy.ndimage import binary_dilation, label

from cnctl.commands.conditions.check import check_condition, check_plugin
from cnctl.commands.shared.known_controls import known_weights
from cnctl.hints.run import load_detector


@pytest.fixture(scope="module")
def detect():
    return load_detector(canny)


def box():
    image = np.full((64, 96, 3), 30, np.uint8)
    image[16:48, 24:72] = (220, 60, 40)
    return image


def test_the_contract_is_kept():
    assert check_plugin("canny") == check_condition(canny) == []


def test_the_edges_of_a_box_are_its_outline(detect):
    edges = detect(box())[..., 0] == 255
    inside = np.zeros((64, 96), bool)
    inside[16:48, 24:72] = True
    outline = binary_dilation(inside) & ~inside
    near_outline = binary_dilation(outline, np.ones((5, 5)))
    assert edges.any()
    assert not (edges & ~near_outline).any()
    assert not (outline & ~binary_dilation(edges, np.ones((5, 5)))).any()
    background, regions = label(~edges)
    assert regions == 2  # the outline is closed: one region inside, one outside
    assert background[32, 48] != background[0, 0]


def test_hints_are_white_on_black(detect):
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    hint = detect(noise)
    assert set(np.unique(hint)) == {0, 255}
    assert (hint == hint[..., :1]).all()


def test_colour_alone_makes_an_edge(detect):
    """Two halves of one grey value: red against green. A detector on grey would see nothing."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :16] = (200, 0, 0)
    image[:, 16:] = (0, 102, 0)
    assert detect(image)[:, 14:18].any()


def test_higher_thresholds_keep_fewer_edges(detect):
    ramp = np.cumsum(np.random.default_rng(0).integers(-6, 7, (48, 48, 3)), axis=1)
    image = np.clip(ramp + 128, 0, 255).astype(np.uint8)
    counts = [
        np.count_nonzero(detect(image, low_threshold=t, high_threshold=t)) for t in (20, 60, 120)
    ]
    assert counts[0] > counts[1] > counts[2]
    assert not detect(np.full((8, 8, 3), 77, np.uint8)).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5)])
def test_smallest_images(detect, size):
    assert detect(np.zeros((*size, 3), np.uint8)).shape == (*size, 3)


def test_training_draws_thresholds_from_the_whole_range():
    rng = np.random.default_rng(0)
    drawn = [canny.training_options(rng) for _ in range(2000)]
    low = np.array([options["low_threshold"] for options in drawn])
    high = np.array([options["high_threshold"] for options in drawn])
    assert (low <= high).all()
    assert low.min() <= 3
    assert high.max() >= 253
    assert abs(np.concatenate([low, high]).mean() - 128) < 5


def test_the_recipe_is_the_papers():
    """Section 3.3 and 3.5: base SD 1.5, 3M pairs, learning rate 1e-5, half of the prompts empty."""
    assert canny.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert "3M" in canny.train.recipe
    assert canny.train.learning_rate == 1e-5
    assert canny.train.prompt_dropout == 0.5
    assert canny.train.start_from == ""
    assert {weights.family for weights in known_weights(canny)} >= {
        "SD 1.x",
        "SD 2.x",
        "SD3 medium",
        "SD3.5 large",
        "SD3.5 medium",
        "SDXL",
        "tiny",
    }
