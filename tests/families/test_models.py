"""What a family promises of its models: each equals diffusers' own pipelines in float32."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, EulerDiscreteScheduler, MultiControlNetModel
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.families import load_base, read_family
from cnctl.models.network import Network
from cnctl.models.prompts import encode_prompts
from cnctl.models.text_features import TextFeatures
from cnctl.sampling.denoise import denoise, draw_noise, sample
from cnctl.sampling.image_to_image import Edit, encode_edit
from cnctl.training.loss import noise_prediction_loss

SIZE = {"height": 64, "width": 72}
PROMPTS, NEGATIVE = ["a red house", "a cat"], ["ugly", "blurry"]
STEPS, GUIDANCE = 4, 5.0


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (3, 4)]


def extra_conditions(text: TextFeatures, sizes: list[tuple[int, ...]]) -> dict[str, Any]:
    """What SDXL's networks are told beside the prompt; nothing where there are no pooled texts."""
    if text.pooled is None:
        return {}
    return {"added_cond_kwargs": {"text_embeds": text.pooled, "time_ids": torch.tensor(sizes)}}


class TestRecognise:
    def test_by_its_configs_alone(self, case: Any, tmp_path: Path) -> None:
        (tmp_path / "unet").mkdir()
        (tmp_path / "model_index.json").write_text(
            json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]})
        )
        (tmp_path / "unet" / "config.json").write_text(json.dumps(case.published))
        family = read_family(tmp_path)
        assert family.name == case.name
        assert all(weights for weights in family.controlnets.values())

    def test_a_controlnet_for_another_is_refused(
        self, base: Base, network: Network, loaded_random_base: Base, loaded_sdxl_base: Base
    ) -> None:
        other = next(
            b for b in (loaded_sdxl_base, loaded_random_base) if b.family.name != base.family.name
        )
        with pytest.raises(CnctlError, match="this ControlNet was made for") as caught:
            network.check_fits(other)
        assert caught.value.hint.startswith("choose a base of ")


class TestLoad:
    def test_is_locked_and_in_float32(self, base: Base) -> None:
        for part in (base.denoiser, base.vae, *(encoder.model for encoder in base.text_encoders)):
            assert part.dtype == torch.float32
            assert not any(parameter.requires_grad for parameter in part.parameters())

    def test_in_half_precision(self, source: str, base: Base) -> None:
        half = load_base(source, dtype="bfloat16")
        expected = base.denoiser.state_dict()
        for name, tensor in half.denoiser.state_dict().items():
            assert torch.equal(tensor, expected[name].bfloat16())

    def test_without_weights_it_has_sizes(self, source: str, base: Base) -> None:
        outline = load_base(source, weights=False)
        assert outline.denoiser.device.type == "meta"
        assert outline.denoiser.num_parameters() == base.denoiser.num_parameters()


def test_prompts_are_as_diffusers_encodes_them(case: Any, base: Base, stock_of: Any) -> None:
    pipeline = stock_of(case.text_to_image, base, None)
    given = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    with torch.no_grad():
        tokens, _, *pooled = pipeline.encode_prompt(PROMPTS, **given)
    features = encode_prompts(base, PROMPTS)
    torch.testing.assert_close(features.tokens, tokens, rtol=1e-5, atol=1e-6)
    if pooled:
        torch.testing.assert_close(features.pooled, pooled[0], rtol=1e-5, atol=1e-6)


def test_images_are_encoded_as_the_autoencoder_has_them(base: Base, images: np.ndarray) -> None:
    latents, config = base.family.latents, base.vae.config
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        mean = base.vae.encode(pixels).latent_dist.mode() * config.scaling_factor
        decoded = base.vae.decode(mean / config.scaling_factor).sample
    made = latents.draw(base, latents.encode(base, images), generator=None)
    torch.testing.assert_close(made, mean)
    assert made.shape[1:] == latents.shape(base, **SIZE)
    expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(latents.decode(base, mean) - expected).max() <= 0.51


def test_residuals_are_those_of_diffusers_network(base: Base, network: Network) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *base.family.latents.shape(base, **SIZE), generator=generator)
    hint = torch.rand(2, 3, 64, 72, generator=generator)
    sizes = [(64, 72, 0, 0, 64, 72)] * 2
    text = encode_prompts(base, PROMPTS)
    with torch.no_grad():
        down, middle = ControlNetModel.forward(
            network, latents, torch.tensor(500), text.tokens, hint, return_dict=False,
            **extra_conditions(text, sizes),
        )  # fmt: skip
        found = network.residuals(
            latents,
            torch.tensor(500),
            text.of_pictures(sizes) if text.pooled is not None else text,
            network.encode_hint(base, hint),
        )
    assert network.residual_count == len(down) + 1
    for ours, theirs in zip(found.tensors, [*down, middle], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="session")
def theirs(stock: Any, base: Base) -> Callable[..., Tensor]:
    """Latents of the prompts by a pipeline of diffusers."""

    def run(kind: Any, controlnet: Any, **settings: Any) -> Tensor:
        given = {
            "negative_prompt": NEGATIVE,
            "generator": generators(),
            "guidance_scale": GUIDANCE,
            "num_inference_steps": STEPS,
            "controlnet_conditioning_scale": 1.0,
            **settings,
        }
        return stock(kind, base, controlnet, PROMPTS, **given)

    return run


