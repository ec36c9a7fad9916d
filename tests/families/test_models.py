"""What a family promises of its models: each equals diffusers' own pipelines in float32."""

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from cnctl.commands.shared.weights import NamedControl, check_controls
from cnctl.errors import CnctlError
from cnctl.models import offload
from cnctl.models.base import Base
from cnctl.models.control import Control, ControlRunner
from cnctl.models.families import load_base, read_family
from cnctl.models.network import Network
from cnctl.models.process import Process
from cnctl.models.prompts import encode_prompts
from cnctl.models.quantize import quantize_base
from cnctl.models.text_features import whole_picture
from cnctl.registry import get_condition
from cnctl.sampling.denoise import denoise, draw_noise, sample
from cnctl.sampling.image_to_image import Edit, encode_edit
from cnctl.settings import TrainSettings
from cnctl.training.loss import noise_prediction_loss

SIZE = {"height": 64, "width": 80}
PROMPTS, NEGATIVE = ["a red house", "a cat"], ["ugly", "blurry"]
STEPS, GUIDANCE = 4, 5.0


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (3, 4)]


class TestRecognise:
    def test_by_its_configs_alone(self, case: Any, tmp_path: Path) -> None:
        (tmp_path / case.part).mkdir()
        (tmp_path / "model_index.json").write_text(
            json.dumps({case.part: ["diffusers", case.reference.denoiser]})
        )
        (tmp_path / case.part / "config.json").write_text(json.dumps(case.published))
        family = read_family(tmp_path)
        assert family.name == case.name
        assert all(weights for weights in family.controlnets.values())

    def test_its_recipe_are_settings_of_training(self, case: Any, base: Base) -> None:
        recipe = base.defaults.get("train", {})
        assert recipe.keys() <= {f.name for f in fields(TrainSettings)}
        if case.part == "transformer":  # the paper's settings are those of U-Nets
            assert {"steps", "learning_rate"} <= recipe.keys()

    def test_a_controlnet_for_another_is_refused(
        self, base: Base, saved: Path, loaded_random_base: Base, loaded_sdxl_base: Base
    ) -> None:
        """Headers are enough; `network.check_fits` asks the same of what is in memory."""
        other = next(
            b for b in (loaded_sdxl_base, loaded_random_base) if b.family.name != base.family.name
        )
        canny = get_condition("canny")
        with pytest.raises(CnctlError, match="this ControlNet was made for") as caught:
            check_controls(other.path, [NamedControl(canny, str(saved))])
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


def test_prompts_are_as_diffusers_encodes_them(
    case: Any, base: Base, network: Network, stock_of: Any
) -> None:
    reference = case.reference
    pipeline = stock_of(reference.text_to_image, base, reference.own_network(network))
    given: dict[str, Any] = {"device": "cpu", "num_images_per_prompt": 1}
    given |= {"do_classifier_free_guidance": False, "prompt_2": None, "prompt_3": None}
    taken = inspect.signature(pipeline.encode_prompt).parameters
    given = {name: value for name, value in given.items() if name in taken}
    with torch.no_grad():
        tokens, pooled = reference.read(*pipeline.encode_prompt([*PROMPTS], **given))
    features = encode_prompts(base, PROMPTS)
    torch.testing.assert_close(features.tokens, tokens, rtol=1e-5, atol=1e-6)
    if pooled is not None:
        torch.testing.assert_close(features.pooled, pooled, rtol=1e-5, atol=1e-6)


def test_images_are_encoded_as_the_autoencoder_has_them(
    case: Any, base: Base, images: np.ndarray
) -> None:
    latents = base.family.latents
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        mean = case.reference.encode(base, pixels)
        decoded = case.reference.decode(base, mean)
    made = latents.draw(base, latents.encode(base, images), generator=None)
    torch.testing.assert_close(made, mean)
    assert made.shape[1:] == latents.shape(base, **SIZE)
    expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(latents.decode(base, mean) - expected).max() <= 0.51


