import numpy as np
import pytest

from cnctl.commands.shared.report.sheets import (
    GAP,
    LABEL_HEIGHT,
    arrange,
    compare,
    labelled,
    visible,
)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_hints_of_any_channels_can_be_looked_at(channels: int) -> None:
    hint = np.random.default_rng(0).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    seen = visible(hint)
    assert seen.shape == (4, 5, 3)
    np.testing.assert_array_equal(seen[..., :channels], hint[..., :3])


def test_what_is_masked_is_seen_as_grey() -> None:
    hint = np.full((2, 3, 4), 7, np.uint8)
    hint[..., 3] = [[0, 127, 128], [255, 255, 0]]
    assert visible(hint)[..., 0].tolist() == [[128, 128, 7], [7, 7, 128]]


def test_cells_stand_side_by_side_with_white_between() -> None:
    cells = [
        [np.full((2, 3, 3), 10 * row + column, np.uint8) for column in range(2)] for row in (0, 1)
    ]
    picture = arrange(cells)
    assert picture.shape == (2 * (2 + GAP) + GAP, 2 * (3 + GAP) + GAP, 3)
    assert (picture[GAP : GAP + 2, 2 * GAP + 3 : 2 * GAP + 6] == 1).all()
    assert (picture[:GAP] == 255).all()


def test_a_comparison_has_the_source_first_and_names_below() -> None:
    source = np.full((40, 60, 3), 200, np.uint8)
    hints = {"grey": np.full((40, 60, 1), 10, np.uint8), "red": np.full((40, 60, 3), 20, np.uint8)}
    sheet = compare(source, hints)
    assert sheet.shape == (40 + LABEL_HEIGHT + 2 * GAP, 3 * (60 + GAP) + GAP, 3)
    for column, value in enumerate([200, 10, 20]):
        left = GAP + column * (60 + GAP)
        cell = sheet[GAP : GAP + 40, left : left + 60]
        name = sheet[GAP + 40 : -GAP, left : left + 60]
        assert (cell == value).all()
        assert name.min() < 60, "dark letters"
        assert (name == 255).all(axis=2).mean() > 0.5, "on white"


def test_more_than_four_cells_take_another_row() -> None:
    source = np.zeros((16, 16, 3), np.uint8)
    sheet = compare(source, {str(n): source for n in range(6)})
    assert sheet.shape[:2] == (2 * (16 + LABEL_HEIGHT + GAP) + GAP, 4 * (16 + GAP) + GAP)
    assert (sheet[-16 - LABEL_HEIGHT :, -16 - GAP :] == 255).all()


def test_a_long_label_is_made_to_fit() -> None:
    """Its ends are not cut: a blank column stays at either side."""
    cell = np.zeros((20, 128, 3), np.uint8)
    long, short, alone = labelled(
        [(cell, "control_scale 0.2, steps 20, seed 1"), (cell, "seed 1")]
    ) + labelled([(cell, "seed 1")])
    strip = long[20:]
    assert strip.shape == (LABEL_HEIGHT, 128, 3)
    assert (strip < 128).any()
    assert (strip[:, [0, -1]] > 128).all()
    heights = [np.ptp(np.nonzero((cell[20:] < 128).any((1, 2)))[0]) for cell in (short, alone)]
    assert heights[0] < heights[1]  # the text of one sheet has one size
