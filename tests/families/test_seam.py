"""A family of transformers runs through the loops of sampling as they are, and nobody asks for it.

What all families have in common is in `test_models.py`; here is what U-Nets do otherwise.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.prompts import encode_prompts
from cnctl.models.text_features import join
from cnctl.sampling.denoise import denoise, draw_noise, sample
from cnctl.sampling.image_to_image import Edit, encode_edit

ROOT = Path(__file__).parents[2]
STEPS, SCALE = 4, 3.0


@pytest.fixture(scope="module")
def base(loaded_sd3_base: Base) -> Base:
    return loaded_sd3_base


@pytest.fixture(scope="module")
def network(base: Base) -> Any:
    """Its zero layers are not zero."""
    network = base.family.build_network(base, hint_channels=3, hint_start="zero", seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for block in network.controlnet_blocks:
            block.weight.normal_(std=0.1, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def by_hand(base: Base, network: Any, hint: Tensor, noise: Tensor) -> Tensor:
    """Euler's method on dz/dσ = v, σ shifted by 3, guidance written out."""
    text = join([encode_prompts(base, [prompt]) for prompt in ("", "a cat")])
    # diffusers spaces σ from 1 to that of the last timestep of the shifted schedule, then shifts.
    start = torch.linspace(1, 1 / 1000 * 3 / (1 + 2 / 1000), STEPS)
    sigmas = [*(3 * start / (1 + 2 * start)).tolist(), 0.0]
    with torch.no_grad():
        posterior = base.vae.encode(hint * 2 - 1).latent_dist
        features = posterior.mean * base.vae.config.scaling_factor
        latents = noise
        for now, following in itertools.pairwise(sigmas):
            both, time = torch.cat([latents, latents]), torch.full((2,), 1000 * now)
            shared = {"encoder_hidden_states": text.tokens, "timestep": time, "return_dict": False}
            [added] = network(
                both,
                features.expand(2, -1, -1, -1),
                pooled_projections=torch.zeros_like(text.pooled),
                **shared,
            )
            [velocity] = base.denoiser(
                both,
                block_controlnet_hidden_states=added,
                pooled_projections=text.pooled,
                **shared,
            )
            without, with_prompt = velocity.chunk(2)
            velocity = without + SCALE * (with_prompt - without)
            latents = latents + (following - now) * velocity
    return latents


def test_the_denoising_loop_is_eulers_method(base: Base, network: Any, hint: Tensor) -> None:
    noise = draw_noise(base, [torch.Generator().manual_seed(7)], height=64, width=64)
    text = [encode_prompts(base, [prompt]) for prompt in ("a cat", "")]
    latents = denoise(
        base, [Control(network, hint)], noise, text=text[0], negative_text=text[1], steps=STEPS,
        guidance_scale=SCALE, scheduler="flow_match_euler",
    )  # fmt: skip
    expected = by_hand(base, network, hint, noise)
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)
    plain = denoise(base, [], noise, text=text[0], steps=STEPS, scheduler="flow_match_euler")
    assert not torch.allclose(latents, plain)


def test_it_generates_edits_and_previews(base: Base, network: Any, hint: Tensor) -> None:
    settings: dict[str, Any] = {"height": 64, "width": 64, "scheduler": "flow_match_euler"}
    region = torch.zeros(1, 1, 64, 64)
    region[..., :32] = 1
    seen: list[int] = []
    controls = [Control(network, hint, region=region, mode="control", end=0.5)]
    images = sample(
        base, controls, ["a cat", "a dog"], seeds=[1, 2], steps=STEPS, **settings,
        on_preview=lambda done, images: seen.append(done),
    )  # fmt: skip
    assert images.shape == (2, 64, 64, 3)
    assert seen == [1, 2, 3]
    nowhere = sample(base, [], ["a cat", "a dog"], seeds=[1, 2], steps=STEPS, **settings)
    assert (images != nowhere).any()


def test_what_is_masked_stays_as_it_was(base: Base) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    mask = np.zeros((1, 64, 64), bool)
    mask[:, :, 32:] = True
    generators = [torch.Generator().manual_seed(3)]
    edit = encode_edit(base, Edit(images, mask, strength=0.5), generators)
    noise = draw_noise(base, generators, height=64, width=64)
    text = encode_prompts(base, ["a cat"])
    latents = denoise(base, [], noise, text=text, steps=2, edit=edit, scheduler="flow_match_euler")
    assert torch.equal(latents[..., :4], edit.original[..., :4])
    assert not torch.equal(latents[..., 4:], edit.original[..., 4:])


def test_a_scheduler_of_another_process_is_refused(base: Base) -> None:
    with pytest.raises(CnctlError, match="'ddim' does not suit random-sd3") as caught:
        sample(base, [], ["a"], seeds=[0], height=64, width=64, scheduler="ddim")
    assert caught.value.hint == "use one of flow_match_euler, flow_match_heun"


FAMILY_WORDS = re.compile(
    r"UNet2DConditionModel|ControlNetModel|ControlNetUnionModel|\.unet\b|cnctl\.models\.unet"
    r"|SD3Transformer|\.sd3\b|cnctl\.models\.sd3"
    r"|ZImage|\.zimage\b|cnctl\.models\.zimage"
    r"|\bisinstance\([^)]*\b(UnionView|InputConcatUNet|Sd3ControlNet|ControlNet)\b"
)
NAMES = {"SD 1.x", "SD 2.x", "SDXL", "unet", "input-concat", "sd3", "transformer"}
NAMES |= {"SD3 medium", "SD3.5 medium", "SD3.5 large", "zimage", "Z-Image", "Z-Image-Turbo"}


def sources() -> Iterator[Path]:
    """Every file but those that may know a family, and the settings, whose values users type."""
    for path in sorted((ROOT / "cnctl").rglob("*.py")):
        if path.relative_to(ROOT / "cnctl").parts[0] not in ("models", "settings", "tiny"):
            yield path


def test_no_file_outside_models_asks_for_a_family() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if FAMILY_WORDS.search(line)
    ]
    found += [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value!r}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in NAMES
    ]
    assert found == []
