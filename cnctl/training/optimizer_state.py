"""The optimizer's state by parameter name: AdamW's moments and its count of steps.

A checkpoint holds this form, however the state is laid out in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn

from cnctl.training import zero
from cnctl.training.sharding import shard_like

Named: TypeAlias = Mapping[str, nn.Parameter]
OptimizerState: TypeAlias = Mapping[str, Tensor | float]
"""Values by "kind/name", such as "exp_avg/conv_in.weight"."""


def read_tensors(optimizer: Any, named: Named) -> Iterator[tuple[str, Tensor]]:
    """The tensors, which may be sharded. All processes call this, in the same order."""
    parameters = list(named.values())
    if zero.is_zero(optimizer):
        states = zero.read_state(optimizer, parameters)
    else:
        states = (optimizer.state.get(parameter, {}) for parameter in parameters)
    for name, state in zip(named, states, strict=True):
        yield from ((f"{kind}/{name}", v) for kind, v in state.items() if isinstance(v, Tensor))


def read_numbers(optimizer: Any, named: Named) -> dict[str, float]:
    """The values that are plain numbers, which some optimizers have."""
    return {
        f"{kind}/{name}": value
        for name, parameter in named.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
        if not isinstance(value, Tensor)
    }


def restore(optimizer: Any, named: Named, state: OptimizerState) -> None:
    """Load the state of these parameters; one without a saved state starts from none."""
    known: dict[nn.Parameter, dict[str, Any]] = {}
    for key, value in state.items():
        kind, _, name = key.partition("/")
        if name in named:
            known.setdefault(named[name], {})[kind] = value
    if zero.is_zero(optimizer):
        return zero.write_state(optimizer, known)
    for parameter, state in known.items():
        for kind, value in state.items():
            placed = shard_like(parameter, value) if isinstance(value, Tensor) else value
            optimizer.state[parameter][kind] = placed


def group_by_step(named: Named, state: OptimizerState) -> list[list[nn.Parameter]]:
    """The parameters in groups that were trained for the same number of steps."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(float(state.get(f"step/{name}", 0)), []).append(parameter)
    return list(groups.values())
