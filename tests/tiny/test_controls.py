"""The shipped ControlNets obey their hints: each output fits its own hint better than another's."""

import numpy as np
import pytest

from cnctl.commands.shared.weights import open_control
from cnctl.data.scenes import SceneDataset
from cnctl.hints.metrics import find_metric, score
from cnctl.hints.run import hint_from_maps, load_detector
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.network import hint_tensor
from cnctl.models.unet.published import CONTROLNETS
from cnctl.registry import get_condition
from cnctl.sampling.denoise import Control, sample
from cnctl.tiny import WEIGHTS
from cnctl.tiny.scenes import HELD_OUT, exact_maps, render_scene
from tests.benchmarks.drawings import drawing, scores

SCENES = [render_scene(HELD_OUT + number) for number in (0, 1)]
PICTURES = ("blur-gaussian", "coco-stuff", "inpaint", "ip2p", "normal-bae", "shuffle", "tile")
"""Conditions that nothing else generates with."""


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


def test_each_is_listed_and_each_that_is_listed_is_there() -> None:
    listed = {known.source for each in CONTROLNETS["tiny"].values() for known in each}
    assert listed == {f"tiny/{path.name}" for path in (WEIGHTS / "controls").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_an_output_fits_its_own_hint_best(base: Base, name: str) -> None:
    condition = get_condition(name)
    read = SceneDataset(count=1, size=128).read
    if condition.from_maps is None:
        detect = load_detector(condition)
        hints = [detect(scene.image) for scene in SCENES]
    else:
        detect = lambda image: hint_from_maps(condition, read(image))  # noqa: E731
        hints = [hint_from_maps(condition, exact_maps(scene)) for scene in SCENES]
    control = Control(
        open_control(condition, base), hint_tensor(hints, channels=condition.hint_channels)
    )
    prompts = [scene.prompt for scene in SCENES]
    outputs = sample(
        base, [control], prompts, seeds=(0, 1), height=128, width=128, steps=4, guidance_scale=1.5
    )

    def fit(wanted: list) -> float:
        pairs = zip(wanted, outputs, strict=True)
        return float(np.mean([score(condition.metric, h, detect(o)) for h, o in pairs]))

    own, other = fit(hints), fit(hints[::-1])
    assert (own > other) == find_metric(condition.metric).higher_is_better


@pytest.mark.slow
@pytest.mark.parametrize("style", ["ink", "poster", "pencil"])
def test_canny_obeys_drawings_by_another_hand(base: Base, style: str) -> None:
    drawings = [drawing(style, number) for number in range(8)]
    canny = get_condition("canny")
    found = scores(base, canny, open_control(canny, base), drawings, drawings)
    assert found["own"] > 0.65
    assert found["own"] > found["wrong"] + 0.3