class TestEqualsDiffusers:
    """The same latents, from the same prompts and seeds."""

    def ours(
        self, base: Base, controls: list[Control], edit: Edit | None = None, **settings: Any
    ) -> Tensor:
        own = generators()
        latent_edit = encode_edit(base, edit, own) if edit else None
        return denoise(
            base,
            controls,
            draw_noise(base, own, **SIZE),
            text=encode_prompts(base, PROMPTS),
            negative_text=encode_prompts(base, NEGATIVE),
            generators=own,
            edit=latent_edit,
            guidance_scale=GUIDANCE,
            **{"steps": STEPS, **settings},
        )

    def test_one_control(
        self, case: Any, base: Base, network: Any, hint: Tensor, theirs: Any, assert_same: Any
    ) -> None:
        expected = theirs(case.text_to_image, network, image=hint, **SIZE)
        latents = self.ours(base, [Control(network, hint)])
        assert_same(latents, expected)
        without = self.ours(base, [])
        assert (latents - without).abs().max() > 0.05  # else the comparison shows nothing

    @pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
    def test_two_controls_from_start_to_end_by_euler(
        self, case: Any, base: Base, network: Any, build: Any, hint: Tensor, theirs: Any,
        assert_same: Any,
    ) -> None:  # fmt: skip
        other = build(seed=2).requires_grad_(False)
        expected = theirs(
            case.text_to_image,
            MultiControlNetModel([network, other]),
            image=[hint, 1 - hint],
            controlnet_conditioning_scale=[0.5, 1.0],
            control_guidance_start=[0.0, 0.5],
            control_guidance_end=[0.75, 1.0],
            scheduler=EulerDiscreteScheduler.from_config(base.process.scheduler.config),
            **SIZE,
        )
        controls = [
            Control(network, hint, scale=0.5, end=0.75),
            Control(other, 1 - hint, start=0.5),
        ]
        assert_same(self.ours(base, controls, scheduler="euler"), expected)

    def test_image_to_image(
        self, case: Any, base: Base, network: Any, hint: Tensor, images: np.ndarray, theirs: Any,
        assert_same: Any,
    ) -> None:  # fmt: skip
        """3 steps at strength 0.6 are the last of the 5 that diffusers is told."""
        expected = theirs(
            case.image_to_image,
            network,
            image=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            control_image=hint,
            num_inference_steps=5,
            strength=0.6,
        )
        edit = Edit(images, strength=0.6)
        assert_same(self.ours(base, [Control(network, hint)], edit, steps=3), expected)

    @pytest.mark.parametrize(("strength", "total"), [(1.0, 3), (0.6, 5)])
    def test_masked(
        self, inpainting: Any, base: Base, network: Any, hint: Tensor, images: np.ndarray,
        theirs: Any, assert_same: Any, strength: float, total: int,
    ) -> None:  # fmt: skip
        """The mask follows the borders of latents, where diffusers' nearest neighbour is exact."""
        mask = np.zeros((2, 64, 72), bool)
        mask[0, 16:48, 24:64] = True
        mask[1, :, :40] = True
        expected = theirs(
            inpainting,
            network,
            image=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            mask_image=torch.from_numpy(mask)[:, None].float(),
            control_image=hint,
            num_inference_steps=total,
            strength=strength,
            **SIZE,
        )
        edit = Edit(images, mask, strength)
        assert_same(self.ours(base, [Control(network, hint)], edit, steps=3), expected)


def test_an_image_is_the_same_alone_and_in_a_batch(
    base: Base, network: Network, hint: Tensor
) -> None:
    settings: dict[str, Any] = {"steps": 2, **SIZE}
    both = sample(base, [Control(network, hint)], PROMPTS, seeds=[1, 2], **settings)
    alone = sample(base, [Control(network, hint)], PROMPTS[1:], seeds=[2], **settings)
    assert both.shape == (2, 64, 72, 3)
    assert np.abs(both[1].astype(int) - alone[0]).max() <= 1


def test_a_fresh_controlnet_changes_nothing(base: Base, build: Any, hint: Tensor) -> None:
    """Equations 3 and 4."""
    settings: dict[str, Any] = {"seeds": [1], "steps": 1, **SIZE}
    controlled = sample(base, [Control(build(fresh=True), hint)], ["a cat"], **settings)
    assert np.array_equal(controlled, sample(base, [], ["a cat"], **settings))


def test_the_loss_is_equation_10_by_diffusers_networks(base: Base, network: Any) -> None:
    """Noise that the scheduler adds, networks told of sizes, the mean square of what is missed."""
    generator = torch.Generator().manual_seed(0)
    shape = base.family.latents.shape(base, 64, 64)
    latents, noise = torch.randn(2, 2, *shape, generator=generator)
    hint = torch.rand(2, 3, 64, 64, generator=generator)
    timesteps, scheduler = torch.tensor([20, 800]), base.process.scheduler
    sizes = [(100, 200, 0, 30, 64, 64), (64, 64, 0, 0, 64, 64)]
    text = encode_prompts(base, ["a cat", ""])
    told = extra_conditions(text, sizes)
    with torch.no_grad():
        loss = noise_prediction_loss(
            base, network, latents=latents, hint=hint, timesteps=timesteps, noise=noise,
            text=text.of_pictures(sizes) if text.pooled is not None else text,
        )  # fmt: skip
        noisy = scheduler.add_noise(latents, noise, timesteps)
        down, middle = ControlNetModel.forward(
            network, noisy, timesteps, text.tokens, hint, return_dict=False, **told
        )
        predicted = base.denoiser(
            noisy, timesteps, text.tokens, down_block_additional_residuals=down,
            mid_block_additional_residual=middle, **told,
        ).sample  # fmt: skip
    predicts_v = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(latents, noise, timesteps) if predicts_v else noise
    torch.testing.assert_close(loss, ((predicted - target) ** 2).mean())
