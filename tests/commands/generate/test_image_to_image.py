"""Editing an image: inside its mask only, or all of it by a strength."""

import json
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from cnctl.commands.generate.generated import GeneratedImage
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.errors import CnctlError
from cnctl.images import fit_image, read_hint

CANNY = [ControlSpec(condition="canny")]
STEPS = {"steps": 2}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """No multiple of eight, and larger than the base's 64 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (83, 121, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    mask = np.zeros((83, 121), np.uint8)
    mask[20:60, 30:90] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture(scope="module")
def weights(random_controlnet: ControlNetModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("controls") / "canny"
    random_controlnet.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def edit(random_base: Path, weights: str, photo: Path, tmp_path: Path):
    def run(controls: list[ControlSpec] = CANNY, **arguments: object) -> GeneratedImage:
        shared = {"image": photo, "out": tmp_path / "out", "base": str(random_base), "seed": 0}
        given = shared | {"weights": [weights], "settings": STEPS, "overwrite": True} | arguments
        return next(generate(GenerateRequest(controls, prompt="a", **given)))  # type: ignore[arg-type]

    return run


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


def test_outside_of_the_mask_every_pixel_stays(edit, photo: Path, mask: Path) -> None:
    made = edit(mask=mask)
    before, after = pixels(photo), pixels(made.path)
    inside = pixels(mask) > 0
    assert after.shape == before.shape
    assert np.array_equal(after[~inside], before[~inside])
    assert (after[inside] != before[inside]).mean() > 0.9
    record = json.loads(Image.open(made.path).text["cnctl"])
    assert record["edit"]["image"]["name"] == "photo.png"
    assert len(record["edit"]["mask"]["sha256"]) == 64
    assert record["edit"]["strength"] == 1
    assert "Denoising strength: 1.0" in Image.open(made.path).text["parameters"]


@pytest.mark.slow
def test_less_strength_stays_nearer_to_the_image(edit) -> None:
    cat = Path(__file__).parents[3] / "examples/images/cat.jpg"

    def distance(strength: float) -> float:
        made = edit(image=cat, base="tiny", weights=[], strength=strength, settings={"steps": 4})
        after = pixels(made.path).astype(int)
        return float(np.abs(after - fit_image(pixels(cat), size=after.shape[:2])).mean())

    assert distance(0.1) < distance(0.4) < distance(0.9)


def test_a_drawn_hint_controls_what_the_mask_opens(edit, mask: Path, tmp_path: Path) -> None:
    drawing = np.zeros((83, 121), np.uint8)
    drawing[30:50, 40:80] = 255
    Image.fromarray(drawing).save(tmp_path / "drawing.png")
    spec = [ControlSpec(condition="canny", source=tmp_path / "drawing.png")]
    made = edit(spec, mask=mask, ready_hint=True)
    assert made.hint == tmp_path / "drawing.png"
    assert not np.array_equal(pixels(made.path), pixels(edit(mask=mask).path))


def test_the_mask_is_that_of_a_condition_that_reads_one(edit, mask: Path) -> None:
    made = edit([ControlSpec(condition="inpaint")], mask=mask)
    hint = read_hint(made.hint, channels=4)
    masked = fit_image(pixels(mask), size=hint.shape[:2])
    assert set(np.unique(hint[..., 3])) == {0, 255}
    assert (hint[masked == 255, 3] == 0).all()
    assert (hint[masked == 0, 3] == 255).all()


def test_refuses(edit, mask: Path, tmp_path: Path) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "small.png")
    Image.new("L", (121, 83)).save(tmp_path / "black.png")
    for arguments, message in [
        ({"mask": tmp_path / "small.png"}, r"small.png has 64x64 pixels, the image 121x83"),
        (
            {"mask": tmp_path / "black.png"},
            "black.png is below half everywhere",
        ),
        ({"strength": 0.0}, "--strength is 0.0; it must be more than 0"),
        ({"mask": mask, "image": None}, "--mask is for an image to edit"),
        ({"strength": 0.5, "image": None}, "--strength is for an image to edit"),
    ]:
        with pytest.raises(CnctlError, match=message):
            edit(**arguments)
    assert not (tmp_path / "out").exists()
