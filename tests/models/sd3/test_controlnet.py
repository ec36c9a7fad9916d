"""ControlNets of SD3 in their three forms, from folders and files, held to diffusers' pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    SD3ControlNetModel,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3ControlNetPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import load_file, save_file
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.prompts import encode_prompts
from cnctl.models.sd3.controlnet import build_controlnet
from cnctl.models.sd3.format import FORMAT
from cnctl.models.transformer.load import load_controlnet
from cnctl.models.transformer.weights import open_network
from cnctl.sampling.denoise import denoise, draw_noise
from cnctl.training.loss import noise_prediction_loss

WEIGHTS = "diffusion_pytorch_model.safetensors"
SIZE = {"height": 64, "width": 80}
Write = Callable[..., Path]


def with_original_names(folder: Path, target: Path) -> Path:
    """A file as Stability has them: by hand, what diffusers' script for converting undoes."""
    found = load_file(folder / WEIGHTS)
    for block in range(2):
        stem = f"transformer_blocks.{block}."
        for end in ("weight", "bias"):
            parts = [found.pop(f"{stem}attn.to_{part}.{end}") for part in "qkv"]
            found[f"{stem}attn.qkv.{end}"] = torch.cat(parts)
            for new, old in {
                "attn.to_out.0": "attn.proj",
                "ff.net.0.proj": "mlp.fc1",
                "ff.net.2": "mlp.fc2",
                "norm1.linear": "adaLN_modulation.1",
            }.items():
                found[f"{stem}{old}.{end}"] = found.pop(f"{stem}{new}.{end}")
    save_file(found, target)
    return target


@pytest.mark.parametrize("form", ["zeros", "pooled", "no text"])
def test_equals_diffusers_pipeline(
    form: str, write_controlnet: Write, loaded_sd3_base: Base, stock: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, assert_same: Callable[[Tensor, Tensor], None],
) -> None:  # fmt: skip
    base, folder = loaded_sd3_base, write_controlnet(tmp_path / "x", form)
    mode = DiagonalGaussianDistribution.mode
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self: mode(self))
    hint = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    expected = stock(
        StableDiffusion3ControlNetPipeline, base, SD3ControlNetModel.from_pretrained(folder),
        "a cat", negative_prompt="a dog", control_image=2 * hint - 1, num_inference_steps=2,
        guidance_scale=4.0, generator=torch.Generator().manual_seed(3), **SIZE,
    )  # fmt: skip
    network = open_network(FORMAT, folder, base, condition="canny", hint_channels=3)
    latents = denoise(
        base, [Control(network, hint)],
        draw_noise(base, [torch.Generator().manual_seed(3)], **SIZE),
        text=encode_prompts(base, ["a cat"]), negative_text=encode_prompts(base, ["a dog"]),
        steps=2, guidance_scale=4.0, scheduler="flow_match_euler",
    )  # fmt: skip
    assert_same(latents, expected)


@pytest.mark.parametrize("form", ["zeros", "pooled"])
def test_inpainting_equals_diffusers_pipeline(
    form: str, write_controlnet: Write, loaded_sd3_base: Base, stock: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, assert_same: Callable[[Tensor, Tensor], None],
) -> None:  # fmt: skip
    """The form of alimama's: the mask of what is kept is one more channel of the hint's latents."""
    base = loaded_sd3_base
    folder = write_controlnet(tmp_path / "x", form, extra_conditioning_channels=1)
    mode = DiagonalGaussianDistribution.mode
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self: mode(self))
    picture = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    filled = torch.zeros(1, 1, 64, 80)
    filled[..., 13:45, 21:63] = 1  # not along the borders of latents
    expected = stock(
        StableDiffusion3ControlNetInpaintingPipeline, base,
        SD3ControlNetModel.from_pretrained(folder), "a cat", negative_prompt="a dog",
        control_image=2 * picture - 1, control_mask=filled, num_inference_steps=2,
        guidance_scale=4.0, generator=torch.Generator().manual_seed(3), **SIZE,
    )  # fmt: skip
    network = open_network(FORMAT, folder, base, condition="inpaint", hint_channels=3, masked=True)
    latents = denoise(
        base, [Control(network, torch.cat([picture, 1 - filled], dim=1))],
        draw_noise(base, [torch.Generator().manual_seed(3)], **SIZE),
        text=encode_prompts(base, ["a cat"]), negative_text=encode_prompts(base, ["a dog"]),
        steps=2, guidance_scale=4.0, scheduler="flow_match_euler",
    )  # fmt: skip
    assert_same(latents, expected)


def test_a_file_with_stabilitys_names_is_the_same(write_controlnet: Write, tmp_path: Path) -> None:
    """Stability's form always has no text and heads of 64 channels, so it needs no config."""
    heads = {"attention_head_dim": 64, "num_attention_heads": 1}
    folder = write_controlnet(tmp_path / "x", "no text", **heads)
    network, about = load_controlnet(
        FORMAT, with_original_names(folder, tmp_path / "x.safetensors")
    )
    expected = SD3ControlNetModel.from_pretrained(folder)
    assert about["config"]["num_attention_heads"] == 1
    assert not network.config.force_zeros_for_pooled_projection
    found = network.state_dict()
    assert found.keys() == expected.state_dict().keys()
    assert all(torch.equal(found[n], tensor) for n, tensor in expected.state_dict().items())


def test_a_fresh_one_copies_the_first_blocks_and_leaves_the_base(loaded_sd3_base: Base) -> None:
    transformer = loaded_sd3_base.denoiser
    before = dict(transformer.config)
    network = build_controlnet(transformer, layers=3, hint_start="zero")
    assert dict(transformer.config) == before
    assert (network.residual_count, tuple(network.config.dual_attention_layers)) == (3, (0, 1))
    own, theirs = network.state_dict(), transformer.state_dict()
    copied = [name for name in own if name in theirs]
    assert all(torch.equal(own[name], theirs[name]) for name in copied)
    fresh = [name for name in own if name not in theirs]
    assert all(name.startswith(("controlnet_blocks.", "pos_embed_input.")) for name in fresh)
    assert not any(own[name].any() for name in fresh)
    assert build_controlnet(transformer).residual_count == 2


def test_gradient_reaches_what_is_trained_and_nothing_else(loaded_sd3_base: Base) -> None:
    base, random = loaded_sd3_base, torch.Generator().manual_seed(0)
    network = build_controlnet(base.denoiser, layers=2)
    for name, parameter in network.named_parameters():
        if name.startswith(("controlnet_blocks.", "pos_embed_input.")):
            torch.nn.init.normal_(parameter, std=0.1, generator=random)
    latents, noise = torch.randn(2, 1, 16, 8, 8, generator=random)
    noise_prediction_loss(
        base, network, latents=latents, noise=noise, timesteps=torch.tensor([300.0]),
        text=encode_prompts(base, ["a cat"]),
        hint=torch.rand(1, 3, 64, 64, generator=random),
    ).backward()  # fmt: skip
    learning = network.learning_parameters()
    idle = {n: p for n, p in network.own_parameters().items() if n not in learning}
    assert len(idle) == 9
    assert all(parameter.grad is not None for parameter in learning.values())
    assert not any(p.grad is not None and p.grad.any() for p in idle.values())
