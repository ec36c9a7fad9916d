"""Less memory changes where networks are, and no image that is decoded whole."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel

from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.families import load_base, read_denoiser
from cnctl.models.offload import on_device
from cnctl.models.prompts import PLAIN, encode_prompts, precompute_prompts
from cnctl.sampling.denoise import sample


class Network:
    """Remembers where it was sent."""

    def __init__(self) -> None:
        self.places: list[str] = []

    def to(self, device: torch.device) -> None:
        self.places.append(str(device))


@pytest.fixture(scope="module")
def low(random_base: Path) -> Base:
    return load_base(random_base, low_memory=True)


def test_networks_are_on_the_device_while_they_work(loaded_random_base: Base) -> None:
    there = torch.device("cuda")
    low = dataclasses.replace(loaded_random_base, device=there, low_memory=True)
    first, second = Network(), Network()
    with on_device(low, first, second):
        assert first.places == second.places == ["cuda"]
    with pytest.raises(ValueError, match="stop"), on_device(low, first):
        raise ValueError("stop")
    assert first.places == ["cuda", "cpu"] * 2
    with on_device(dataclasses.replace(low, low_memory=False), first):
        assert len(first.places) == 4, "else they stay where they are"


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["random_base", "random_sd3_base"])
def test_the_denoiser_is_read_when_text_encoders_are_released(
    folder: str, request: pytest.FixtureRequest
) -> None:
    """Then the host holds the larger of the two, and not both."""
    path = request.getfixturevalue(folder)
    base = load_base(path, low_memory=True, denoiser=False)
    first, *encoders = base.parts.values()
    assert all(weight.is_meta for weight in first.parameters())
    assert not any(weight.is_meta for one in encoders for weight in one.parameters())
    whole = read_denoiser(precompute_prompts(base, [("a cat", 1, PLAIN)]))
    assert [*whole.parts] == [base.family.part]
    expected = load_base(path).denoiser.state_dict()
    for name, weight in whole.denoiser.state_dict().items():
        assert torch.equal(weight, expected[name])


def test_an_image_of_the_usual_size_is_the_same(
    loaded_random_base: Base, low: Base, random_controlnet: ControlNetModel
) -> None:
    hint = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def image(base: Base) -> np.ndarray:
        controls = [Control(random_controlnet, hint)]
        settings: dict[str, Any] = {"height": 64, "width": 64, "steps": 2}
        return sample(base, controls, ["a cat"], seeds=[0], **settings)

    whole = image(loaded_random_base)
    assert np.array_equal(image(low), whole)
    read = precompute_prompts(low, [("a cat", 1, PLAIN), ("", 1, PLAIN)])
    assert read.text_encoders[0].model is None
    assert np.array_equal(image(read), whole)


def test_a_larger_one_is_decoded_in_tiles_that_overlap(loaded_random_base: Base, low: Base) -> None:
    """The autoencoder was made for 64 pixels, so its first tile is an image of that size."""
    latents = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = loaded_random_base.vae.decode(latents).sample
        tiled = low.vae.decode(latents).sample
        first = loaded_random_base.vae.decode(latents[..., :8]).sample
    assert tiled.shape == whole.shape
    assert not torch.equal(tiled, whole)
    torch.testing.assert_close(tiled[..., :48, :48], first[..., :48, :48])


def test_prompts_precompute_prompts_are_what_was_read(loaded_random_base: Base) -> None:
    keys = [("a", 1, PLAIN), ("a", 2, PLAIN), ("b " * 100, 3, PLAIN)]
    read = precompute_prompts(loaded_random_base, keys)
    for prompt, chunks, _ in keys:
        expected = encode_prompts(loaded_random_base, [prompt], chunks=chunks)
        found = encode_prompts(read, [prompt], chunks=chunks)
        assert torch.equal(found.tokens, expected.tokens)
