"""The embedded transformer: its parts are where its index says, and its ControlNets obey."""

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel

from cnctl.commands.shared.weights import open_control
from cnctl.hints.captioner import load_captioner, load_own_captioner
from cnctl.hints.metrics import score
from cnctl.hints.run import load_detector
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.locate import EMBEDDED
from cnctl.models.network import hint_tensor
from cnctl.models.sd3.published import CONTROLNETS
from cnctl.registry import get_condition
from cnctl.sampling.denoise import Control, sample
from cnctl.tiny.scenes import HELD_OUT, render_scene


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny-flow")


def test_each_is_listed_and_each_that_is_listed_is_there() -> None:
    listed = {known.source for each in CONTROLNETS["tiny-flow"].values() for known in each}
    found = (EMBEDDED["tiny-flow"] / "controls").iterdir()
    assert listed == {f"tiny-flow/{path.name}" for path in found}


def test_it_is_a_small_stable_diffusion_3_over_tinys_latents(base: Base) -> None:
    assert isinstance(base.denoiser, SD3Transformer2DModel)
    assert (base.family.name, base.family.part) == ("tiny-flow", "transformer")
    tinys = load_base("tiny").vae.state_dict()
    assert base.vae.state_dict().keys() == tinys.keys()
    assert all(torch.equal(base.vae.state_dict()[name], tinys[name]) for name in tinys)
    first, second = (encoder.model.state_dict() for encoder in base.text_encoders)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_has_tinys_captioner(base: Base) -> None:
    caption = load_own_captioner(base.path, base.defaults, device="cpu")
    scene = render_scene(HELD_OUT)
    assert caption([scene.image]) == load_captioner("tiny", device="cpu")([scene.image])


def test_canny_obeys_its_own_hints_and_not_others(base: Base) -> None:
    canny = get_condition("canny")
    detect = load_detector(canny)
    scenes = [render_scene(HELD_OUT + number) for number in range(4)]
    hints = [detect(scene.image) for scene in scenes]
    outputs = sample(
        base,
        [Control(open_control(canny, base), hint_tensor(hints, channels=3))],
        [scene.prompt for scene in scenes],
        seeds=range(4),
        height=128,
        width=128,
        steps=10,
        guidance_scale=3.0,
        scheduler=base.defaults["scheduler"],
    )
    found = [detect(output) for output in outputs]

    def f1(wanted: list) -> float:
        return float(np.mean([score("edge_f1", *pair) for pair in zip(wanted, found, strict=True)]))

    assert f1(hints) > 0.65
    assert f1(hints) > f1(hints[1:] + hints[:1]) + 0.3
