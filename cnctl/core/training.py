"""The training loop: equation 10, AdamW, everything random a function of (seed, epoch, index).

Nothing that is drawn depends on what was drawn before, nor on what stands beside it: not on the
number of data workers, nor on how a batch is split, nor on a run having been killed and resumed.
A run at a step is therefore its weights, the optimizer's moments, the averaged weights where they
are wanted, and the number of the step, which is what a checkpoint holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from cnctl.core.base import Base
from cnctl.core.batches import Batch, Examples, read_batches, torch_generator
from cnctl.core.cache import EncodingCache
from cnctl.core.checkpoints import Checkpoint
from cnctl.core.controlnet import hint_tensor, trainable_parameters
from cnctl.core.device import is_out_of_memory
from cnctl.core.growth import Growth
from cnctl.core.latents import draw_latents, encode_moments
from cnctl.core.loss import noise_prediction_loss
from cnctl.core.memory import how_to_take_less, save_memory
from cnctl.core.methods import Network, hint_channels
from cnctl.core.optimizer import learning_rate_at, make_optimizer
from cnctl.core.order import DRAWN, DROPOUT, epoch_at
from cnctl.core.team import Team
from cnctl.core.text import encode_prompts
from cnctl.core.text_features import TextFeatures
from cnctl.core.unlocking import unlock_parameters
from cnctl.errors import CnctlError, DeviceError
from cnctl.settings import TrainSettings

PRECISIONS = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True)
class StepReport:
    """One finished step. step: how many are finished now. seconds: the time that it took.

    gradient_norm: over all that is trained, before clipping; None where half precision overflowed
    and the step was skipped.
    """

    step: int
    epoch: int
    loss: float
    gradient_norm: float | None
    learning_rate: float
    seconds: float


class DivergedError(CnctlError):
    """The loss, its gradient or a weight is not a finite number. Nothing of this step is kept."""


class Training:
    """A run in memory: a ControlNet that learns beside a locked base, or later together with it.

    Or, by input-concat, a U-Net that learns in the place of the base's. What learns, in float32,
    is moved to the base's device; where the base is in half precision it computes in it too (mixed
    precision). `step` counts the finished steps. In a team of processes each is given the same,
    and reads its own part of each batch; what they learn is the same in all.
    """

    def __init__(
        self,
        base: Base,
        network: Network,
        examples: Examples,
        *,
        settings: TrainSettings,
        cache: EncodingCache | None = None,
        team: Team | None = None,
    ) -> None:
        self.team = team or Team()
        self.base = base
        self.settings = settings
        self.examples = examples
        self.network = network.to(base.device).train()
        save_memory(base, network, settings)
        self.step = 0
        self._growth = Growth()
        self._cache = cache
        self._learning = trainable_parameters(network)
        """What of the network a checkpoint keeps: all, or what low-rank adapters leave."""
        self._trainable = trainable_parameters(network, connect=settings.connect)
        for name in self._learning.keys() - self._trainable.keys():
            self._learning[name].requires_grad_(False)
        self._optimizer = make_optimizer(self._trainable.values(), settings)
        self._average = EMAModel(self._trainable.values(), settings.ema) if settings.ema else None
        self._accelerator = _make_accelerator(base, settings)
        self._locked: dict[str, Tensor] = {}
        objective = _Objective(base, network, settings)
        self._objective, self._stepper = self._accelerator.prepare(objective, self._optimizer)

    def run(self) -> Iterator[StepReport]:
        """Train from the present step to the last, with a report after each.

        Between two reports the run is at a step's boundary and may be saved or sampled from.
        Raises DivergedError when the loss is not a number, DeviceError when memory runs out, and
        whatever the examples raise.
        """
        growth, batches = self._growth, self._read()
        while self.step < self.settings.steps:
            begin = time.perf_counter()
            if growth != self._growth:
                growth, batches = self._growth, self._read()
            if 0 < self.settings.unlock_after <= self.step and not self._locked:
                self._unlock()
            learning_rate = learning_rate_at(self.step, self.settings)
            try:
                loss, norm = self._take_step(batches, learning_rate)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise DeviceError(
                    f"out of memory at step {self.step + 1}", hint=how_to_take_less(self.settings)
                ) from error
            self.step += 1
            yield StepReport(
                step=self.step,
                epoch=epoch_at(
                    growth.read_before(self.step),
                    len(self.examples),
                    self.settings.effective_batch,
                ),
                loss=loss,
                gradient_norm=norm,
                learning_rate=learning_rate,
                seconds=time.perf_counter() - begin,
            )

    def grow(self, times: int) -> int:
        """From the next step on read so many times the first batch; returns how many examples."""
        self._set_growth(Growth(self.step, times))
        return times * self.settings.effective_batch

    @contextmanager
    def averaged(self) -> Iterator[Network]:
        """The network to use: with averaged weights where the settings ask for an average."""
        if self._average is None:
            yield self.network
            return
        self._average.store(self._trainable.values())
        self._average.copy_to(self._trainable.values())
        try:
            yield self.network
        finally:
            self._average.restore(self._trainable.values())

    def base_delta(self) -> dict[str, Tensor]:
        """What the base has learnt: differences to its own weights, {} while all is locked."""
        return {
            name: self._trainable[f"base.{name}"].detach().cpu() - locked
            for name, locked in self._locked.items()
        }

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps, by name. Raises DivergedError if weights are not finite."""
        weights = {name: parameter.detach() for name, parameter in self._learning.items()}
        learnt = {name: self._trainable[f"base.{name}"].detach() for name in self._locked}
        if not all(torch.isfinite(t).all() for t in (*weights.values(), *learnt.values())):
            raise DivergedError(
                f"weights are not finite after step {self.step}", hint="lower the learning rate"
            )
        # Cloned, because 8-bit moments share their code books, which a file may not.
        moments = {k: v.clone() for k, v in self._moments().items() if isinstance(v, Tensor)}
        kept = {"controlnet": weights, "optimizer": moments}
        if learnt:
            kept["base"] = learnt
        if self._average is not None:
            kept["ema"] = dict(zip(self._trainable, self._average.shadow_params, strict=True))
        return kept

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside tensors."""
        scaler = self._accelerator.scaler
        numbers = {k: v for k, v in self._moments().items() if not isinstance(v, Tensor)}
        return {
            "step": self.step,
            "scaler": scaler.state_dict() if scaler else None,
            "optimizer": numbers,
            "unlocked": bool(self._locked),
            "growth": asdict(self._growth),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go to a checkpoint's step. Links that it was trained without start with new moments."""
        kept = checkpoint.tensors("controlnet")
        shapes = {name: tensor.shape for name, tensor in kept.items()}
        if shapes != {name: parameter.shape for name, parameter in self._learning.items()}:
            raise CnctlError(
                f"{checkpoint.path} does not fit this base and condition",
                hint="resume with the ones that it was begun with",
            )
        self.network.load_state_dict(kept, strict=False)
        if checkpoint.state.get("unlocked"):
            self._unlock()
            self.base.unet.load_state_dict(checkpoint.tensors("base"), strict=False)
        self._restore_moments(checkpoint.tensors("optimizer"))
        self._restore_moments(checkpoint.state.get("optimizer", {}))
        if self._average is not None:
            self._restore_average(checkpoint.tensors("ema"), checkpoint.step)
        if self._accelerator.scaler and checkpoint.state["scaler"]:
            self._accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
        self.step = checkpoint.step
        self._set_growth(Growth(**checkpoint.state.get("growth", {})))

    def _set_growth(self, growth: Growth) -> None:
        self._growth = growth
        accumulation = self.settings.gradient_accumulation * growth.times_at(self.step)
        self._accelerator.gradient_accumulation_steps = accumulation
        self._accelerator.step = 0  # it counts the batches of a step by what is left over

    def _read(self) -> Iterator[Batch]:
        first, end = map(self._growth.read_before, (self.step, self.settings.steps))
        return read_batches(self.examples, range(first, end), self.settings, rank=self.team.rank)

    def _unlock(self) -> None:
        """Let the base learn along; what the optimizer knows of the ControlNet stays."""
        opened = unlock_parameters(self.base.unet, self.settings.unlock)
        self._locked = {name: p.detach().cpu().clone() for name, p in opened.items()}
        self._trainable |= {f"base.{name}": parameter for name, parameter in opened.items()}
        self._optimizer.add_param_group({"params": list(opened.values())})
        if self._average is not None:
            self._average.shadow_params += [p.detach().clone() for p in opened.values()]
        if self.settings.gradient_checkpointing:
            self.base.unet.enable_gradient_checkpointing()
        objective = _Objective(self.base, self.network, self.settings)
        objective.unet = self.base.unet  # seen by what sums gradients over the processes
        self._objective = self._accelerator.prepare(objective)

    def _take_step(
        self, batches: Iterator[Batch], learning_rate: float
    ) -> tuple[float, float | None]:
        """One step of the optimizer; returns the mean loss and the gradient's norm."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        losses = []
        for _ in range(self._accelerator.gradient_accumulation_steps):
            with self._accelerator.accumulate(self._objective):
                with self.team.together():
                    loss = self._loss_of(next(batches))
                losses.append(loss.item())
                self._accelerator.backward(loss)
        with self.team.together():
            norm = self._clip_gradient()
        self._stepper.step()
        self._stepper.zero_grad()
        if self._average is not None:
            self._average.step(self._trainable.values())
        return self.team.mean(sum(losses) / len(losses)), norm

    def _loss_of(self, batch: Batch) -> Tensor:
        loss = self._objective(**self._inputs(batch))
        value = loss.item()
        if not math.isfinite(value):
            names = ", ".join(self.examples.name(index) for _, index in batch.places)
            raise DivergedError(
                f"the loss is {value} at step {self.step + 1} ({names})",
                hint="lower the learning rate, or look at these examples",
            )
        return loss

    def _clip_gradient(self) -> float | None:
        largest = self.settings.max_grad_norm or math.inf
        norm = float(self._accelerator.clip_grad_norm_(self._trainable.values(), largest))
        if math.isfinite(norm):
            return norm
        if self._accelerator.scaler is None:
            raise DivergedError(
                f"the gradient is not finite at step {self.step + 1}",
                hint="lower the learning rate, or clip by --max-grad-norm",
            )
        return None

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        """Equation 10's variables for this batch, each sample's drawn by its own place."""
        base, seed = self.base, self.settings.seed
        # For dropout layers, if the base has any.
        torch.manual_seed(torch_generator(seed, DROPOUT, *batch.places[0]).initial_seed())
        draws = [torch_generator(seed, DRAWN, *place) for place in batch.places]
        latents = draw_latents(base, self._moments_of(batch.images), generator=draws)
        last = base.scheduler.config.num_train_timesteps
        noise = torch.stack([torch.randn(latents.shape[1:], generator=draw) for draw in draws])
        timesteps = torch.cat([torch.randint(last, (1,), generator=draw) for draw in draws])
        prompts = [
            "" if torch.rand((), generator=draw) < self.settings.prompt_dropout else prompt
            for prompt, draw in zip(batch.prompts, draws, strict=True)
        ]
        hint = hint_tensor(batch.hints, channels=hint_channels(self.network))
        return {
            "latents": latents,
            "text": self._text_of(prompts).of_pictures(batch.sizes),
            "hint": hint.to(base.device),
            "timesteps": timesteps.to(base.device),
            "noise": noise.to(base.device),
        }

    def _moments_of(self, images: np.ndarray) -> Tensor:
        return self._cache.moments(images) if self._cache else encode_moments(self.base, images)

    def _text_of(self, prompts: Sequence[str]) -> TextFeatures:
        return self._cache.text(prompts) if self._cache else encode_prompts(self.base, prompts)

    def _moments(self) -> dict[str, Tensor | float]:
        state = self._optimizer.state
        return {
            f"{kind}/{name}": tensor
            for name, parameter in self._trainable.items()
            for kind, tensor in state.get(parameter, {}).items()
        }

    def _restore_moments(self, moments: Mapping[str, Tensor | float]) -> None:
        for key, value in moments.items():
            kind, _, name = key.partition("/")
            if (parameter := self._trainable.get(name)) is not None:
                placed = value.to(parameter.device) if isinstance(value, Tensor) else value
                self._optimizer.state[parameter][kind] = placed

    def _restore_average(self, kept: dict[str, Tensor], step: int) -> None:
        """The averaged weights; a link that was not trained until now starts from its own."""
        assert self._average is not None
        shadows = zip(self._trainable.items(), self._average.shadow_params, strict=True)
        for (name, parameter), shadow in shadows:
            shadow.copy_(kept.get(name, parameter.detach()))
        self._average.optimization_step = step


class _Objective(nn.Module):
    """The loss as a module, which is what accelerate wraps. The base is not part of it."""

    def __init__(self, base: Base, network: Network, settings: TrainSettings) -> None:
        super().__init__()
        self.network = network
        self._base = base
        self._connect = settings.connect
        self._snr_gamma = settings.snr_gamma

    def forward(self, **inputs: Any) -> Tensor:
        return noise_prediction_loss(
            self._base,
            self.network,
            connect=self._connect,
            snr_gamma=self._snr_gamma,
            **inputs,
        )


def _make_accelerator(base: Base, settings: TrainSettings) -> Accelerator:
    if base.device.type == "cpu" and base.dtype == torch.float16:
        raise DeviceError("float16 does not train on the CPU", hint="use --dtype float32")
    # accelerate keeps the state of the process's first run for all others.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return Accelerator(
        mixed_precision=PRECISIONS[base.dtype],
        cpu=base.device.type == "cpu",
        device_placement=False,
        gradient_accumulation_steps=settings.gradient_accumulation,
    )
