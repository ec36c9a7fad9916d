"""A LoRA of FLUX.1 that reads hints as further input channels, held to diffusers' pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxControlImg2ImgPipeline,
    FluxControlInpaintPipeline,
    FluxControlPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from cnctl.commands.info import info
from cnctl.commands.train.run import TrainRequest, plan_training
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.flux.input_concat import FluxInputConcat, build_input_concat
from cnctl.models.prompts import encode_prompts
from cnctl.sampling.denoise import denoise, draw_noise
from cnctl.sampling.image_to_image import Edit, encode_edit

SIZE = {"height": 64, "width": 80}


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained(flux_base: Base) -> FluxInputConcat:
    """As after training: the LoRA's product is not zero."""
    network, generator = (
        build_input_concat(flux_base.denoiser, rank=4),
        torch.Generator().manual_seed(1),
    )
    with torch.no_grad():
        for factor in network.own_parameters().values():
            factor.copy_(0.3 * torch.randn(factor.shape, generator=generator))
    return network


def predicted(flux_base: Base, network: FluxInputConcat, hint: Tensor) -> tuple[Tensor, Tensor]:
    """By the loss, and as in sampling."""
    latents = torch.randn(2, 16, 8, 10, generator=torch.Generator().manual_seed(2))
    text, time = encode_prompts(flux_base, ["a", "b"]).guided_by(3.5), torch.tensor(400.0)
    hints = torch.cat([hint, 1 - hint])
    with torch.no_grad():
        in_loss = network.predict(flux_base, latents, time.expand(2), text, hints)
        attached, controls = network.attach(flux_base, hints)
        assert not controls
        return in_loss, flux_base.family.predict(attached.denoiser, latents, time, text, None)


def test_a_fresh_one_predicts_what_the_base_does_and_shares_its_weights(
    flux_base: Base, hint: Tensor
) -> None:
    network = build_input_concat(flux_base.denoiser, rank=4)
    latents = torch.randn(1, 16, 8, 10, generator=torch.Generator().manual_seed(2))
    text, time = encode_prompts(flux_base, ["a"]).guided_by(3.5), torch.tensor([400.0])
    with torch.no_grad():
        own = network.predict(flux_base, latents, time, text, hint)
        expected = flux_base.family.predict(flux_base.denoiser, latents, time, text, None)
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)
    theirs = {one.data_ptr() for one in flux_base.denoiser.parameters()}
    others = [p for p in network.parameters() if not p.requires_grad]
    assert sum(one.data_ptr() not in theirs for one in others) == 1  # the wider layer
    assert all(".lora_" in name for name in network.learning_parameters())


def test_it_trains_what_it_runs(flux_base: Base, trained: FluxInputConcat, hint: Tensor) -> None:
    in_loss, in_sampling = predicted(flux_base, trained, hint)
    torch.testing.assert_close(in_loss, in_sampling, rtol=1e-5, atol=1e-6)
    assert not torch.equal(in_loss[0], in_loss[1])


def test_gradient_reaches_every_factor(
    flux_base: Base, trained: FluxInputConcat, hint: Tensor
) -> None:
    text, time = encode_prompts(flux_base, ["a"]).guided_by(3.5), torch.tensor([400.0])
    latents = torch.randn(1, 16, 8, 10, generator=torch.Generator().manual_seed(2))
    trained.enable_gradient_checkpointing()
    trained.train().predict(flux_base, latents, time, text, hint).square().mean().backward()
    factors = trained.own_parameters()
    assert all(f.grad is not None and f.grad.any() for f in factors.values())
    assert all(p.grad is None for p in flux_base.denoiser.parameters())


