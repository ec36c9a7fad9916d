"""What the trainings share: Muon for matrices, a cosine schedule, an average of the weights."""

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by a Newton-Schulz iteration, for weights of two or more axes.

    Keller Jordan et al., 2024. Convolutions are taken as matrices (out, in * kernel).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_one(parameter, parameter.grad, group)

    def _step_one(self, parameter: nn.Parameter, gradient: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        buffer = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = orthogonal(gradient.lerp(buffer, group["momentum"]).flatten(1))
        rows, columns = direction.shape
        scale = max(1.0, rows / columns) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction.view_as(parameter), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end in about [0.7, 1.2]."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide.bfloat16() / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(
            x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445
        )
    x = x.float()
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def cosine(progress: float, *, step: int, warm_up: int, floor: float = 0.01) -> float:
    """A factor for learning rates: linear warm-up over steps, then half a cosine to `floor`."""
    decay = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, (step + 1) / warm_up) * decay


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set each group's rate to its first rate times the factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("first_lr", group["lr"]) * factor


class Average:
    """An exponential moving average of parameters."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.steps = 0
        self.shadow = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights; early on the average is shorter."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the present weights; twice restores them."""
        for parameter, shadow in zip(self.parameters, self.shadow, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(shadow)
            shadow.copy_(kept)


class BrainFloatTwin:
    """A bfloat16 copy of a diffusers net that computes gradients for the float32 original.

    On CPUs with bfloat16 instructions this doubles the speed; torch's fused attention has a slow
    backward pass there, so the copy uses plain matrix products.
    """

    def __init__(self, original: nn.Module) -> None:
        self.original = list(original.parameters())
        net: Any = copy.deepcopy(original)
        self.net = net.to(torch.bfloat16).train()
        self.net.set_attn_processor(AttnProcessor())
        self.pairs = [
            (mine, twin)
            for mine, twin in zip(self.original, self.net.parameters(), strict=True)
            if mine.requires_grad
        ]

    def hand_over_gradients(self) -> None:
        """Move the gradients of the copy to the original."""
        for mine, twin in self.pairs:
            mine.grad = None if twin.grad is None else twin.grad.float()
            twin.grad = None

    @torch.no_grad()
    def take_weights(self) -> None:
        """Round the original's weights into the copy."""
        torch._foreach_copy_([twin for _, twin in self.pairs], [mine for mine, _ in self.pairs])
