"""SDXL bases of reduced width: prompts and denoising against diffusers' own pipelines."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    EulerDiscreteScheduler,
    MultiControlNetModel,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.families import load_base
from cnctl.models.prompts import PromptOptions, count_chunks, encode_prompts
from cnctl.models.text_features import whole_picture
from cnctl.sampling.denoise import denoise, draw_noise, sample
from cnctl.sampling.image_to_image import Edit, encode_edit
from cnctl.training.loss import noise_prediction_loss

SIZE = {"height": 64, "width": 96}
PROMPTS, NEGATIVE = ["a red house", "a cat"], ["ugly", "blurry"]
STEPS = 4


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (3, 4)]


def ours(base: Base, controls: list[Control], edit: Edit | None = None, **settings: Any) -> Tensor:
    """Latents of two images, in the way of `sample`."""
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
        guidance_scale=5.0,
        **{"steps": STEPS, **settings},
    )


@pytest.fixture(scope="module")
def theirs(stock: Any, loaded_sdxl_base: Base) -> Callable[..., Tensor]:
    """Latents of the same two images by a pipeline of diffusers."""

    def run(kind: Any, controlnet: Any, **settings: Any) -> Tensor:
        given = {
            "negative_prompt": NEGATIVE,
            "generator": generators(),
            "guidance_scale": 5.0,
            "num_inference_steps": STEPS,
            "controlnet_conditioning_scale": 1.0,
        }
        return stock(kind, loaded_sdxl_base, controlnet, PROMPTS, **{**given, **settings})

    return run


def test_prompts_are_as_diffusers_encodes_them(loaded_sdxl_base: Base) -> None:
    base = loaded_sdxl_base
    pipeline = StableDiffusionXLPipeline(
        vae=base.vae,
        text_encoder=base.text_encoders[0].model,
        text_encoder_2=base.text_encoders[1].model,
        tokenizer=base.text_encoders[0].tokenizer,
        tokenizer_2=base.text_encoders[1].tokenizer,
        unet=base.denoiser,
        scheduler=base.process.scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    with torch.no_grad():
        tokens, zero_tokens, pooled, zero_pooled = pipeline.encode_prompt(PROMPTS)
        earlier = pipeline.encode_prompt(PROMPTS, clip_skip=1)[0]  # counts from 0
    skipped = encode_prompts(base, PROMPTS, options=PromptOptions(clip_skip=2))
    torch.testing.assert_close(skipped.tokens, earlier, rtol=1e-5, atol=1e-6)
    features = encode_prompts(base, PROMPTS)
    torch.testing.assert_close(features.tokens, tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.pooled, pooled, rtol=1e-5, atol=1e-6)
    empty = encode_prompts(base, ["", ""])
    assert torch.equal(empty.tokens, zero_tokens)
    assert torch.equal(empty.pooled, zero_pooled)
    assert not zero_pooled.any()


def test_a_base_that_was_not_trained_with_zeros_reads_the_empty_prompt(
    random_sdxl_base: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(random_sdxl_base, tmp_path / "own"))
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("true", "false"))
    base = load_base(folder)
    tokenizer = base.text_encoders[1].tokenizer
    row = [tokenizer.bos_token_id, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * 75]
    with torch.no_grad():
        expected = base.text_encoders[1].model(torch.tensor([row])).text_embeds
    assert torch.equal(encode_prompts(base, [""]).pooled, expected)
    assert expected.any()


def test_a_long_prompt_is_read_in_chunks_by_both_encoders(loaded_sdxl_base: Base) -> None:
    base, long = loaded_sdxl_base, "ab" * 60
    assert count_chunks(base, long) == 2
    features = encode_prompts(base, [long, "a"], chunks=2)
    assert features.tokens.shape == (2, 154, 56)
    first = encode_prompts(base, [long])
    torch.testing.assert_close(features.tokens[:1, :77], first.tokens)
    torch.testing.assert_close(features.pooled[:1], first.pooled)
    # The tokenizer puts "</w>" on the last letter only: the second chunk is the prompt's end.
    words = base.text_encoders[0].tokenizer(long, add_special_tokens=False).input_ids[75:]
    for model, tokenizer, place in (
        (base.text_encoders[0].model, base.text_encoders[0].tokenizer, slice(0, 32)),
        (base.text_encoders[1].model, base.text_encoders[1].tokenizer, slice(32, 56)),
    ):
        row = [tokenizer.bos_token_id, *words, tokenizer.eos_token_id]
        row += [tokenizer.pad_token_id] * (77 - len(row))
        with torch.no_grad():
            expected = model(torch.tensor([row]), output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(features.tokens[:1, 77:, place], expected)


class TestEqualsDiffusers:
    """The same latents in float32, sizes told as diffusers tells them."""

    def test_one_control(
        self,
        loaded_sdxl_base: Base,
        sdxl_controlnet: ControlNetModel,
        hint: Tensor,
        theirs: Any,
        assert_same: Any,
    ) -> None:
        expected = theirs(StableDiffusionXLControlNetPipeline, sdxl_controlnet, image=hint, **SIZE)
        latents = ours(loaded_sdxl_base, [Control(sdxl_controlnet, hint)])
        assert_same(latents, expected)
        assert (latents - ours(loaded_sdxl_base, [])).abs().max() > 0.1

    def test_no_negative_prompt(
        self,
        loaded_sdxl_base: Base,
        sdxl_controlnet: ControlNetModel,
        hint: Tensor,
        theirs: Any,
        assert_same: Any,
    ) -> None:
        """Zeros, where the base was trained with them."""
        expected = theirs(
            StableDiffusionXLControlNetPipeline,
            sdxl_controlnet,
            image=hint,
            negative_prompt=None,
            **SIZE,
        )
        latents = denoise(
            loaded_sdxl_base,
            [Control(sdxl_controlnet, hint)],
            draw_noise(loaded_sdxl_base, generators(), **SIZE),
            text=encode_prompts(loaded_sdxl_base, PROMPTS),
            negative_text=encode_prompts(loaded_sdxl_base, ["", ""]),
            steps=STEPS,
            guidance_scale=5.0,
        )
        assert_same(latents, expected)

    @pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
    def test_two_controls_from_start_to_end_by_euler(
        self,
        loaded_sdxl_base: Base,
        sdxl_controlnet: ControlNetModel,
        hint: Tensor,
        theirs: Any,
        assert_same: Any,
    ) -> None:
        other = copy.deepcopy(sdxl_controlnet)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(0.8)
        scheduler = EulerDiscreteScheduler.from_config(loaded_sdxl_base.process.scheduler.config)
        expected = theirs(
            StableDiffusionXLControlNetPipeline,
            MultiControlNetModel([sdxl_controlnet, other]),
            image=[hint, 1 - hint],
            controlnet_conditioning_scale=[0.5, 1.0],
            control_guidance_start=[0.0, 0.5],
            control_guidance_end=[0.75, 1.0],
            scheduler=scheduler,
            **SIZE,
        )
        controls = [
            Control(sdxl_controlnet, hint, scale=0.5, end=0.75),
            Control(other, 1 - hint, start=0.5),
        ]
        assert_same(ours(loaded_sdxl_base, controls, scheduler="euler"), expected)

    def test_image_to_image(
        self,
        loaded_sdxl_base: Base,
        sdxl_controlnet: ControlNetModel,
        hint: Tensor,
        images: np.ndarray,
        theirs: Any,
        assert_same: Any,
    ) -> None:
        expected = theirs(
            StableDiffusionXLControlNetImg2ImgPipeline,
            sdxl_controlnet,
            image=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            control_image=hint,
            num_inference_steps=5,
            strength=0.6,
            **SIZE,
        )
        control, edit = Control(sdxl_controlnet, hint), Edit(images, strength=0.6)
        assert_same(ours(loaded_sdxl_base, [control], edit, steps=3), expected)

    @pytest.mark.parametrize(("strength", "total"), [(1.0, 3), (0.6, 5)])
    def test_masked_diffusion(
        self,
        loaded_sdxl_base: Base,
        sdxl_controlnet: ControlNetModel,
        hint: Tensor,
        images: np.ndarray,
        theirs: Any,
        assert_same: Any,
        strength: float,
        total: int,
    ) -> None:
        mask = np.zeros((2, 64, 96), bool)
        mask[0, 16:48, 24:64] = True
        mask[1, :, :40] = True
        expected = theirs(
            StableDiffusionXLControlNetInpaintPipeline,
            sdxl_controlnet,
            image=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            mask_image=torch.from_numpy(mask)[:, None].float(),
            control_image=hint,
            num_inference_steps=total,
            strength=strength,
            **SIZE,
        )
        control, edit = Control(sdxl_controlnet, hint), Edit(images, mask, strength)
        assert_same(ours(loaded_sdxl_base, [control], edit, steps=3), expected)


def test_images_of_their_own_seeds(
    loaded_sdxl_base: Base, sdxl_controlnet: ControlNetModel, hint: Tensor
) -> None:
    settings: dict[str, Any] = {"steps": 2, **SIZE}
    control = Control(sdxl_controlnet, hint)
    both = sample(loaded_sdxl_base, [control], PROMPTS, seeds=[1, 2], **settings)
    alone = sample(loaded_sdxl_base, [control], PROMPTS[1:], seeds=[2], **settings)
    assert both.shape == (2, 64, 96, 3)
    assert np.abs(both[1].astype(int) - alone[0]).max() <= 1


def test_half_precision_keeps_the_autoencoder_in_float32(random_sdxl_base: Path) -> None:
    base = load_base(random_sdxl_base, dtype="float16")
    assert base.text_encoders[1].model.dtype == base.denoiser.dtype == torch.float16
    assert base.vae.dtype == torch.float32


def test_a_controlnet_for_another_family_is_refused(
    loaded_sdxl_base: Base, random_controlnet: ControlNetModel, hint: Tensor
) -> None:
    with pytest.raises(CnctlError, match="this ControlNet was made for"):
        sample(loaded_sdxl_base, [Control(random_controlnet, hint)], ["a"], seeds=[1], **SIZE)


def test_the_loss_is_that_of_the_networks_told_of_sizes(
    loaded_sdxl_base: Base, sdxl_controlnet: ControlNetModel
) -> None:
    """Equation 10 with SDXL's further conditions, by diffusers' networks called by hand."""
    base, generator = loaded_sdxl_base, torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=generator)
    hint = torch.rand(2, 3, 64, 64, generator=generator)
    timesteps = torch.tensor([20, 800])
    sizes = [(100, 200, 0, 30, 64, 64), (64, 64, 0, 0, 64, 64)]
    text = encode_prompts(base, ["a cat", ""]).of_pictures(sizes)
    added = {"text_embeds": text.pooled, "time_ids": torch.tensor(sizes)}
    given = {"latents": latents, "hint": hint, "timesteps": timesteps, "noise": noise}
    with torch.no_grad():
        loss = noise_prediction_loss(base, sdxl_controlnet, text=text, **given)
        noisy = base.process.scheduler.add_noise(latents, noise, timesteps)
        down, middle = sdxl_controlnet(
            noisy, timesteps, text.tokens, hint, added_cond_kwargs=added, return_dict=False
        )
        predicted = base.denoiser(
            noisy,
            timesteps,
            text.tokens,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        plain = text.of_pictures([whole_picture(64, 64)] * 2)
        other = noise_prediction_loss(base, sdxl_controlnet, text=plain, **given)
    torch.testing.assert_close(loss, ((predicted - noise) ** 2).mean())
    assert other != loss
