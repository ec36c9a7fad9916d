"""What the trainings share: Muon for matrices, a cosine schedule, an average of the weights."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the device has instructions for it, else float32, which is faster there."""
    on_cpu = torch.device(device).type == "cpu"
    slow = on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.float32 if slow else torch.bfloat16


def fast_autocast(device: torch.device | str) -> torch.autocast:
    """Products in `fast_dtype`; weights are cast each time, as CUDA graphs need."""
    kind, dtype = torch.device(device).type, fast_dtype(device)
    return torch.autocast(kind, dtype, dtype != torch.float32, cache_enabled=False)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by a Newton-Schulz iteration, for weights of two or more axes.

    Keller Jordan et al., 2024. Convolutions are taken as matrices (out, in * kernel).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float | Tensor = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient stay. Those of one shape are taken together."""
        for group in self.param_groups:
            alike: dict[torch.Size, tuple[list[Tensor], list[Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameters, gradients = alike.setdefault(parameter.shape, ([], []))
                    parameters.append(parameter)
                    gradients.append(parameter.grad)
            for parameters, gradients in alike.values():
                self._step_alike(parameters, gradients, group)

    def _step_alike(self, parameters: list[Tensor], gradients: list[Tensor], group: dict) -> None:
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            buffers.append(state["momentum"])
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])
        directions = orthogonal(torch.stack(ahead).flatten(2))
        rows, columns = directions.shape[1:]
        directions = directions * (-group["lr"] * max(1.0, rows / columns) ** 0.5)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        steps = [d.view_as(p) for d, p in zip(directions, parameters, strict=True)]
        torch._foreach_add_(parameters, steps)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values end in about [0.7, 1.2].

    (..., rows, columns) to the same.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x = wide.bfloat16() / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return (x.mT if tall else x).float()


def make_optimizers(
    net: Any, outer: tuple[str, ...] | None, *, rate: float
) -> list[torch.optim.Optimizer]:
    """Muon for inner matrices and AdamW for the rest; `rate` multiplies both rates.

    outer: how names of other parameters begin. None: AdamW for all.
    """
    named = list(net.named_parameters())
    inner = [p for n, p in named if outer and p.ndim >= 2 and not n.startswith(outer)]
    chosen = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in chosen]
    on_cuda = net.device.type == "cuda"

    def place(rate: float) -> float | Tensor:
        return torch.tensor(rate, device=net.device) if on_cuda else rate

    adam = torch.optim.AdamW(
        rest,
        place(1e-3 * rate),
        betas=(0.9, 0.99),
        weight_decay=0.01,
        fused=True,
        capturable=on_cuda,
    )
    return [Muon(inner, place(0.02 * rate)), adam] if inner else [adam]


def cosine(progress: float, *, step: int, warm_up: int, floor: float = 0.01) -> float:
    """A factor for learning rates: linear warm-up over steps, then half a cosine to `floor`."""
    decay = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, (step + 1) / warm_up) * decay


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set each group's rate to its first rate times the factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if "first_lr" not in group:
                group["first_lr"] = float(group["lr"])
            rate = group["first_lr"] * factor
            if isinstance(group["lr"], Tensor):  # in its place, where a CUDA graph reads it
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


class ExponentialMovingAverage:
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


class Twin:
    """A copy of a diffusers net in `fast_dtype` that computes gradients for the float32 original.

    On CPUs with bfloat16 instructions this doubles the speed; torch's fused attention has a slow
    backward pass there, so the copy uses plain matrix products on them.
    """

    def __init__(self, original: nn.Module) -> None:
        self.original = list(original.parameters())
        net: Any = copy.deepcopy(original)
        self.net = net.to(fast_dtype(net.device)).train()
        if self.net.device.type == "cpu":
            self.net.set_attn_processor(AttnProcessor())
        else:
            self.net.to(memory_format=torch.channels_last)
        self.pairs = [
            (mine, twin)
            for mine, twin in zip(self.original, self.net.parameters(), strict=True)
            if mine.requires_grad
        ]

    def hand_over_gradients(self) -> None:
        """Move the gradients of the copy to the original."""
        for mine, twin in self.pairs:
            mine.grad = None if twin.grad is None else twin.grad.float().contiguous()
            twin.grad = None

    @torch.no_grad()
    def take_weights(self) -> None:
        """Round the original's weights into the copy."""
        torch._foreach_copy_([twin for _, twin in self.pairs], [mine for mine, _ in self.pairs])


def captured(
    work: Callable[..., Tensor], inputs: Sequence[Tensor], *, warm_up: int = 3
) -> Callable[..., Tensor]:
    """A step as one CUDA graph: networks as small as these wait for the host otherwise.

    It has run `warm_up` times, and is then given tensors shaped like `inputs`.
    """
    places = [tensor.clone() for tensor in inputs]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm_up):
            work(*places)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work(*places)

    def replay(*given: Tensor) -> Tensor:
        torch._foreach_copy_(places, list(given))
        graph.replay()
        return result.clone()

    return replay
