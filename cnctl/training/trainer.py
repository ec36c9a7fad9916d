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
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnctl.errors import CnctlError, DeviceError
from cnctl.models.base import Base
from cnctl.models.base_update import unfreeze
from cnctl.models.device import is_out_of_memory
from cnctl.models.network import Network
from cnctl.settings import TrainSettings
from cnctl.training import optimizer_state
from cnctl.training.accelerator import (
    accumulate_over,
    make_accelerator,
    may_shard,
    prepare,
    prepare_again,
    release,
    shard,
)
from cnctl.training.batch_growth import BatchGrowth
from cnctl.training.batch_sampler import epoch_at
from cnctl.training.checkpoints import Checkpoint
from cnctl.training.data_loader import Batch, Examples, read_batches
from cnctl.training.ema import EMA
from cnctl.training.encoding_cache import EncodingCache
from cnctl.training.memory import how_to_take_less, save_memory
from cnctl.training.objective import Objective
from cnctl.training.optimizer import learning_rate_at, make_optimizer
from cnctl.training.process_group import ProcessGroup
from cnctl.training.sharding import gather, in_shards, materialize, to_meta
from cnctl.training.variables import Variables


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
    """A run in memory: a ControlNet trained with a base that is locked, or unfrozen later.

    Or a network that replaces the base's. What is trained, in float32,
    is moved to the base's device; where the base is in half precision it computes in it too (mixed
    precision). `step` counts the finished steps. In a group of processes each is given the same,
    and reads its own part of each batch; what they learn is the same in all. Where accelerate is
    configured so, the weights are sharded, and only `averaged` and `tensors` read them.
    """

    def __init__(
        self,
        base: Base,
        network: Network,
        examples: Examples,
        *,
        settings: TrainSettings,
        cache: EncodingCache | None = None,
        group: ProcessGroup | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Start, or resume from a checkpoint; connections that it was trained without are new then.

        Raises CnctlError where the checkpoint does not fit.
        """
        self.group = group or ProcessGroup()
        self.base = base = cache.keep_hints(base) if cache else base
        self.settings = settings
        self.examples = examples
        self.network = network.to(base.device).train()
        save_memory(base, network, settings)
        self.step = checkpoint.step if checkpoint else 0
        self._variables = Variables(base, settings, cache, hint_channels=network.hint_channels)
        self._locked: dict[str, Tensor] = {}
        """The unfrozen weights of the base, as they were before."""
        learning = network.own_parameters()
        connected = network.learning_parameters(connect=settings.connect)
        for name in learning.keys() - connected.keys():
            learning[name].requires_grad_(False)
        if checkpoint:
            self._load_weights(checkpoint, learning)
        self._accelerator = make_accelerator(base, settings)
        self.group.release_at_end(partial(release, self._accelerator, network, base.denoiser))
        self._lay_out_weights(list(learning))
        self._make_optimizer(checkpoint)
        self._set_growth(BatchGrowth(**checkpoint.state.get("growth", {}) if checkpoint else {}))

    def _load_weights(self, checkpoint: Checkpoint, learning: Mapping[str, Tensor]) -> None:
        kept = checkpoint.tensors("controlnet")
        shapes = {name: tensor.shape for name, tensor in kept.items()}
        if shapes != {name: parameter.shape for name, parameter in learning.items()}:
            raise CnctlError(
                f"{checkpoint.path} does not fit this base and condition",
                hint="resume with the base and condition that the run was started with",
            )
        self.network.load_state_dict(kept, strict=False)
        was_unfrozen = checkpoint.state.get("unfrozen", checkpoint.state.get("unlocked"))
        if was_unfrozen or self._is_unfrozen_by_now():
            self._unfreeze_base()
        if was_unfrozen:
            self.base.denoiser.load_state_dict(checkpoint.tensors("base"), strict=False)

    def _lay_out_weights(self, learning: Sequence[str]) -> None:
        """Shard weights as accelerate is configured. learning: names of trainable parameters."""
        if may_shard():
            self._on_meta = to_meta(self.network), to_meta(self.base.denoiser)
        self._shard(self.network)
        named = dict(self.network.named_parameters())
        self._learning = {name: named[name] for name in learning}
        """The network's parameters that a checkpoint keeps: all, or a Control-LoRA's."""
        self._trainable = self.network.learning_parameters()
        if self._locked:
            self._trainable |= self._shard_base()

    def _make_optimizer(self, checkpoint: Checkpoint | None) -> None:
        state = checkpoint.state if checkpoint else {}
        known = checkpoint.tensors("optimizer") | state.get("optimizer", {}) if checkpoint else {}
        self._ema = EMA(self._trainable, self.settings.ema)
        optimizer = make_optimizer(
            optimizer_state.group_by_step(self._trainable, known), self.settings
        )
        objective = Objective(self.base, self.network, self.settings, unfrozen=bool(self._locked))
        self._objective, self._stepper = prepare(self._accelerator, objective, optimizer)
        self._optimizer = self._stepper.optimizer
        if not checkpoint:
            return
        optimizer_state.restore(self._optimizer, self._trainable, known)
        if self.settings.ema:
            self._ema.restore(checkpoint.tensors("ema"), checkpoint.step)
        if self._accelerator.scaler and state["scaler"]:
            self._accelerator.scaler.load_state_dict(state["scaler"])

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
            if self._is_unfrozen_by_now() and not self._locked:
                self._unfreeze()
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

    def accumulate_more(self, times: int) -> int:
        """Read the first batch this many times from the next step on; returns how many examples."""
        self._set_growth(BatchGrowth(self.step, times))
        return times * self.settings.effective_batch

    @contextmanager
    def averaged(self) -> Iterator[tuple[Base, Network]]:
        """The base and the network to use: with averaged weights where the settings ask for them.

        All processes call this; of sharded weights only the main process gets the full ones.
        """
        if in_shards(self.network):
            yield self._gather_networks()
            return
        with self._ema.in_place():
            yield self.base, self.network

    def base_update(self, base: Base) -> dict[str, Tensor]:
        """The trained base minus its locked weights, by name; {} while all of it is locked."""
        learnt = dict(base.denoiser.named_parameters())
        return {name: learnt[name].detach().cpu() - locked for name, locked in self._locked.items()}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The tensors that a checkpoint keeps, by group and name.

        All processes call this; only the main one gets tensors. Raises DivergedError if weights are
        not finite.
        """
        known = optimizer_state.read_tensors(self._optimizer, self._trainable)
        kept = {
            "controlnet": self._gather(self._learning),
            # Cloned, because 8-bit moments share their code books, which a file may not.
            "optimizer": gather(((k, v.clone()) for k, v in known), keep=self.group.main),
        }
        if self._locked:
            learnt = {name: self._trainable[f"base.{name}"] for name in self._locked}
            kept["base"] = self._gather(learnt)
        if self.settings.ema:
            kept["ema"] = self._gather(self._ema.tensors())
        with self.group.raise_on_all():
            self._check_weights(kept["controlnet"] | kept.get("base", {}))
        return kept

    def state(self) -> dict[str, Any]:
        """The values that a checkpoint keeps beside tensors, as JSON can hold them."""
        scaler = self._accelerator.scaler
        return {
            "step": self.step,
            "scaler": scaler.state_dict() if scaler else None,
            "optimizer": optimizer_state.read_numbers(self._optimizer, self._trainable),
            "unfrozen": bool(self._locked),
            "growth": asdict(self._growth),
        }

    def _gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return gather(tensors.items(), keep=self.group.main)

    def _gather_networks(self) -> tuple[Base, Network]:
        parameters = dict(self.network.named_parameters())
        if self._locked:
            parameters |= {f"base.{name}": p for name, p in self.base.denoiser.named_parameters()}
        weights = self._gather(parameters | self._ema.tensors())
        of_base = {k.removeprefix("base."): w for k, w in weights.items() if k.startswith("base.")}
        network, denoiser = self._on_meta
        device = self.base.device
        base = (
            replace(self.base, denoiser=materialize(denoiser, of_base, device))
            if self._locked
            else self.base
        )
        return base, materialize(network, weights, device)

    def _check_weights(self, weights: Mapping[str, Tensor]) -> None:
        if not all(torch.isfinite(weight).all() for weight in weights.values()):
            raise DivergedError(
                f"weights are not finite after step {self.step}", hint="lower the learning rate"
            )

    def _set_growth(self, growth: BatchGrowth) -> None:
        self._growth = growth
        times = growth.times_at(self.step)
        accumulate_over(
            self._accelerator,
            self._objective,
            batches=times * self.settings.gradient_accumulation,
            examples=times * self.settings.effective_batch,
        )

    def _read(self) -> Iterator[Batch]:
        first, end = map(self._growth.read_before, (self.step, self.settings.steps))
        return read_batches(self.examples, range(first, end), self.settings, rank=self.group.rank)

    def _is_unfrozen_by_now(self) -> bool:
        return 0 < self.settings.unfreeze_after <= self.step

    def _unfreeze(self) -> None:
        """Unfreeze the base; the optimizer's state of the ControlNet stays."""
        self._unfreeze_base()
        opened = self._shard_base()
        self._trainable |= opened
        self._optimizer.add_param_group({"params": list(opened.values())})
        self._ema.add(opened)
        objective = Objective(self.base, self.network, self.settings, unfrozen=True)
        self._objective = prepare_again(self._accelerator, objective)

    def _unfreeze_base(self) -> None:
        opened = unfreeze(self.base, self.settings.unfreeze)
        self._locked = {name: p.detach().cpu().clone() for name, p in opened.items()}
        if self.settings.gradient_checkpointing:
            self.base.denoiser.enable_gradient_checkpointing()

    def _shard(self, module: nn.Module) -> None:
        shard(self._accelerator, module, blocks=self.base.family.repeated_blocks)

    def _shard_base(self) -> dict[str, nn.Parameter]:
        """The unfrozen parameters of the base by name, sharded."""
        self._shard(self.base.denoiser)
        named = dict(self.base.denoiser.named_parameters())
        return {f"base.{name}": named[name] for name in self._locked}

    def _take_step(
        self, batches: Iterator[Batch], learning_rate: float
    ) -> tuple[float, float | None]:
        """One step of the optimizer; returns the mean loss and the gradient's norm."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        losses = []
        for _ in range(self._accelerator.gradient_accumulation_steps):
            with self._accelerator.accumulate(self._objective):
                loss = self._loss_of(batches)
                losses.append(loss.item())
                self._accelerator.backward(loss)
        norm = self._clip_gradient()
        self._stepper.step()
        self._stepper.zero_grad()
        self._ema.step()
        return self.group.mean(sum(losses) / len(losses)), norm

    def _loss_of(self, batches: Iterator[Batch]) -> Tensor:
        """The loss of the next batch. With sharded weights the processes communicate in it."""
        with self.group.raise_on_all():
            batch = next(batches)
            inputs = self._variables.draw(batch)
        with nullcontext() if in_shards(self.network) else self.group.raise_on_all():
            loss = self._objective(**inputs)
        with self.group.raise_on_all():
            self._check_loss(loss.item(), batch)
        return loss

    def _check_loss(self, value: float, batch: Batch) -> None:
        if not math.isfinite(value):
            names = ", ".join(self.examples.name(index) for _, index in batch.keys)
            raise DivergedError(
                f"the loss is {value} at step {self.step + 1} ({names})",
                hint="lower the learning rate, or check these examples",
            )

    def _clip_gradient(self) -> float | None:
        largest = self.settings.max_grad_norm or math.inf
        norm = float(self._accelerator.clip_grad_norm_(self._trainable.values(), largest))
        if math.isfinite(norm):
            return norm
        if self._accelerator.scaler:
            return None
        with self.group.raise_on_all():
            raise DivergedError(
                f"the gradient is not finite at step {self.step + 1}",
                hint="lower the learning rate, or clip by --max-grad-norm",
            )
