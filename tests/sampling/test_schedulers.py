"""diffusers' schedulers by name: each denoises or is refused in a sentence."""

import diffusers
import pytest
import torch

from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base
from cnctl.models.prompts import encode_prompts
from cnctl.sampling.denoise import denoise, draw_noise
from cnctl.sampling.schedulers import build_scheduler

ALL = sorted(name for name in dir(diffusers.schedulers) if name.endswith("Scheduler"))
SUIT = {
    "DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep",
    "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete", "HeunDiscrete",
    "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete", "PNDM", "SASolver", "TCD",
    "UniPCMultistep",
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore:__array")
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
