"""Compiled blocks: the same images, and nothing compiled again when control ends."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from cnctl.errors import MissingError
from cnctl.models.compiling import compile_blocks
from cnctl.models.control import Control
from cnctl.models.families import load_base
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.sampling.denoise import sample


def test_without_a_compiler_it_says_what_is_missing(
    random_base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = load_base(random_base)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="C\\+\\+ compiler"):
        compile_blocks(base.denoiser, base.family)


@pytest.mark.slow
def test_images_are_the_same_and_nothing_is_compiled_again(random_base: Path) -> None:
    hint = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    settings = {"height": 64, "width": 64, "steps": 4}
    base = load_base(random_base)
    network = build_controlnet(base.denoiser)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(1))
    half = [Control(network, hint, end=0.5)]
    expected = sample(base, half, ["a cat"], seeds=[1], **settings)
    torch._dynamo.reset()
    compile_blocks(base.denoiser, base.family)
    compile_blocks(network, base.family)
    made = sample(base, half, ["a cat"], seeds=[1], **settings)
    graphs = counters["stats"]["unique_graphs"]
    assert np.abs(made.astype(int) - expected).max() <= 1
    for controls in (half, [], [Control(network, hint)]):
        sample(base, controls, ["a dog"], seeds=[2], **settings)
    assert counters["stats"]["unique_graphs"] == graphs > 0
