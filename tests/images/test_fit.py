import numpy as np
import pytest

from cnctl.errors import CnctlError
from cnctl.images import (
    fit_hint,
    fit_image,
    working_size,
)

DEEP = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32, 1)


@pytest.mark.parametrize(
    ("height", "width", "resolution", "expected"),
    [
        (512, 512, 512, (512, 512)),
        (300, 400, 512, (512, 680)),
        (400, 300, 512, (680, 512)),
        (513, 771, 512, (512, 768)),
        (1, 1, 64, (64, 64)),
        (1, 100, 8, (8, 800)),
        (30, 30, 3, (8, 8)),
    ],
)
def test_working_size(height, width, resolution, expected):
    assert working_size(height, width, resolution=resolution) == expected


def test_a_sliver_is_refused_in_one_sentence():
    with pytest.raises(CnctlError, match="8000 x 20 image would become 204800 x 512"):
        working_size(20, 8000, resolution=512)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 6)])
@pytest.mark.parametrize("size", [(10, 15), (45, 33), (20, 30)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("nearest", [False, True])
def test_fit_keeps_dtype_and_channels(shape, size, resize, nearest):
    image = np.full(shape, 7, np.uint8)
    fitted = fit_image(image, size=size, resize=resize, nearest=nearest)
    assert fitted.dtype == np.uint8
    assert fitted.shape == (*size, *shape[2:])
    assert set(np.unique(fitted)) <= {0, 7}
    assert (resize == "fill") or (fitted == 7).all()


@pytest.mark.parametrize("size", [(7, 11), (45, 33)])
@pytest.mark.parametrize("nearest", [False, True])
def test_channels_are_fitted_each_alone_however_many(size, nearest):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 10), np.uint8)
    fitted = fit_image(image, size=size, nearest=nearest)
    alone = [fit_image(image[..., i], size=size, nearest=nearest) for i in range(10)]
    np.testing.assert_allclose(fitted, np.stack(alone, axis=2), atol=1)  # cubic ones round apart


def test_shrinking_averages_and_nearest_picks():
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(fit_image(board, size=(4, 4)).astype(int) - 127).max() <= 1
    picked = fit_image(board, size=(16, 16), nearest=True)
    assert np.array_equal(picked, board.repeat(2, axis=0).repeat(2, axis=1))


def test_crop_and_fill_are_centred():
    image = np.zeros((4, 8), np.uint8)
    image[:, 4:] = 200
    cropped = fit_image(image, size=(4, 4), resize="crop")
    assert np.array_equal(cropped, image[:, 2:6])
    filled = fit_image(image, size=(8, 8), resize="fill")
    assert np.array_equal(filled, np.pad(image, ((2, 2), (0, 0))))


def test_fit_never_returns_its_input(picture):
    fitted = fit_image(picture, size=(24, 40))
    fitted[:] = 0
    assert picture.any()


def test_thin_lines_of_a_hint_survive_shrinking():
    """Straight lines of one pixel, at every offset, stay connected and thin."""
    for offset in range(4):
        hint = np.zeros((64, 64, 1), np.uint8)
        hint[:, 20 + offset] = 255
        fitted = fit_hint(hint, size=(16, 16))[:, :, 0]
        assert set(np.unique(fitted)) == {0, 255}
        assert (fitted.sum(axis=1) == 255).all()
    diagonal = np.eye(64, dtype=np.uint8)[:, :, None] * 255
    assert np.array_equal(
        fit_hint(diagonal, size=(16, 16)), np.eye(16, dtype=np.uint8)[:, :, None] * 255
    )


def test_other_hints_are_fitted_like_images(picture):
    smooth = fit_hint(picture, size=(12, 20))
    assert np.array_equal(smooth, fit_image(picture, size=(12, 20)))
    palette = np.random.default_rng(0).choice(np.uint8([7, 90, 200]), (32, 32, 3))
    assert np.isin(fit_hint(palette, size=(20, 24), palette=True), (7, 90, 200)).all()


def test_sixteen_bits_are_fitted_as_such():
    fitted = fit_hint(DEEP, size=(64, 64))
    assert fitted.dtype == np.uint16
    assert np.unique(fitted).size > 1000
    lines = np.where(np.eye(32), 65535, 0).astype(np.uint16)[..., None]
    assert set(np.unique(fit_hint(lines, size=(16, 16)))) == {0, 65535}
