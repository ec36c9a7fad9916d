"""One reader for masks, whatever their depth."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnctl.errors import CnctlError
from cnctl.images import read_mask

GREY = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)


def masks() -> dict[str, Image.Image]:
    """The same mask in every form that people save one in."""
    grey = Image.fromarray(GREY)
    white = Image.new("RGB", grey.size, "white")
    white.putalpha(grey)
    palette = grey.copy().convert("P")
    return {
        "8 bits": grey,
        "16 bits": Image.fromarray(GREY.astype(np.uint16) * 257),
        "colour": grey.convert("RGB"),
        "palette": palette,
        "alpha": white,
        "grey with alpha": grey.convert("LA"),
    }


@pytest.mark.parametrize("form", masks())
def test_the_form_does_not_matter(form: str, tmp_path: Path) -> None:
    masks()[form].save(tmp_path / "mask.png")
    found = read_mask(tmp_path / "mask.png")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, GREY / 255, atol=1e-6)


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(GREY > 127).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), GREY > 127)


def test_transparent_is_black(tmp_path: Path) -> None:
    Image.new("LA", (4, 4), (255, 0)).save(tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png").any()


def test_grey_saved_as_a_colour_jpeg(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("RGB").save(tmp_path / "mask.jpg", quality=60)
    assert np.abs(read_mask(tmp_path / "mask.jpg") - GREY / 255).mean() < 0.2


def test_colours_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "mask.png")
    with pytest.raises(CnctlError, match=r"the mask .*mask.png has colours; a mask is grey"):
        read_mask(tmp_path / "mask.png")
