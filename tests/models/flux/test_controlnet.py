"""ControlNets of FLUX.1 in their published forms, held to diffusers' pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxControlNetImg2ImgPipeline,
    FluxControlNetInpaintPipeline,
    FluxControlNetModel,
    FluxControlNetPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.flux.controlnet import build_controlnet
from cnctl.models.flux.format import FORMAT
from cnctl.models.prompts import encode_prompts
from cnctl.models.transformer.weights import open_network
from cnctl.sampling.denoise import denoise, draw_noise
from cnctl.sampling.image_to_image import Edit, encode_edit
from cnctl.training.loss import noise_prediction_loss

SIZE = {"height": 64, "width": 80}
Write = Callable[..., Path]


@pytest.fixture
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))


def ours(base: Base, controls: list[Control], **settings: Any) -> Tensor:
    own = [torch.Generator().manual_seed(3)]
    text = encode_prompts(base, ["a cat"])
    given: dict[str, Any] = {"steps": 2, "scheduler": "flow_match_euler"} | settings
    return denoise(base, controls, draw_noise(base, own, **SIZE), text=text, **given)


@pytest.mark.parametrize("form", ["one stream", "union", "xlabs", "without guidance"])
def test_equals_diffusers_pipeline(
    form: str, write_controlnet: Write, flux_base: Base, stock: Any, hint: Tensor, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Images without guidance by a second prompt, at another scale of the distilled one."""
    base, folder = flux_base, write_controlnet(tmp_path / "x", form)
    mode = DiagonalGaussianDistribution.mode
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, *_: mode(self))
    theirs = FluxControlNetModel.from_pretrained(folder)
    kind = {"control_mode": 2} if form == "union" else {}
    expected = stock(
        FluxControlNetPipeline, base, theirs, "a cat", control_image=2 * hint - 1,
        num_inference_steps=2, guidance_scale=2.0, controlnet_conditioning_scale=0.7,
        generator=torch.Generator().manual_seed(3), **kind, **SIZE,
    )  # fmt: skip
    expected = FluxControlNetPipeline._unpack_latents(expected, 64, 80, 8)
    asked = {"condition": "depth", "hint_channels": 3, "control_type": 2}
    network = open_network(FORMAT, folder, base, **asked)
    latents = ours(base, [Control(network, hint, scale=0.7)], distilled_guidance=2.0)
    assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (latents - ours(base, [], distilled_guidance=2.0)).abs().max() > 0.05


@pytest.mark.parametrize("form", ["one stream", "xlabs"])
@pytest.mark.parametrize("kind", [FluxControlNetImg2ImgPipeline, FluxControlNetInpaintPipeline])
def test_edits_equal_diffusers_pipelines(
    kind: Any, form: str, write_controlnet: Write, flux_base: Base, stock: Any, hint: Tensor,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """3 steps at strength 0.6 are the last of the 5 that diffusers gets."""
    base, folder = flux_base, write_controlnet(tmp_path / "x", form)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 80, 3), dtype=np.uint8)
    mask = np.zeros((1, 64, 80), bool)
    mask[0, 16:48, 32:64] = True
    masked = kind is FluxControlNetInpaintPipeline
    draw, hints = DiagonalGaussianDistribution.sample, [form == "one stream"]

    def sample(self: Any, generator: Any = None) -> Tensor:
        """The mode of a hint, which is encoded before the image and not by XLabs' form."""
        return self.mode() if hints and hints.pop() else draw(self, generator)

    with monkeypatch.context() as patch:
        patch.setattr(DiagonalGaussianDistribution, "sample", sample)
        expected = stock(
            kind, base, FluxControlNetModel.from_pretrained(folder), "a cat",
            image=torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255,
            control_image=2 * hint - 1, num_inference_steps=5, strength=0.6, guidance_scale=2.0,
            controlnet_conditioning_scale=0.7, generator=torch.Generator().manual_seed(3),
            **({"mask_image": torch.from_numpy(mask)[:, None].float()} if masked else {}), **SIZE,
        )  # fmt: skip
    expected = FluxControlNetPipeline._unpack_latents(expected, 64, 80, 8)
    network = open_network(FORMAT, folder, base, condition="depth", hint_channels=3)
    own, edit = [torch.Generator().manual_seed(3)], Edit(image, mask if masked else None, 0.6)
    latent_edit = encode_edit(base, edit, own)
    latents = denoise(
        base, [Control(network, hint, scale=0.7)], draw_noise(base, own, **SIZE),
        text=encode_prompts(base, ["a cat"]), edit=latent_edit, generators=own, steps=3,
        scheduler="flow_match_euler", distilled_guidance=2.0,
    )  # fmt: skip
    assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_controlnets_of_different_forms_add_up(
    write_controlnet: Write, flux_base: Base, hint: Tensor, tmp_path: Path
) -> None:
    """After each block of the base; diffusers' pipeline takes several of one form only."""
    asked = {"condition": "depth", "hint_channels": 3}
    folders = [write_controlnet(tmp_path / form, form) for form in ("xlabs", "one stream")]
    networks = [open_network(FORMAT, folder, flux_base, **asked) for folder in folders]
    text = encode_prompts(flux_base, ["a cat"]).guided_by(3.5)
    latents = torch.randn(1, 16, 8, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        parts = [
            one.residuals(
                flux_base, latents, torch.tensor(500), text, one.encode_hint(flux_base, hint)
            )
            for one in networks
        ]
    both, own = (parts[0] + parts[1]).by_block(), [part.by_block() for part in parts]
    assert both.keys() == {0, 1, 2, 3, 4}  # three blocks of two streams, two of one
    for block, added in both.items():
        torch.testing.assert_close(added, sum(part.get(block, 0) for part in own))


def test_a_fresh_one_learns_in_its_second_step(flux_base: Base, hint: Tensor) -> None:
    """Gradient reaches every parameter that `learning_parameters` names, and no other."""
    network = build_controlnet(flux_base.denoiser, layers=2, seed=1)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1, generator=random)
    text = encode_prompts(flux_base, ["a cat"]).guided_by(flux_base.distilled_guidance)
    latents, noise = torch.randn(2, 1, 16, 8, 10, generator=random)
    loss = noise_prediction_loss(
        flux_base, network, latents=latents, text=text, hint=hint,
        timesteps=torch.tensor([500.0]), noise=noise,
    )  # fmt: skip
    loss.backward()
    reached = {
        name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert reached == network.learning_parameters().keys()


def test_layers_are_six_or_half(flux_base: Base) -> None:
    assert len(build_controlnet(flux_base.denoiser).controlnet_blocks) == 1
    assert len(build_controlnet(flux_base.denoiser, layers=3).controlnet_blocks) == 3
