"""The training loop: equation 10, AdamW, everything random a function of (seed, step, index).

Nothing that is drawn depends on what was drawn before: not on the number of data workers, nor on
a run having been killed and resumed. A run at a step is therefore its weights, the optimizer's
moments and the number of the step, which is what a checkpoint holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import ControlNetModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cnctl.core.base import Base, encode_images, encode_prompts
from cnctl.core.checkpoints import Checkpoint
from cnctl.core.controlnet import hint_tensor, trainable_parameters
from cnctl.core.loss import noise_prediction_loss
from cnctl.errors import CnctlError, DeviceError
from cnctl.settings import TrainSettings

ORDER, EXAMPLE, STEP, HELD_OUT = range(4)
"""What a random stream is for; part of its seed."""

PRECISIONS = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}
ACTIVATION_BYTES = 347
"""Kept for the way back, per sample, latent pixel, channel of the first block and byte of
precision: Stable Diffusion 1.5 keeps 867 MiB at 64 x 64 latents in two bytes."""


class Pair(Protocol):
    """An image with its hint and prompt."""

    @property
    def image(self) -> np.ndarray:
        """RGB uint8 (H, W, 3)"""

    @property
    def hint(self) -> np.ndarray:
        """uint8 (H, W, C)"""

    @property
    def prompt(self) -> str: ...


class Examples(Protocol):
    """What is trained on. `load` is a function of its arguments alone; sizes are all the same."""

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        """Example `index`, with augmentations drawn from `rng` alone (None: without any)."""

    def name(self, index: int) -> str:
        """What to call an example in a message."""


@dataclass(frozen=True)
class Batch:
    """images: uint8 (B, H, W, 3); hints: uint8 (B, H, W, C)."""

    indices: tuple[int, ...]
    images: np.ndarray
    hints: np.ndarray
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class StepReport:
    """One finished step. step: how many are finished now. seconds: the time that it took."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    seconds: float


class DivergedError(CnctlError):
    """The loss or a weight is not a finite number. Nothing of this step has been kept."""


class Training:
    """A run in memory: a ControlNet that learns beside a locked base.

    The ControlNet, in float32, is moved to the base's device; where the base is in half precision
    the branch computes in it too (mixed precision). `step` counts the finished steps.
    """

    def __init__(
        self,
        base: Base,
        controlnet: ControlNetModel,
        examples: Examples,
        *,
        settings: TrainSettings,
    ) -> None:
        self.base = base
        self.settings = settings
        self.examples = examples
        self.controlnet = controlnet.to(base.device).train()
        self.step = 0
        self._trainable = trainable_parameters(controlnet, connect=settings.connect)
        self._optimizer = torch.optim.AdamW(
            self._trainable.values(), lr=settings.learning_rate, fused=True
        )
        self._accelerator = _make_accelerator(base)
        objective = _Objective(base, controlnet, settings)
        self._objective, self._stepper = self._accelerator.prepare(objective, self._optimizer)

    def run(self) -> Iterator[StepReport]:
        """Train from the present step to the last, with a report after each.

        Between two reports the run is at a step's boundary and may be saved or sampled from.
        Raises DivergedError when the loss is not a number, and whatever the examples raise.
        """
        batches = iter(self._batches())
        while self.step < self.settings.steps:
            begin = time.perf_counter()
            batch = next(batches)
            if isinstance(batch, CnctlError):
                raise batch
            loss = self._train_on(batch)
            self.step += 1
            yield StepReport(
                step=self.step,
                epoch=epoch_at(self.step, len(self.examples), self.settings.batch_size),
                loss=loss,
                learning_rate=self.settings.learning_rate,
                seconds=time.perf_counter() - begin,
            )

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps, by name. Raises DivergedError if weights are not finite."""
        weights = self.controlnet.state_dict()
        if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
            raise DivergedError(
                f"weights are not finite after step {self.step}", hint="lower the learning rate"
            )
        return {"controlnet": weights, "optimizer": self._moments()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside tensors."""
        scaler = self._accelerator.scaler
        return {"step": self.step, "scaler": scaler.state_dict() if scaler else None}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go to a checkpoint's step. Links that it was trained without start with new moments."""
        try:
            self.controlnet.load_state_dict(checkpoint.tensors("controlnet"))
        except RuntimeError as error:
            raise CnctlError(
                f"{checkpoint.path} does not fit this base and condition",
                hint="resume with the ones that it was begun with",
            ) from error
        self._restore_moments(checkpoint.tensors("optimizer"))
        if self._accelerator.scaler and checkpoint.state["scaler"]:
            self._accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
        self.step = checkpoint.step

    def _batches(self) -> DataLoader:
        return DataLoader(
            _Numbered(self.examples, self.settings.seed),
            batch_sampler=_Schedule(self.step, len(self.examples), self.settings),
            collate_fn=_collate,
            num_workers=self.settings.workers,
        )

    def _train_on(self, batch: Batch) -> float:
        inputs = self._inputs(batch)
        loss = self._objective(**inputs)
        value = loss.item()
        if not math.isfinite(value):
            names = ", ".join(self.examples.name(index) for index in batch.indices)
            raise DivergedError(
                f"the loss is {value} at step {self.step + 1} ({names})",
                hint="lower the learning rate, or look at these examples",
            )
        self._accelerator.backward(loss)
        self._stepper.step()
        self._stepper.zero_grad()
        return value

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 10's variables for this batch, drawn by (seed, step)."""
        base, count = self.base, len(batch.prompts)
        drawn = torch_generator(self.settings.seed, STEP, self.step)
        torch.manual_seed(drawn.initial_seed())  # for dropout layers, if the base has any
        latents = encode_images(base, batch.images, generator=drawn)
        noise = torch.randn(latents.shape, generator=drawn)
        last = base.scheduler.config.num_train_timesteps
        timesteps = torch.randint(last, (count,), generator=drawn)
        dropped = torch.rand(count, generator=drawn) < self.settings.prompt_dropout
        pairs = zip(batch.prompts, dropped.tolist(), strict=True)
        text = encode_prompts(base, ["" if drop else prompt for prompt, drop in pairs])
        channels = self.controlnet.config.conditioning_channels
        hint = hint_tensor(batch.hints, channels=channels)
        return {
            "latents": latents,
            "text": text,
            "hint": hint.to(base.device),
            "timesteps": timesteps.to(base.device),
            "noise": noise.to(base.device),
        }

    def _moments(self) -> dict[str, Tensor]:
        state = self._optimizer.state
        return {
            f"{kind}/{name}": tensor
            for name, parameter in self._trainable.items()
            for kind, tensor in state.get(parameter, {}).items()
        }

    def _restore_moments(self, moments: dict[str, Tensor]) -> None:
        for key, tensor in moments.items():
            kind, _, name = key.partition("/")
            if (parameter := self._trainable.get(name)) is not None:
                self._optimizer.state[parameter][kind] = tensor.to(parameter.device)