def test_residuals_are_those_of_diffusers_network(case: Any, base: Base, network: Network) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *base.family.latents.shape(base, **SIZE), generator=generator)
    hint = torch.rand(2, 3, 64, 80, generator=generator)
    sizes = [(64, 80, 0, 0, 64, 80)] * 2
    text = encode_prompts(base, PROMPTS).guided_by(base.distilled_guidance)
    timestep = torch.tensor(500)
    with torch.no_grad():
        theirs = case.reference.residuals(base, network, latents, timestep, text, hint, sizes)
        encoded = network.encode_hint(base, hint)
        found = network.residuals(base, latents, timestep, text.of_pictures(sizes), encoded)
    assert network.residual_count == len(theirs)
    for ours, expected in zip(found.tensors, theirs, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def hints_by_their_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where diffusers draws a hint's latents without a seed, it takes the mode too."""
    draw = DiagonalGaussianDistribution.sample

    def sample(self: Any, generator: Any = None) -> Tensor:
        return self.mode() if generator is None else draw(self, generator)

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", sample)


@pytest.fixture
def nothing_drawn_for_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where diffusers draws a hint's latents by the images' generators, it takes the mode too."""
    mode = DiagonalGaussianDistribution.mode
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, *_, **__: mode(self))


@pytest.fixture(scope="session")
def theirs(case: Any, stock: Any, base: Base) -> Callable[..., Tensor]:
    """Latents of the prompts by a pipeline of diffusers."""

    def run(kind: Any, controlnet: Any, **settings: Any) -> Tensor:
        given = {
            "negative_prompt": [*NEGATIVE],  # some pipelines write into what they are given
            "generator": generators(),
            **case.reference.guided(GUIDANCE),
            "num_inference_steps": STEPS,
            "controlnet_conditioning_scale": 1.0,
            **settings,
        }
        taken = {"scheduler", *inspect.signature(kind.__call__).parameters}
        given = {name: value for name, value in given.items() if name in taken}
        return case.reference.latents(stock(kind, base, controlnet, [*PROMPTS], **given))

    return run


@pytest.mark.usefixtures("hints_by_their_mode")
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
            **{"steps": STEPS, "scheduler": base.process.schedulers[0], **settings},
        )

    def controls(self, case: Any, network: Any, hint: Tensor) -> list[Control]:
        """What diffusers' pipelines for editing take."""
        return [Control(network, hint)] if case.reference.edits_with_control else []

    @pytest.mark.usefixtures("nothing_drawn_for_hints")
    def test_one_control(
        self, case: Any, base: Base, network: Any, hint: Tensor, theirs: Any, assert_same: Any
    ) -> None:
        reference = case.reference
        given = {reference.hint_argument: reference.own_hint(hint)}
        expected = theirs(reference.text_to_image, reference.own_network(network), **given, **SIZE)
        latents = self.ours(base, [Control(network, hint)])
        assert_same(latents, expected)
        without = self.ours(base, [])
        assert (latents - without).abs().max() > 0.05  # else the comparison shows nothing

    @pytest.mark.usefixtures("nothing_drawn_for_hints")
    def test_steps_without_guidance_read_the_prompt_alone(
        self, base: Base, network: Any, hint: Tensor, assert_same: Any
    ) -> None:
        controls, own = [Control(network, torch.cat([hint, 1 - hint]))], generators()
        unguided = denoise(
            base,
            controls,
            draw_noise(base, own, **SIZE),
            text=encode_prompts(base, PROMPTS),
            generators=own,
            steps=STEPS,
            scheduler=base.process.schedulers[0],
        )
        assert_same(self.ours(base, controls, guidance_interval=(0.0, 0.0)), unguided)
        first = self.ours(base, controls, guidance_interval=(0.0, 0.5))
        assert (first - unguided).abs().max() > 1e-3

    @pytest.mark.usefixtures("nothing_drawn_for_hints")
    @pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
    def test_two_controls_from_start_to_end_by_another_scheduler(
        self, case: Any, several: Any, base: Base, network: Any, build: Any, hint: Tensor,
        theirs: Any, assert_same: Any,
    ) -> None:  # fmt: skip
        other = build(seed=2).requires_grad_(False)
        reference = case.reference
        expected = theirs(
            reference.text_to_image,
            several([network, other]),
            **{reference.hint_argument: [*map(reference.own_hint, (hint, 1 - hint))]},
            controlnet_conditioning_scale=[0.5, 1.0],
            control_guidance_start=[0.0, 0.5],
            control_guidance_end=[0.75, 1.0],
            scheduler=reference.scheduler.from_config(base.process.scheduler.config),
            **SIZE,
        )
        controls = [
            Control(network, hint, scale=0.5, end=0.75),
            Control(other, 1 - hint, start=0.5),
        ]
        assert_same(self.ours(base, controls, scheduler=case.another_scheduler), expected)

    def test_image_to_image(
        self, case: Any, base: Base, network: Any, hint: Tensor, images: np.ndarray, theirs: Any,
        assert_same: Any,
    ) -> None:  # fmt: skip
        """3 steps at strength 0.6 are the last of the 5 that diffusers gets."""
        expected = theirs(
            case.reference.image_to_image,
            network,
            image=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            control_image=hint,
            num_inference_steps=5,
            strength=0.6,
            **SIZE,
        )
        edit, controls = Edit(images, strength=0.6), self.controls(case, network, hint)
        assert_same(self.ours(base, controls, edit, steps=3), expected)

    @pytest.mark.parametrize(
        ("strength", "total"), [pytest.param(1.0, 3, marks=pytest.mark.slow), (0.6, 5)]
    )
    def test_masked(
        self, inpainting: Any, case: Any, base: Base, network: Any, hint: Tensor,
        images: np.ndarray, theirs: Any, assert_same: Any, strength: float, total: int,
    ) -> None:  # fmt: skip
        """The mask follows the borders of latents, where diffusers' nearest neighbour is exact."""
        mask = np.zeros((2, 64, 80), bool)
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
        edit, controls = Edit(images, mask, strength), self.controls(case, network, hint)
        assert_same(self.ours(base, controls, edit, steps=3), expected)


def test_an_image_is_the_same_alone_and_in_a_batch(
    base: Base, network: Network, hint: Tensor
) -> None:
    settings: dict[str, Any] = {"steps": 2, "scheduler": base.process.schedulers[0], **SIZE}
    both = sample(base, [Control(network, hint)], PROMPTS, seeds=[1, 2], **settings)
    alone = sample(base, [Control(network, hint)], PROMPTS[1:], seeds=[2], **settings)
    assert both.shape == (2, 64, 80, 3)
    assert np.abs(both[1].astype(int) - alone[0]).max() <= 1


def test_a_fresh_controlnet_changes_nothing(base: Base, build: Any, hint: Tensor) -> None:
    """Equations 3 and 4."""
    scheduler = base.process.schedulers[0]
    settings: dict[str, Any] = {"seeds": [1], "steps": 1, "scheduler": scheduler, **SIZE}
    controlled = sample(base, [Control(build(fresh=True), hint)], ["a cat"], **settings)
    assert np.array_equal(controlled, sample(base, [], ["a cat"], **settings))


def test_the_loss_is_equation_10_by_diffusers_networks(case: Any, base: Base, network: Any) -> None:
    """Noise of the scheduler, networks that read sizes, the mean square of what is missed."""
    generator = torch.Generator().manual_seed(0)
    shape = base.family.latents.shape(base, 64, 64)
    latents, noise = torch.randn(2, 2, *shape, generator=generator)
    hint = torch.rand(2, 3, 64, 64, generator=generator)
    timesteps, process = torch.tensor([20, 800]), base.process
    sizes = [(100, 200, 0, 30, 64, 64), (64, 64, 0, 0, 64, 64)]
    text = encode_prompts(base, ["a cat", ""]).guided_by(base.distilled_guidance)
    with torch.no_grad():
        loss = noise_prediction_loss(
            base, network, latents=latents, hint=hint, timesteps=timesteps, noise=noise,
            text=text.of_pictures(sizes),
        )  # fmt: skip
        noisy, target = noised(process, latents, noise, timesteps)
        residuals = case.reference.residuals(base, network, noisy, timesteps, text, hint, sizes)
        predicted = case.reference.predict(base, noisy, timesteps, text, sizes, residuals)
    torch.testing.assert_close(loss, ((predicted - target) ** 2).mean())


def noised(
    process: Process, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> tuple[Tensor, Tensor]:
    """Noisy latents and what is to be predicted of them, by diffusers' scheduler or by hand."""
    scheduler = process.scheduler
    if process.prediction == "flow":
        sigma = (timesteps / 1000).reshape(-1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise, noise - latents
    noisy = scheduler.add_noise(latents, noise, timesteps)
    predicts_v = process.prediction == "v_prediction"
    return noisy, scheduler.get_velocity(latents, noise, timesteps) if predicts_v else noise


def test_it_trains_what_it_runs(base: Base, network: Network) -> None:
    """The prediction in the loss equals the one in sampling, of the same latents and time."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *base.family.latents.shape(base, 64, 64), generator=generator)
    hint, timestep = torch.rand(1, 3, 64, 64, generator=generator), torch.tensor(300)
    text = encode_prompts(base, ["a cat"]).of_pictures([whole_picture(64, 64)])
    text = text.guided_by(base.distilled_guidance)
    with torch.no_grad():
        trained = network.predict(base, latents, timestep[None], text, hint)
        runner = ControlRunner(base, [Control(network, hint)], steps=1, guided=False)
        residuals = runner.residuals(0, latents, timestep, text, guided=False)
        run = base.family.predict(base.denoiser, latents, timestep, text, residuals)
        without = base.family.predict(base.denoiser, latents, timestep, text, None)
    torch.testing.assert_close(trained, run, rtol=0, atol=0)
    assert not torch.allclose(trained, without)


def predicted(base: Base, network: Network | None = None) -> Tensor:
    """Of the same latents, time, prompt and hint, for one image."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *base.family.latents.shape(base, 64, 64), generator=generator)
    hint = torch.rand(1, 3, 64, 64, generator=generator)
    text = encode_prompts(base, ["a cat"]).of_pictures([whole_picture(64, 64)])
    text = text if base.distilled_guidance is None else text.guided_by(3.5)
    controls = [Control(network, hint)] if network else []
    runner = ControlRunner(base, controls, steps=1, guided=False)
    timestep = torch.tensor(300)
    with torch.no_grad():
        residuals = runner.residuals(0, latents, timestep, text, guided=False)
        return base.family.predict(base.denoiser, latents, timestep, text, residuals)


@pytest.mark.slow
def test_layers_that_wait_elsewhere_give_the_same(
    source: str, base: Base, build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait on the disk, so that what a layer has before and after it runs is nothing."""
    expected = predicted(base, build())
    own, network = load_base(source), build()
    move = offload.apply_group_offloading
    for number, module in enumerate((own.denoiser, network)):
        disk = str(tmp_path / str(number))
        monkeypatch.setattr(
            offload, "apply_group_offloading", functools.partial(move, offload_to_disk_path=disk)
        )
        # Those of no layer may be read from the host.
        kept = {name: p.detach().clone() for name, p in module.named_parameters(recurse=False)}
        offload.move_layers(module, torch.device("cpu"))
        for name, parameter in module.named_parameters(recurse=False):
            parameter.data = kept[name]
    # Where in memory a tensor lies changes the last bits.
    torch.testing.assert_close(predicted(own, network), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["int8", "nf4"])
def test_a_quantized_base_predicts_nearly_the_same(source: str, base: Base, form: str) -> None:
    small = quantize_base(load_base(source, low_memory=True), form, low_memory=False)
    expected, found = predicted(base), predicted(small)
    assert not torch.equal(found, expected)
    assert (found - expected).norm() < {"int8": 0.1, "nf4": 0.5}[form] * expected.norm()
