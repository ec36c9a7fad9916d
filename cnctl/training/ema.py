"""Averaged weights, by diffusers' exponential moving average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from cnctl.training.sharding import shard_like


class EMA:
    """Exponential moving average of these parameters, sharded as they are. decay: 0 for none."""

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        self._named = dict(named) if decay else {}
        self._model = EMAModel(self._named.values(), decay)

    def add(self, named: Mapping[str, nn.Parameter]) -> None:
        """Average more parameters, starting from their current values."""
        if self._named:
            self._named |= named
            self._model.shadow_params += [p.detach().clone() for p in named.values()]

    def step(self) -> None:
        """Update the average from the current parameters."""
        if self._named:
            self._model.step(self._named.values())

    def tensors(self) -> dict[str, Tensor]:
        """The averages by name; {} where the decay is 0."""
        return dict(zip(self._named, self._model.shadow_params, strict=True))

    def restore(self, kept: Mapping[str, Tensor], step: int) -> None:
        """Resume with these full tensors; parameters without one keep their current values."""
        for name, shadow in self.tensors().items():
            if name in kept:
                shadow.copy_(shard_like(shadow, kept[name]))
        self._model.optimization_step = step

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the parameters by their averages inside the block."""
        self._model.store(self._named.values())
        self._model.copy_to(self._named.values())
        try:
            yield
        finally:
            self._model.restore(self._named.values())
