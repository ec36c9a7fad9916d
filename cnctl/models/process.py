"""Noise processes: how noise is added to latents, and what a network predicts.

A base has one. Training draws timesteps and targets from it; sampling asks it which schedulers
suit, where a run starts, and what a prediction says of the clean latents.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

MODE_SCALE = 1.29
"""Of the density by its mode, as in diffusers."""


class Process(Protocol):
    """A noise process over latents (B, C, h, w); timesteps are (B,) unless said otherwise."""

    @property
    def scheduler(self) -> Any:
        """The base's own diffusers scheduler, whose config every other one is made from."""

    @property
    def prediction(self) -> str:
        """What the network predicts: "epsilon", "v_prediction" or "flow"."""

    @property
    def schedulers(self) -> tuple[str, ...]:
        """Names of schedulers to recommend; the base's own is the first."""

    @property
    def last_timestep(self) -> float:
        """The noisiest timestep."""

    @property
    def densities(self) -> tuple[str, ...]:
        """Names of the densities of timesteps to train on; the first is the default."""

    def draw_timestep(self, generator: torch.Generator, *, density: str) -> Tensor:
        """A timestep (1,) to train on. density: one of `densities`."""

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The latents as noisy as these timesteps have them."""

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network is to predict."""

    @property
    def weightings(self) -> tuple[str, ...]:
        """Names of the weights of timesteps in the loss; the first is "none"."""

    def weights(self, timesteps: Tensor, weighting: str) -> Tensor:
        """Weights (B,) of the losses of samples. weighting: one of `weightings`."""

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Weights (B,) of the losses of samples by min-SNR (Hang et al., 2023, equation 9)."""

    def suits(self, kind: Any) -> bool:
        """Whether a diffusers scheduler class denoises this process, given the last step alone."""

    def spacing(self, schedule: Any, steps: int, *, tokens: int) -> dict[str, Any]:
        """The arguments of a schedule's `set_timesteps` for an image of so many tokens."""

    def start(self, schedule: Any, noise: Tensor) -> Tensor:
        """The latents that a run from noise alone starts with."""

    def noised(self, schedule: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The latents as noisy as a schedule has them at a timestep (1,)."""

    def network_input(self, schedule: Any, latents: Tensor, timestep: Tensor) -> Tensor:
        """The latents scaled as the network reads them at a timestep ()."""

    def estimate_clean(
        self, schedule: Any, given: Tensor, predicted: Tensor, timestep: Tensor
    ) -> Tensor:
        """The latents without noise that a prediction implies. given: as the network read them."""


@dataclass(frozen=True)
class Diffusion:
    """Denoising diffusion (Ho et al., 2020): the paper's z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) ε."""

    scheduler: Any
    """A DDIMScheduler; the paper samples by DDIM (section 4.1)."""

    schedulers = ("ddim", "euler", "euler_ancestral", "unipc", "dpm_solver_multistep")
    densities = ("uniform",)
    weightings = ("none",)

    @property
    def prediction(self) -> str:
        return self.scheduler.config.prediction_type

    @property
    def last_timestep(self) -> float:
        return self.scheduler.config.num_train_timesteps - 1

    def draw_timestep(self, generator: torch.Generator, *, density: str) -> Tensor:
        return torch.randint(self.scheduler.config.num_train_timesteps, (1,), generator=generator)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.prediction == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timesteps)
        return noise

    def weights(self, timesteps: Tensor, weighting: str) -> Tensor:
        return torch.ones_like(timesteps, dtype=torch.float32)

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        kept = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        snr = kept / (1 - kept)
        return snr.clamp(max=gamma) / (snr + (self.prediction == "v_prediction"))

    def suits(self, kind: Any) -> bool:
        made_of = inspect.signature(kind.__init__).parameters
        if "beta_start" not in made_of or "Inverse" in kind.__name__:
            return False
        if {"noise_sampler_seed", "snr_shift_scale"} & made_of.keys():
            return False  # noise that is not each image's own; CogVideoX's bent schedule
        return steps_alone(kind)

    def spacing(self, schedule: Any, steps: int, *, tokens: int) -> dict[str, Any]:
        return {"num_inference_steps": steps}

    def start(self, schedule: Any, noise: Tensor) -> Tensor:
        return noise * schedule.init_noise_sigma

    def noised(self, schedule: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        return schedule.add_noise(latents, noise, timestep)

    def network_input(self, schedule: Any, latents: Tensor, timestep: Tensor) -> Tensor:
        return schedule.scale_model_input(latents, timestep)

    def estimate_clean(
        self, schedule: Any, given: Tensor, predicted: Tensor, timestep: Tensor
    ) -> Tensor:
        # Every scheduler here gives the network sqrt(alpha) times what is clean and sqrt(1 - alpha)
        # times the noise (Song et al., 2021, equation 4).
        place = timestep.float().clamp(0, len(schedule.alphas_cumprod) - 1)
        low, high = (schedule.alphas_cumprod[int(end)] for end in (place.floor(), place.ceil()))
        alpha = torch.lerp(low.float(), high.float(), place.frac()).to(given.device)
        kept, noisy = alpha.sqrt(), (1 - alpha).sqrt()
        if schedule.config.prediction_type == "v_prediction":
            return kept * given - noisy * predicted
        return (given - noisy * predicted) / kept


@dataclass(frozen=True)
class FlowMatching:
    """Rectified flow (Liu et al., 2022; Esser et al., 2024): z_t = (1 - σ) z_0 + σ ε, σ = t / N.

    The network predicts the velocity ε - z_0. Timesteps are floats in (0, N].
    """

    scheduler: Any
    """A FlowMatchEulerDiscreteScheduler; where it shifts dynamically, by the image's tokens."""
    even: bool = False
    """Whether σ falls evenly from 1 to 1 / steps before it is shifted, and not as the scheduler
    itself spaces it."""

    prediction = "flow"
    densities = ("logit_normal", "uniform", "mode")
    weightings = ("none", "cosmap", "sigma_sqrt")

    @property
    def schedulers(self) -> tuple[str, ...]:
        return ("flow_match_euler",) if self.even else ("flow_match_euler", "flow_match_heun")

    @property
    def last_timestep(self) -> float:
        return self.scheduler.config.num_train_timesteps

    def draw_timestep(self, generator: torch.Generator, *, density: str) -> Tensor:
        """Logit-normal with mean 0 and deviation 1, or uniform, or by its mode.

        By Esser et al. (2024, section 3.1), whose "mode" here has the scale 1.29. Then shifted as
        the base's schedule is, but for a dynamic shift, as in diffusers' scripts.
        """
        if density == "logit_normal":
            sigma = torch.sigmoid(torch.randn(1, generator=generator))
        else:
            sigma = 1 - torch.rand(1, generator=generator)
        if density == "mode":
            sigma -= MODE_SCALE * (torch.sin(math.pi * sigma / 2).square() - sigma)
        config = self.scheduler.config
        shift = 1.0 if config.use_dynamic_shifting else config.shift
        return self.last_timestep * shift * sigma / (1 + (shift - 1) * sigma)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        sigma = self._sigma(timesteps, like=latents)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise - latents

    def weights(self, timesteps: Tensor, weighting: str) -> Tensor:
        """By Esser et al. (2024, section 3.1), as in diffusers: "sigma_sqrt" is 1 / σ²."""
        sigma = timesteps / self.last_timestep
        if weighting == "cosmap":
            return 2 / (math.pi * (1 - 2 * sigma + 2 * sigma.square()))
        return sigma**-2 if weighting == "sigma_sqrt" else torch.ones_like(sigma)

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """For a velocity, min(SNR, γ) / (SNR + 1), with SNR = ((1 - σ) / σ)²."""
        sigma = timesteps / self.last_timestep
        snr = ((1 - sigma) / sigma).square()
        return snr.clamp(max=gamma) / (snr + 1)

    def suits(self, kind: Any) -> bool:
        spaced = inspect.signature(kind.set_timesteps).parameters
        if self.even and not {"sigmas", "mu"} <= spaced.keys():
            return False
        return "shift" in inspect.signature(kind.__init__).parameters and steps_alone(kind)

    def spacing(self, schedule: Any, steps: int, *, tokens: int) -> dict[str, Any]:
        if not self.even:
            return {"num_inference_steps": steps}
        if steps == 1:  # diffusers would divide by 0 to end at the terminal
            schedule.register_to_config(shift_terminal=None)
        config = schedule.config
        mu = dynamic_shift(config, tokens) if config.use_dynamic_shifting else None
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}

    def start(self, schedule: Any, noise: Tensor) -> Tensor:
        return noise

    def noised(self, schedule: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        return schedule.scale_noise(latents, timestep, noise)

    def network_input(self, schedule: Any, latents: Tensor, timestep: Tensor) -> Tensor:
        return latents

    def estimate_clean(
        self, schedule: Any, given: Tensor, predicted: Tensor, timestep: Tensor
    ) -> Tensor:
        return given - self._sigma(timestep.reshape(1), like=given) * predicted

    def _sigma(self, timesteps: Tensor, *, like: Tensor) -> Tensor:
        return (timesteps / self.last_timestep).to(like).reshape(-1, 1, 1, 1)


def dynamic_shift(config: Any, tokens: int) -> float:
    """The μ of a schedule for an image of so many tokens: linear, as diffusers' pipelines have it.

    config: of a FlowMatchEulerDiscreteScheduler.
    """
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return low + (high - low) * (tokens - few) / (many - few)


def steps_alone(kind: Any) -> bool:
    """Whether a step of this scheduler needs nothing but a prediction, a timestep and latents."""
    step = inspect.signature(kind.step).parameters.values()
    needed = [one.name for one in step if one.default is one.empty]
    return needed == ["self", "model_output", "timestep", "sample"]
