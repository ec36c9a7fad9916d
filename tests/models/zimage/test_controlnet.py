"""ControlNets of Z-Image in their three versions, held to diffusers' pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ZImageControlNetInpaintPipeline,
    ZImageControlNetModel,
    ZImageControlNetPipeline,
)
from torch import Tensor

from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.images import read_image, write_image
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.families import load_base
from cnctl.models.prompts import encode_prompts
from cnctl.models.transformer.weights import open_network
from cnctl.models.zimage.controlnet import ZImageControlNet, build_controlnet
from cnctl.models.zimage.format import FORMAT
from cnctl.sampling.denoise import denoise, draw_noise
from cnctl.training.loss import noise_prediction_loss

SIZE = {"height": 64, "width": 80}
Write = Callable[..., Path]


def ours(base: Base, controls: list[Control], negative: str = "a dog", **settings: Any) -> Tensor:
    noise = draw_noise(base, [torch.Generator().manual_seed(3)], **SIZE)
    text = [encode_prompts(base, [prompt]) for prompt in ("a cat", negative)]
    return denoise(
        base, controls, noise, text=text[0], negative_text=text[1], steps=2,
        **{"guidance_scale": 4.0, "scheduler": "flow_match_euler", **settings},
    )  # fmt: skip


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("version", ["1", "2.0", "2.1"])
def test_equals_diffusers_pipeline(
    version: str, write_controlnet: Write, loaded_zimage_base: Base, stock: Any, hint: Tensor,
    tmp_path: Path, assert_same: Callable[[Tensor, Tensor], None],
) -> None:  # fmt: skip
    """Also with a negative prompt of more tokens than the prompt's, and at another scale than 1."""
    base, folder, negative = loaded_zimage_base, write_controlnet(tmp_path / "x", version), "x" * 90
    expected = stock(
        ZImageControlNetPipeline, base, ZImageControlNetModel.from_pretrained(folder), ["a cat"],
        negative_prompt=[negative], control_image=2 * hint - 1, num_inference_steps=2,
        guidance_scale=3.0, controlnet_conditioning_scale=0.75,
        generator=torch.Generator().manual_seed(3), **SIZE,
    )  # fmt: skip
    network = open_network(FORMAT, folder, base, condition="canny", hint_channels=3)
    assert_same(ours(base, [Control(network, hint, scale=0.75)], negative), expected)


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_an_image_to_fill_in_equals_diffusers_pipeline(
    version: str, write_controlnet: Write, loaded_zimage_base: Base, stock: Any, hint: Tensor,
    tmp_path: Path, assert_same: Callable[[Tensor, Tensor], None],
) -> None:  # fmt: skip
    base, folder = loaded_zimage_base, write_controlnet(tmp_path / "x", version)
    image = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    changes = torch.zeros(1, 1, 64, 80)
    changes[..., 16:48, 8:40] = 1
    expected = stock(
        ZImageControlNetInpaintPipeline, base, ZImageControlNetModel.from_pretrained(folder),
        ["a cat"], negative_prompt=["a dog"], control_image=2 * hint - 1, image=2 * image - 1,
        mask_image=changes, num_inference_steps=2, guidance_scale=3.0,
        controlnet_conditioning_scale=0.75, generator=torch.Generator().manual_seed(3), **SIZE,
    )  # fmt: skip
    network = open_network(FORMAT, folder, base, condition="canny", hint_channels=3)
    edited = torch.cat([hint, image, 1 - changes], dim=1)
    made = ours(base, [Control(network, edited, scale=0.75)])
    assert_same(made, expected)
    assert not torch.equal(made, ours(base, [Control(network, hint, scale=0.75)]))


