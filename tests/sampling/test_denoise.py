"""Our denoising loop against diffusers' own pipeline, and what ours promises beyond it."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.process import Diffusion
from cnctl.models.prompts import encode_prompts
from cnctl.models.unet.branch import predict_noise
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.sampling.denoise import denoise, draw_noise, sample
from cnctl.sampling.schedulers import build_scheduler

SIZE = {"height": 64, "width": 72}
STEPS = 4


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 72, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def other_controlnet(random_controlnet: ControlNetModel) -> ControlNetModel:
    other = copy.deepcopy(random_controlnet)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.8)
    return other


def ours(base: Base, controls: list[Control], **settings: Any) -> Tensor:
    """Latents of two images, in the way of `sample`."""
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    return denoise(
        base,
        controls,
        draw_noise(base, generators, **SIZE),
        text=encode_prompts(base, ["a red house", "a cat"]),
        negative_text=encode_prompts(base, ["", "blurry"]),
        generators=generators,
        steps=STEPS,
        **settings,
    )


@pytest.fixture(scope="module")
def theirs(stock: Any) -> Callable[..., Tensor]:
    """Latents of the same two images by diffusers' pipeline."""

    def run(base: Base, controlnet: nn.Module, hints: Any, **settings: Any) -> Tensor:
        return stock(
            StableDiffusionControlNetPipeline,
            base,
            controlnet,
            ["a red house", "a cat"],
            image=hints,
            negative_prompt=["", "blurry"],
            generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
            num_inference_steps=STEPS,
            guidance_scale=9.0,
            **settings,
        )

    return run


class TestEqualsDiffusers:
    """The same latents in float32."""

    def test_scale_start_and_end(
        self,
        theirs: Any,
        assert_same: Any,
        loaded_random_base: Base,
        random_controlnet: ControlNetModel,
        hint: Tensor,
        counted: Any,
    ) -> None:
        part = {"control_guidance_start": 0.2, "control_guidance_end": 0.75}
        expected = theirs(
            loaded_random_base,
            random_controlnet,
            hint,
            controlnet_conditioning_scale=0.7,
            **part,
        )
        control = Control(random_controlnet, hint, scale=0.7, start=0.2, end=0.75)
        with counted(random_controlnet.conv_in) as calls:
            latents = ours(loaded_random_base, [control])
        assert_same(latents, expected)
        assert calls == [4, 4]  # steps 1 and 2 of 0 to 3; two images, two halves

    @pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
    @pytest.mark.parametrize("name", ["unipc", "UniPCMultistepScheduler"])
    def test_another_scheduler(
        self,
        theirs: Any,
        assert_same: Any,
        loaded_random_base: Base,
        random_controlnet: ControlNetModel,
        hint: Tensor,
        name: str,
    ) -> None:
        scheduler = UniPCMultistepScheduler.from_config(loaded_random_base.process.scheduler.config)
        expected = theirs(loaded_random_base, random_controlnet, hint, scheduler=scheduler)
        latents = ours(loaded_random_base, [Control(random_controlnet, hint)], scheduler=name)
        assert_same(latents, expected)


