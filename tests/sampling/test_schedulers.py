"""diffusers' schedulers by name: each denoises or is refused in a sentence."""

import diffusers
import pytest
import torch

from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base
from cnctl.models.prompts import encode_prompts
from cnctl.sampling.denoise import denoise, draw_noise
from cnctl.sampling.samplers import SAMPLERS
from cnctl.sampling.schedulers import build_scheduler, scheduler_class, set_timesteps

pytestmark = pytest.mark.filterwarnings("ignore:__array")

ALL = sorted(name for name in dir(diffusers.schedulers) if name.endswith("Scheduler"))
SUIT = {
    "DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep",
    "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete", "HeunDiscrete",
    "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete", "PNDM", "SASolver", "TCD",
    "UniPCMultistep",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_each_denoises_sdxl_or_is_refused(loaded_sdxl_base: Base, name: str) -> None:
    base = loaded_sdxl_base
    if name.removesuffix("Scheduler") not in SUIT:
        with pytest.raises((CnctlError, MissingError), match="does not suit random"):
            build_scheduler(base, name)
        return
    generators = [torch.Generator().manual_seed(0)]
    noise = draw_noise(base, generators, height=64, width=64)
    latents = denoise(
        base, [], noise, text=encode_prompts(base, ["a"]), generators=generators, steps=2,
        scheduler=name,
    )  # fmt: skip
    assert torch.isfinite(latents).all()
    assert not torch.equal(latents, noise)
    # On the base's own schedule, whatever the scheduler's defaults are.
    betas = build_scheduler(base, name).betas
    torch.testing.assert_close(betas, base.process.scheduler.betas, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("Euler a", "EulerAncestralDiscreteScheduler", {}),
        ("DPM++ 2M", "DPMSolverMultistepScheduler", {}),
        ("dpm++ 2m karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("euler_exponential", "EulerDiscreteScheduler", {"use_exponential_sigmas": True}),
        ("unipc_beta", "UniPCMultistepScheduler", {"use_beta_sigmas": True}),
        ("PLMS", "PNDMScheduler", {"skip_prk_steps": True}),
    ],
)
def test_names_of_the_web_interfaces_and_spacings(
    loaded_random_base: Base, name: str, kind: str, options: dict[str, bool]
) -> None:
    built = build_scheduler(loaded_random_base, name)
    config = loaded_random_base.process.scheduler.config
    expected = getattr(diffusers, kind).from_config(config, **options)
    built.set_timesteps(7)
    expected.set_timesteps(7)
    assert type(built).__name__ == kind
    assert torch.equal(torch.as_tensor(built.timesteps), torch.as_tensor(expected.timesteps))
    if hasattr(built, "sigmas"):
        assert torch.equal(built.sigmas, expected.sigmas)


def test_every_sampler_is_a_class_that_suits(loaded_random_base: Base) -> None:
    for name, kind in SAMPLERS.items():
        assert scheduler_class(name) == f"{kind}Scheduler"
        assert build_scheduler(loaded_random_base, name)


def test_a_spacing_that_diffusers_lacks_is_refused(loaded_random_base: Base) -> None:
    with pytest.raises(CnctlError, match="diffusers has no karras spacing for it"):
        build_scheduler(loaded_random_base, "DDIM Karras")


@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_more_steps_than_a_scheduler_has_are_refused(loaded_random_base: Base, name: str) -> None:
    schedule = build_scheduler(loaded_random_base, name)
    with pytest.raises(CnctlError, match="60 steps are too many") as caught:
        set_timesteps(schedule, 60, loaded_random_base.process, tokens=64)
    assert caught.value.hint == "use at most 50 steps"


def test_lms_from_the_middle_ends_at_the_clean_latents(loaded_random_base: Base) -> None:
    """Each linear step is exact for a network that knows the noise: x = clean + sigma noise."""
    schedule = build_scheduler(loaded_random_base, "lms")
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = set_timesteps(schedule, 3, loaded_random_base.process, tokens=64, strength=0.3)
    latents = schedule.add_noise(clean, noise, timesteps[:1])
    for timestep in timesteps:
        schedule.scale_model_input(latents, timestep)
        latents = schedule.step(noise, timestep, latents).prev_sample
    torch.testing.assert_close(latents, clean, rtol=0, atol=1e-4)