def test_the_image_to_fill_in_of_generate_is_read(
    write_controlnet: Write, random_zimage_base: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It changes what is made inside of the mask; outside the pixels stay."""
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 255
    write_image(tmp_path / "half.png", half)
    folder, made = write_controlnet(tmp_path / "x", "2.1"), []
    for reads_edit in (True, False):
        monkeypatch.setattr(ZImageControlNet, "reads_edit", reads_edit)
        request = GenerateRequest(
            controls=["canny"], images=[tmp_path / "half.png"], base=str(random_zimage_base),
            weights=[str(folder)], prompt="a", out=tmp_path / str(reads_edit),
            image=tmp_path / "half.png", mask=tmp_path / "half.png", settings={"steps": 1},
        )  # fmt: skip
        [image] = generate(request)
        made.append(read_image(image.path))
    assert (made[0][:, :32] == half[:, :32]).all()
    assert (made[0][:, 32:] != made[1][:, 32:]).any()


def test_two_controls_of_other_layers_add_up(
    write_controlnet: Write, loaded_zimage_base: Base, hint: Tensor, tmp_path: Path
) -> None:
    """One of them acts on the half with the prompt alone, which is the shorter one."""
    base = loaded_zimage_base
    folders = [
        write_controlnet(tmp_path / name, control_layers_places=places)
        for name, places in (("x", [0, 3, 6]), ("y", [0, 5]))
    ]
    one, two = (
        open_network(FORMAT, folder, base, condition="canny", hint_channels=3) for folder in folders
    )
    latents = torch.randn(2, 16, 8, 10, generator=torch.Generator().manual_seed(1))
    text, time = encode_prompts(base, ["x" * 90, "a cat"]), torch.tensor(400.0)
    with torch.no_grad():
        both = one.residuals(base, latents, time, text, one.encode_hint(base, hint))
        half = two.residuals(
            base, latents[1:], time, text.second_half(), two.encode_hint(base, hint)
        ).on_second_half()
        added = (both + half).by_block()
        predicted = base.family.predict(base.denoiser, latents, time, text, both + half)
    assert added.keys() == {0, 3, 5, 6}
    torch.testing.assert_close(added[0], both.tensors[0] + half.tensors[0])
    assert not half.tensors[0][0].any()
    assert predicted.shape == latents.shape
    assert not torch.equal(ours(base, [Control(one, hint)]), ours(base, []))


def test_a_fresh_one_copies_layers_and_changes_nothing_of_the_base(
    loaded_zimage_base: Base,
) -> None:
    transformer = loaded_zimage_base.denoiser
    network = build_controlnet(transformer, layers=3, hint_start="zero")
    assert network.config.control_layers_places == [0, 3, 6]
    own, theirs = network.state_dict(), transformer.state_dict()
    name = "attention.to_q.weight"
    assert torch.equal(own[f"control_layers.1.{name}"], theirs[f"layers.3.{name}"])
    assert torch.equal(own[f"control_noise_refiner.1.{name}"], theirs[f"noise_refiner.1.{name}"])
    assert torch.equal(
        own["control_all_x_embedder.2-1.weight"], theirs["all_x_embedder.2-1.weight"]
    )
    fresh = [name for name, tensor in own.items() if not tensor.any()]
    assert all(".before_proj." in name or ".after_proj." in name for name in fresh)
    assert build_controlnet(transformer).residual_count == 2


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_reaches_all_that_is_trained(
    checkpointing: bool, random_zimage_base: Path
) -> None:
    """The same holds beside a base in half precision."""
    dtype = "bfloat16" if checkpointing else "float32"
    base, random = load_base(random_zimage_base, dtype=dtype), torch.Generator().manual_seed(0)
    network = build_controlnet(base.denoiser)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=random)
    if checkpointing:
        network.enable_gradient_checkpointing()
    latents, noise = torch.randn(2, 1, 16, 8, 8, generator=random)
    noise_prediction_loss(
        base, network, latents=latents, noise=noise, timesteps=torch.tensor([300.0]),
        text=encode_prompts(base, ["a cat"]),
        hint=torch.rand(1, 3, 64, 64, generator=random),
    ).backward()  # fmt: skip
    learning = network.learning_parameters()
    assert learning.keys() == dict(network.named_parameters()).keys()
    assert not any("t_embedder" in name for name in learning)
    assert all(p.grad is not None and p.grad.any() for p in learning.values())