class TestSample:
    def sample(self, base: Base, controls: list[Control], **settings: Any) -> np.ndarray:
        given = {"seeds": [3], "steps": STEPS, **SIZE, **settings}
        return sample(base, controls, given.pop("prompts", ["a cat"]), **given)

    def test_an_image_is_the_same_alone_and_in_a_batch(
        self, loaded_random_base: Base, random_controlnet: ControlNetModel, hint: Tensor
    ) -> None:
        hints = torch.cat([hint, 1 - hint, hint / 2])
        prompts, seeds = ["a cat", "a dog", "a cat"], [1, 2, 3]
        batch = self.sample(
            loaded_random_base, [Control(random_controlnet, hints)], prompts=prompts, seeds=seeds
        )
        assert batch.shape == (3, 64, 72, 3)
        assert batch.dtype == np.uint8
        for i in range(3):
            alone = self.sample(
                loaded_random_base,
                [Control(random_controlnet, hints[i : i + 1])],
                prompts=[prompts[i]],
                seeds=[seeds[i]],
            )
            # Sums run in another order in another batch size: the last bit may round otherwise.
            difference = np.abs(batch[i].astype(int) - alone[0])
            assert difference.max() <= 1
        assert np.abs(batch[0].astype(int) - batch[1]).max() > 10

    def test_noise_added_at_each_step_is_each_images_own(self, loaded_random_base: Base) -> None:
        settings = {"scheduler": "ddpm", "steps": 3}
        both = self.sample(loaded_random_base, [], prompts=["a", "b"], seeds=[1, 2], **settings)
        alone = self.sample(loaded_random_base, [], prompts=["b"], seeds=[2], **settings)
        assert np.abs(both[1].astype(int) - alone[0]).max() <= 1

    def test_scale_zero_is_the_base_exactly_and_runs_nothing(
        self,
        loaded_random_base: Base,
        random_controlnet: ControlNetModel,
        hint: Tensor,
        counted: Any,
    ) -> None:
        plain = self.sample(loaded_random_base, [])
        off = [
            Control(random_controlnet, hint, scale=0),
            Control(random_controlnet, hint, residual_scales=[0.0] * 9),
            Control(random_controlnet, hint, step_scales=[0.0] * STEPS),
            Control(random_controlnet, hint, start=0.5, end=0.5),
        ]
        encoder = random_controlnet.controlnet_cond_embedding
        with counted(random_controlnet.conv_in) as calls, counted(encoder) as encoded:
            assert np.array_equal(self.sample(loaded_random_base, off), plain)
        assert calls == encoded == []

    def test_hint_is_encoded_once(
        self,
        loaded_random_base: Base,
        random_controlnet: ControlNetModel,
        hint: Tensor,
        counted: Any,
    ) -> None:
        with counted(random_controlnet.controlnet_cond_embedding) as encoded:
            self.sample(loaded_random_base, [Control(random_controlnet, hint)])
        assert encoded == [1]

    def test_a_fresh_controlnet_changes_nothing(
        self, loaded_random_base: Base, hint: Tensor
    ) -> None:
        fresh = build_controlnet(loaded_random_base.denoiser)
        controlled = self.sample(loaded_random_base, [Control(fresh, hint)])
        assert np.array_equal(controlled, self.sample(loaded_random_base, []))

    def test_no_guidance_is_one_half(self, loaded_random_base: Base, counted: Any) -> None:
        with counted(loaded_random_base.denoiser) as calls:
            self.sample(loaded_random_base, [], guidance_scale=1)
        assert calls == [1] * STEPS

    def test_guidance_is_that_of_the_two_halves(
        self, loaded_random_base: Base, random_controlnet: ControlNetModel, hint: Tensor
    ) -> None:
        base = loaded_random_base
        noise = draw_noise(base, [torch.Generator().manual_seed(0)], **SIZE)
        text, negative = encode_prompts(base, ["a cat"]), encode_prompts(base, ["a dog"])
        latents = denoise(
            base,
            [Control(random_controlnet, hint)],
            noise,
            text=text,
            negative_text=negative,
            guidance_scale=3.0,
            steps=1,
        )
        halves = []
        with torch.no_grad():
            for features in (negative, text):
                given = (noise, torch.tensor(1), features)
                residuals = random_controlnet.residuals(base, *given, hint)
                halves.append(predict_noise(base.denoiser, *given, residuals))
        guided = halves[0] + 3.0 * (halves[1] - halves[0])
        signal = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
        clean = (noise - (1 - signal[1]).sqrt() * guided) / signal[1].sqrt()
        # One DDIM step from timestep 1 ends at the schedule's first.
        expected = signal[0].sqrt() * clean + (1 - signal[0]).sqrt() * guided
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("steps", [1, 3, 7, 999])
    def test_steps_is_the_number_that_runs(
        self, loaded_random_base: Base, steps: int, counted: Any
    ) -> None:
        schedule = build_scheduler(loaded_random_base, "ddim")
        schedule.set_timesteps(steps)
        assert len(schedule.timesteps) == steps
        if steps == 7:
            done: list[int] = []
            with counted(loaded_random_base.denoiser) as calls:
                self.sample(loaded_random_base, [], steps=7, on_step=done.append)
            assert len(calls) == 7
            assert done == [1, 2, 3, 4, 5, 6, 7]


