"""Changes to the networks that others make for speed, each switched on and off; for sampling.py.

None of them is in cnctl: the page on speed says what each was expected to save, and saves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnctl.models.base import Base
from cnctl.models.network import Network


class Change(NamedTuple):
    """expected: the time over that without it, by counting. switch(*networks): on in the block."""

    expected: str
    switch: Callable[..., AbstractContextManager[None]]


@contextmanager
def fused(*networks: Any) -> Iterator[None]:
    """One product for queries, keys and values, by diffusers' own method."""
    attending = [one for one in networks if hasattr(one, "fuse_qkv_projections")]
    for network in attending:
        network.fuse_qkv_projections()
    try:
        yield
    finally:
        for network in attending:
            network.unfuse_qkv_projections()
            for module in network.modules():  # which keeps the fused weights
                for name in ("to_qkv", "to_kv"):
                    if hasattr(module, name):
                        delattr(module, name)
                if getattr(module, "fused_projections", False):
                    module.fused_projections = False


@contextmanager
def channels_last(*networks: nn.Module) -> Iterator[None]:
    """Weights and activations of convolutions with channels last in memory."""
    for network in networks:
        network.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for network in networks:
            network.to(memory_format=torch.contiguous_format)


class Kept(nn.Module):
    """A layer whose result is kept as long as the same tensor comes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.given: Tensor | None = None

    def forward(self, given: Tensor) -> Tensor:
        if given is not self.given:
            self.given, self.result = given, self.layer(given)
        return self.result


@contextmanager
def text_once(*networks: nn.Module) -> Iterator[None]:
    """Keys and values of the prompt computed once in a run, not in each step."""
    crossed = [
        module
        for network in networks
        for name, module in network.named_modules()
        if name.endswith("attn2") and hasattr(module, "to_k")
    ]
    for module in crossed:
        module.to_k, module.to_v = Kept(module.to_k), Kept(module.to_v)
    try:
        yield
    finally:
        for module in crossed:
            module.to_k, module.to_v = module.to_k.layer, module.to_v.layer


CHANGES = {
    "queries, keys and values by one product": Change("0.99 to 1.00", fused),
    "channels last": Change("0.8 on a GPU, 1.0 on a CPU, which reorders by itself", channels_last),
    "keys and values of the prompt once": Change("0.996", text_once),
}


class Operations(TorchDispatchMode):
    """Counts the operations of a block that compute something, each a kernel or more on a GPU."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def operations_of_a_step(run: Callable[[int], object]) -> float:
    """Of run(steps), without what is done once."""
    counts = []
    for steps in (2, 6):
        with Operations() as counter:
            run(steps)
        counts.append(counter.count)
    return (counts[1] - counts[0]) / 4


def compare_changes(
    run: Callable[..., Tensor], base: Base, network: Network, *, rounds: int
) -> None:
    """Print for each change its CPU time over that without it: the least of all rounds, in turns.

    Other programs make a round longer and never shorter, and the time that passes more than that of
    the CPU. On CUDA it is the time that passes.
    """
    count = operations_of_a_step(run)
    for name, change in CHANGES.items():
        with change.switch(base.denoiser, network):
            fewer = 1 - operations_of_a_step(run) / count
        without, with_it, difference = [], [], 0.0
        for _ in range(rounds):
            seconds, plain = _measure(run, base)
            without.append(seconds)
            with change.switch(base.denoiser, network):
                seconds, changed = _measure(run, base)
            with_it.append(seconds)
            difference = max(difference, float((changed - plain).abs().max() / plain.abs().max()))
        ratios = [b / a for a, b in zip(without, with_it, strict=True)]
        print(
            f"{name:40} {min(with_it) / min(without):.3f} (median of pairs {median(ratios):.3f}, "
            f"{min(ratios):.3f} to {max(ratios):.3f}), expected {change.expected}; "
            f"{fewer:.3f} fewer operations, "
            f"largest difference {difference:.1e} of the largest latent",
            flush=True,
        )


def compare_additions(step_seconds: float, residuals: Any) -> None:
    """Print what adding residuals in place could save of a step at most."""
    saved = 0.0
    for residual in residuals.tensors:
        target = torch.zeros_like(residual)
        begin = time.process_time()
        for _ in range(20):
            _ = target + residual
        middle = time.process_time()
        for _ in range(20):
            target += residual
        saved += (middle - begin - (time.process_time() - middle)) / 20
    print(f"{'residuals added in place':40} saves {saved / step_seconds:.4f} of a step", flush=True)


def _measure(run: Callable[[], Tensor], base: Base) -> tuple[float, Tensor]:
    clock = time.perf_counter if base.device.type == "cuda" else time.process_time
    begin = clock()
    result = run().cpu()
    return clock() - begin, result
