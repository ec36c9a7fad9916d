"""Control-LoRAs of transformers: what a ControlNet adds to its base's blocks, by two factors.

No such file is published. Names are diffusers', with Stability's ends for the factors, as in the
Control-LoRAs of U-Nets; what is not factored is there in full.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from cnctl.models.adapters import NAME, low_rank_state
from cnctl.models.factors import DOWN, UP
from cnctl.models.low_rank import add_factors
from cnctl.tensorfiles.header import Shape
from cnctl.tensorfiles.lazy import Tensors


class Entry(NamedTuple):
    """One tensor; see `cnctl.models.low_rank.Entry`."""

    diffusers: str
    original: str
    shape: Shape
    copied: bool


def list_entries(
    expected: Mapping[str, Shape], copied: Collection[str], computed: Collection[str]
) -> list[Entry]:
    """What a Control-LoRA holds. copied: names of what the base has too; computed: see
    `ControlNetFormat`.
    """
    return [
        Entry(name, name, shape, name in copied and name.endswith(".weight"))
        for name, shape in expected.items()
        if name not in computed
    ]


def complete(own: Tensors, base: Tensors, expected: Mapping[str, Shape]) -> Tensors:
    """All tensors of a ControlNet. own: the file's; base: what is copied, by the same names."""
    whole = {}
    for name in expected:
        stem = name.removesuffix(".weight")
        if stem + UP in own:
            whole[name] = add_factors(base[name], own[stem + UP], own[stem + DOWN])
        else:
            whole[name] = own[name] if name in own else base[name]
    return whole


def trained_tensors(network: nn.Module, computed: Collection[str]) -> dict[str, Tensor]:
    """What the file of a network with adapters holds, by its names."""
    factors = {n: t for n, t in low_rank_state(network).items() if n.endswith((UP, DOWN))}
    others = {
        name.replace(".base_layer.", "."): tensor.detach()
        for name, tensor in network.state_dict().items()
        if f".{NAME}." not in name and not name.endswith(".base_layer.weight")
    }
    return factors | {name: tensor for name, tensor in others.items() if name not in computed}