class TestRefuses:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"height": 60}, "72x60 pixels cannot be generated"),
            ({"steps": 0}, "0 steps"),
            ({"steps": 1000}, "1000 steps start outside"),
            ({"steps": 1001}, "1001 steps"),
            ({"scheduler": "eulr"}, "unknown scheduler 'eulr'"),
            ({"scheduler": "flow_match_euler_discrete"}, "does not suit random"),
            ({"seeds": [1, 2]}, "one seed and one negative prompt for each prompt"),
        ],
    )
    def test_settings(self, loaded_random_base: Base, settings: dict, message: str) -> None:
        with pytest.raises(CnctlError, match=message) as caught:
            sample(loaded_random_base, [], ["a cat"], **{"seeds": [1], **SIZE, **settings})
        assert caught.value.hint or "seeds" in settings

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"hint": torch.zeros(1, 1, 64, 72)}, r"a hint of shape \(1, 1, 64, 72\)"),
            ({"hint": torch.zeros(2, 3, 64, 72)}, r"a hint of shape \(2, 3, 64, 72\)"),
            ({"hint": torch.zeros(1, 3, 72, 64)}, "the hint has 64x72 pixels, the image 72x64"),
            ({"hint": torch.full((1, 3, 64, 72), 255.0)}, r"not in \[0, 1\]"),
            ({"hint": torch.zeros(1, 3, 64, 72).byte()}, r"not in \[0, 1\]"),
            ({"start": 0.6, "end": 0.5}, "control_start is 0.6 and control_end 0.5"),
            ({"end": 1.5}, "control_start is 0.0 and control_end 1.5"),
            ({"mode": "guess"}, "unknown control mode 'guess'"),
            ({"residual_scales": [1.0, 1.0]}, "2 residual scales for 9 residuals"),
            ({"step_scales": [1.0] * 3}, "3 step scales for 20 steps"),
        ],
    )
    def test_controls(
        self,
        loaded_random_base: Base,
        random_controlnet: ControlNetModel,
        hint: Tensor,
        changes: dict,
        message: str,
    ) -> None:
        control = dataclasses.replace(Control(random_controlnet, hint), **changes)
        with pytest.raises(CnctlError, match=message):
            sample(loaded_random_base, [control], ["a cat"], seeds=[1], **SIZE)

    def test_a_controlnet_of_another_family(
        self, loaded_random_base: Base, random_controlnet: ControlNetModel, hint: Tensor
    ) -> None:
        other = copy.deepcopy(random_controlnet)
        other.register_to_config(
            cross_attention_dim=1024,
            block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2,
        )
        with pytest.raises(CnctlError, match=r"this ControlNet was made for SD 2.x; the base is U"):
            sample(loaded_random_base, [Control(other, hint)], ["a"], seeds=[1], **SIZE)


class TestPreviews:
    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    @pytest.mark.parametrize("name", ["ddim", "euler", "euler_ancestral", "heun"])
    @pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
    def test_an_estimate_is_the_schedulers_own(
        self, loaded_random_base: Base, name: str, prediction_type: str
    ) -> None:
        scheduler = _predicting(loaded_random_base, prediction_type)
        base = dataclasses.replace(loaded_random_base, process=Diffusion(scheduler))
        schedule = build_scheduler(base, name)
        schedule.set_timesteps(5)
        timestep = schedule.timesteps[2]
        generator = torch.Generator().manual_seed(0)
        latents, predicted = torch.randn(2, 1, 4, 8, 8, generator=generator)
        if hasattr(schedule, "set_begin_index"):
            schedule.set_begin_index(2)
        given = schedule.scale_model_input(latents, timestep)
        found = base.process.estimate_clean(schedule, given, predicted, timestep)
        expected = schedule.step(predicted, timestep, latents).pred_original_sample
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_previews_come_on_request_and_change_nothing(
        self, loaded_random_base: Base, random_controlnet: ControlNetModel, hint: Tensor
    ) -> None:
        def image(**hooks: Any) -> np.ndarray:
            controls, seeds = [Control(random_controlnet, hint)], [3, 4]
            return sample(
                loaded_random_base, controls, ["a", "b"], seeds=seeds, **SIZE, steps=5, **hooks
            )

        seen: dict[int, np.ndarray] = {}
        watched = image(on_preview=seen.__setitem__, preview_every=2)
        assert np.array_equal(watched, image())
        assert [*seen] == [2, 4]
        assert all(picture.shape == watched.shape for picture in seen.values())
        far, near = (np.abs(seen[step] - watched.astype(float)).mean() for step in (2, 4))
        assert near < far, "they come nearer to the image"


def _predicting(base: Base, prediction_type: str) -> Any:
    return type(base.process.scheduler).from_config(
        base.process.scheduler.config, prediction_type=prediction_type
    )
