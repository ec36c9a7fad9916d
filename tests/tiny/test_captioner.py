"""The captioner says what is in a scene, and closes the circle of the automatic prompt mode."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.captioner import open_captioner
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.tiny import WEIGHTS
from cnctl.tiny.captioner import HEADS, SceneCaptioner, phrase
from cnctl.tiny.captions import vocabulary
from examples.tiny.dataset import held_out_scenes
from examples.tiny.train_captioner import accuracy


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


@pytest.fixture(scope="module")
def captioner() -> SceneCaptioner:
    folder = WEIGHTS / "captioner"
    return SceneCaptioner.from_pretrained(folder, torch_dtype=torch.float32).eval()


def test_tells_held_out_scenes(captioner: SceneCaptioner) -> None:
    """Guessing is right once in 12 to 16 times."""
    shares = accuracy(captioner, 60)
    assert shares.keys() == HEADS.keys()
    assert min(shares.values()) > 0.85


def test_says_it_in_words_that_the_base_knows(captioner: SceneCaptioner) -> None:
    scenes = held_out_scenes(8)
    captions = [captioner.caption(scene.image) for scene in scenes]
    assert {word for caption in captions for word in caption.split()} <= {*vocabulary()}
    named = [s.objects[0].name in c for s, c in zip(scenes, captions, strict=True)]
    assert sum(named) >= 6
    larger = np.kron(scenes[0].image, np.ones((2, 2, 1), np.uint8))
    assert captioner.caption(larger) == captions[0]


def test_phrases() -> None:
    seen = {"thing": "cat", "colour": "orange", "backdrop": "plain", "wall": "blue"}
    assert phrase(seen) == "an orange cat on a blue background"
    assert phrase(seen | {"colour": "red", "backdrop": "sea"}) == "a red cat on the sea"


def test_weights_are_small() -> None:
    files = [*(WEIGHTS / "captioner").iterdir()]
    assert sum(path.stat().st_size for path in files) < 1e6


@pytest.mark.slow
def test_automatic_mode_on_the_embedded_base(base: Base, tmp_path: Path) -> None:
    """A scene's hint brings its thing back, with no word from anyone."""
    from cnctl.images import write_image

    scene = held_out_scenes(1)[0]
    write_image(tmp_path / "scene.png", scene.image)
    request = GenerateRequest(
        [ControlSpec(condition="canny")],
        [tmp_path / "scene.png"],
        prompt_mode="automatic",
        base="tiny",
        out=tmp_path,
        settings={"steps": 6},
    )
    (made,) = generate(request)
    assert scene.objects[0].name in made.record.prompt
    assert open_captioner(None, base)(scene.image)