def test_equals_diffusers_pipeline(
    flux_base: Base, trained: FluxInputConcat, hint: Tensor, tmp_path: Path, stock_of: Any,
    random_flux_base: Path, assert_same: Callable[[Tensor, Tensor], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Saved, read by both. diffusers draws the latents of hints; cnctl takes their mode."""
    mode = DiagonalGaussianDistribution.mode
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, **_: mode(self))
    trained.save(tmp_path / "input-concat", description={"method": "input-concat"})
    stock = stock_of(FluxControlPipeline, load_base(random_flux_base), None)
    stock.load_lora_weights(
        tmp_path / "input-concat", weight_name="diffusion_pytorch_model.safetensors"
    )
    expected = stock(
        "a cat", control_image=2 * hint - 1, num_inference_steps=2, guidance_scale=3.5,
        generator=torch.Generator().manual_seed(3), output_type="latent", **SIZE,
    ).images  # fmt: skip
    found = flux_base.family.find_weights(tmp_path)
    assert found is not None
    network = flux_base.family.open_network(found, flux_base, condition="canny", hint_channels=3)
    own, controls = network.attach(flux_base, hint)
    noise = draw_noise(flux_base, [torch.Generator().manual_seed(3)], **SIZE)
    made = denoise(
        own, controls, noise, text=encode_prompts(flux_base, ["a cat"]), steps=2,
        scheduler="flow_match_euler", distilled_guidance=3.5,
    )  # fmt: skip
    assert_same(made, FluxControlPipeline._unpack_latents(expected, 64, 80, 8))
    assert info(tmp_path / "input-concat").as_dict()["rank"] == 4


@pytest.mark.parametrize("kind", [FluxControlImg2ImgPipeline, FluxControlInpaintPipeline])
def test_edits_equal_diffusers_pipelines(
    kind: Any, flux_base: Base, trained: FluxInputConcat, hint: Tensor, tmp_path: Path,
    stock_of: Any, random_flux_base: Path, assert_same: Callable[[Tensor, Tensor], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """3 steps at strength 0.6 are the last of the 5 that diffusers gets."""
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 80, 3), dtype=np.uint8)
    mask = np.zeros((1, 64, 80), bool)
    mask[0, 16:48, 32:64] = True
    masked = kind is FluxControlInpaintPipeline
    draw, hints = DiagonalGaussianDistribution.sample, [True] * (1 + masked)

    def sample(self: Any, generator: Any = None) -> Tensor:
        """The mode of the hint, and of what is masked, which that pipeline never uses."""
        return self.mode() if hints and hints.pop() else draw(self, generator)

    trained.save(tmp_path / "input-concat", description={"method": "input-concat"})
    stock = stock_of(kind, load_base(random_flux_base), None)
    FluxControlPipeline(**stock.components).load_lora_weights(
        tmp_path / "input-concat", weight_name="diffusion_pytorch_model.safetensors"
    )
    with monkeypatch.context() as patch:
        patch.setattr(DiagonalGaussianDistribution, "sample", sample)
        expected = stock(
            "a cat", image=torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255,
            control_image=2 * hint - 1, num_inference_steps=5, strength=0.6, guidance_scale=3.5,
            generator=torch.Generator().manual_seed(3), output_type="latent",
            **({"mask_image": torch.from_numpy(mask)[:, None].float()} if masked else {}), **SIZE,
        ).images  # fmt: skip
    own, controls = trained.attach(flux_base, hint)
    generators = [torch.Generator().manual_seed(3)]
    edit = encode_edit(own, Edit(image, mask if masked else None, 0.6), generators)
    made = denoise(
        own, controls, draw_noise(flux_base, generators, **SIZE), edit=edit, generators=generators,
        text=encode_prompts(flux_base, ["a cat"]), steps=3, scheduler="flow_match_euler",
        distilled_guidance=3.5,
    )  # fmt: skip
    assert_same(made, FluxControlPipeline._unpack_latents(expected, 64, 80, 8))


def test_another_base(trained: FluxInputConcat, flux_base: Base, tmp_path: Path) -> None:
    trained.save(tmp_path / "input-concat", description={"method": "input-concat"})
    config = tmp_path / "input-concat" / "config.json"
    config.write_text(
        config.read_text().replace('"joint_attention_dim": 64', '"joint_attention_dim": 8')
    )
    with pytest.raises(CnctlError, match="was made for a base with text width 8"):
        flux_base.family.open_network(config.parent, flux_base, condition="canny", hint_channels=3)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"method": "input-concat"}, "trains low ranks"),
        ({"method": "input-concat", "lora": 4, "layers": 1}, "--layers is for a ControlNet"),
    ],
)
def test_refused(
    settings: dict[str, Any], why: str, random_flux_base: Path, tmp_path: Path
) -> None:
    request = TrainRequest(
        condition="canny", data="scenes:4", base=str(random_flux_base), settings=settings
    )
    with pytest.raises(CnctlError, match=why):
        plan_training(request, tmp_path / "run")
