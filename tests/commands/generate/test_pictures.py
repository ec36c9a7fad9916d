"""An input image is decoded once, however often it is needed."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from cnctl.commands.generate.pictures import Pictures
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.images import opening, read, read_image, write_image
from cnctl.registry import get_condition

PHOTO = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image file has been decoded, by its name."""
    counts: Counter[str] = Counter()

    load = opening.load

    def count(image: Image.Image, name: str, max_pixels: int) -> None:
        counts[Path(name).name] += 1
        load(image, name, max_pixels)

    for module in (opening, read):
        monkeypatch.setattr(module, "load", count)
    return counts


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"images": ["a.png", "b.png"], "sweep": {"resize": ["crop", "fill"]}}, {"a": 1, "b": 1}),
        ({"controls": ["canny", "canny:b.png"], "images": ["a.png"]}, {"a": 1, "b": 1}),
        ({"controls": ["canny:hint=b.png", "canny"], "images": ["a.png"]}, {"a": 1, "b": 1}),
        ({"image": "a.png", "mask": "mask.png"}, {"a": 1, "mask": 1}),
    ],
)
def test_before_its_first_step(
    random_base: Path,
    random_controlnet: ControlNetModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decoded: Counter[str],
    changes: dict[str, Any],
    expected: dict[str, int],
) -> None:
    monkeypatch.chdir(tmp_path)
    random_controlnet.save_pretrained("control")
    write_image(Path("a.png"), PHOTO)
    write_image(Path("b.png"), PHOTO[::-1])
    write_image(Path("mask.png"), np.full((64, 64, 3), 255, np.uint8))
    asked: dict[str, Any] = {"controls": ["canny"], "prompt": "a", "settings": {"steps": 1}}
    asked |= changes
    weights = ["control"] * len(asked["controls"])
    request = GenerateRequest(**asked, base=str(random_base), weights=weights, seed=0)
    list(generate(request))
    inputs = {Path(name).stem: count for name, count in decoded.items() if "hint" not in name}
    assert inputs == expected


def test_large_ones_are_not_kept(tmp_path: Path, decoded: Counter[str]) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, PHOTO)
    pictures = Pictures(limit=PHOTO.nbytes)
    for _ in range(2):
        for name in ("a.png", "b.png"):
            assert np.array_equal(pictures.photograph(tmp_path / name), PHOTO)
    assert decoded == {"a.png": 1, "b.png": 2}


@pytest.mark.parametrize("limit", [0, 10**6])
def test_a_change_to_what_is_read_does_not_reach_the_next_reader(
    tmp_path: Path, limit: int
) -> None:
    write_image(tmp_path / "a.png", PHOTO)
    pictures = Pictures(limit=limit)
    pictures.photograph(tmp_path / "a.png")[:] = 0
    pictures.hint(get_condition("canny"), tmp_path / "a.png")[:] = 0
    assert np.array_equal(pictures.photograph(tmp_path / "a.png"), read_image(tmp_path / "a.png"))
