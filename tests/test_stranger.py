"""A stranger's plugin, installed by pip, is the equal of a built-in: annotate, train, generate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cnctl.images import read_image

EXAMPLE = Path(__file__).parents[1] / "examples" / "cnctl-blur"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the example."""
    folder = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--target", folder]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *offline, EXAMPLE], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_annotates_trains_and_generates(site: Path, random_base: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)

    def cnctl(*words: object) -> dict:
        run = subprocess.run(
            [sys.executable, "-m", "cnctl", *map(str, words), "--json", "-q"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(site), "CNCTL_BASE": str(random_base)},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    blur = ("--cond", "blur", "--option", "radius=7", "--resolution", 64)
    (hint,) = cnctl("annotate", *blur, photo)["hints"]
    drawn = read_image(tmp_path / hint["path"])
    assert np.array_equal(drawn, cv2.GaussianBlur(noise, (15, 15), 0))

    scenes = ("--data", "scenes:4", "--steps", 2, "--batch-size", 2, "--resolution", 64)
    cnctl("train", "--cond", "blur", *scenes, "-o", "run")
    (image,) = cnctl("generate", *blur, photo, "-p", "a", "--control", "run", "--steps", 2)[
        "images"
    ]
    assert read_image(tmp_path / image["path"]).shape == (64, 96, 3)
    assert image["controls"][0]["options"] == {"radius": 7}
    assert np.array_equal(read_image(tmp_path / image["hint"]), drawn)