def examples_at(step: int, *, count: int, batch_size: int, seed: int) -> list[tuple[int, int]]:
    """(epoch, index) of the examples that step `step` (from 0) trains on.

    Each epoch is a permutation of all examples; a batch may span two epochs, and none is dropped.
    """
    places = range(step * batch_size, (step + 1) * batch_size)
    return [
        (place // count, int(_order(seed, place // count, count)[place % count]))
        for place in places
    ]


def epoch_at(step: int, count: int, batch_size: int) -> int:
    """The epoch, from 0, in which a run is after so many steps."""
    return step * batch_size // count


def hold_out(count: int, *, wanted: int, seed: int) -> tuple[list[int], list[int]]:
    """Split `count` examples by seed into those to train on and those to measure with.

    Never more than a tenth is held out, so that small sets may have none.
    """
    order = np.random.default_rng([seed, HELD_OUT]).permutation(count)
    chosen = min(wanted, count // 10)
    return sorted(order[chosen:].tolist()), sorted(order[:chosen].tolist())


def expected_memory(base: Base, controlnet: ControlNetModel, *, settings: TrainSettings) -> int:
    """Bytes that a run takes on the device, roughly: weights, gradients, moments, activations."""
    frozen = sum(
        parameter.numel() * parameter.element_size()
        for part in (base.vae, base.text_encoder, base.unet)
        for parameter in part.parameters()
    )
    branch = 4 * sum(parameter.numel() for parameter in controlnet.parameters())
    trainable = trainable_parameters(controlnet, connect=settings.connect)
    learning = 12 * sum(parameter.numel() for parameter in trainable.values())
    pixels = (settings.resolution / base.latent_factor) ** 2
    width = base.unet.config.block_out_channels[0]
    activations = settings.batch_size * pixels * width * ACTIVATION_BYTES * base.dtype.itemsize
    return int(frozen + branch + learning + activations)


def torch_generator(*key: int) -> torch.Generator:
    """A generator on the CPU that is a function of these numbers."""
    words = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


class _Objective(nn.Module):
    """The loss as a module, which is what accelerate wraps. The base is not part of it."""

    def __init__(self, base: Base, controlnet: ControlNetModel, settings: TrainSettings) -> None:
        super().__init__()
        self.controlnet = controlnet
        self._base = base
        self._connect = settings.connect
        self._snr_gamma = settings.snr_gamma

    def forward(self, **inputs: Tensor) -> Tensor:
        return noise_prediction_loss(
            self._base,
            self.controlnet,
            connect=self._connect,
            snr_gamma=self._snr_gamma,
            **inputs,
        )


class _Numbered(Dataset):
    """Examples by (epoch, index); errors are handed on, for a worker would bury them in text."""

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples = examples
        self.seed = seed

    def __getitem__(self, place: tuple[int, int]) -> tuple[int, Pair | CnctlError]:
        epoch, index = place
        rng = np.random.default_rng([self.seed, EXAMPLE, epoch, index])
        try:
            return index, self.examples.load(index, rng)
        except CnctlError as error:
            return index, error


class _Schedule:
    """Which examples each step trains on, from a step to the last."""

    def __init__(self, first: int, count: int, settings: TrainSettings) -> None:
        self.steps = range(first, settings.steps)
        self.count = count
        self.settings = settings

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            yield examples_at(
                step,
                count=self.count,
                batch_size=self.settings.batch_size,
                seed=self.settings.seed,
            )


def _collate(numbered: Sequence[tuple[int, Pair | CnctlError]]) -> Batch | CnctlError:
    examples = []
    for _, example in numbered:
        if isinstance(example, CnctlError):
            return example
        examples.append(example)
    return Batch(
        indices=tuple(index for index, _ in numbered),
        images=np.stack([example.image for example in examples]),
        hints=np.stack([example.hint for example in examples]),
        prompts=tuple(example.prompt for example in examples),
    )


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, ORDER, epoch]).permutation(count)


def _make_accelerator(base: Base) -> Accelerator:
    if base.device.type == "cpu" and base.dtype == torch.float16:
        raise DeviceError("float16 does not train on the CPU", hint="use --dtype float32")
    # accelerate keeps the precision of the process's first run for all others.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        mixed_precision=PRECISIONS[base.dtype],
        cpu=base.device.type == "cpu",
        device_placement=False,
    )
