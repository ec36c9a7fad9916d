"""The two factors that a Control-LoRA holds for a weight, by their names and shapes.

In Stability's form, the only one that is published: `NAME.up` (out, rank) and `NAME.down` (rank,
in, ...), whose product is what is added to the base's `NAME.weight`. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import Shape, TensorSpec

UP, DOWN = ".up", ".down"
MARK = "lora_controlnet"
"""An empty tensor of this name marks a Control-LoRA."""


def unfolded_shapes(tensors: Mapping[str, TensorSpec]) -> dict[str, Shape]:
    """Shapes of what the file's tensors make, factors multiplied; CnctlError names odd ones."""
    shapes = {}
    for name, spec in tensors.items():
        stem, is_factor = name.removesuffix(UP).removesuffix(DOWN), name.endswith((UP, DOWN))
        if not is_factor:
            shapes[name] = spec.shape
        elif f"{stem}.weight" in tensors or not {stem + UP, stem + DOWN} <= tensors.keys():
            raise CnctlError(
                f"{stem} lacks one of its factors, or also has a whole weight",
                hint="the file is damaged or is not a Control-LoRA; get another",
            )
        else:
            up, down = tensors[stem + UP].shape, tensors[stem + DOWN].shape
            if len(up) < 2 or len(down) < 2 or prod(up[1:]) != down[0]:
                raise CnctlError(
                    f"{stem} has factors of shapes {list(up)} and {list(down)}",
                    hint="the file is damaged; get another",
                )
            shapes[f"{stem}.weight"] = (up[0], *down[1:])
    return shapes


def count_merged(tensors: Mapping[str, TensorSpec]) -> int:
    """Parameters of the ControlNet that the factors and their base make; 0 for other files."""
    if not rank_of(tensors):
        return 0
    return sum(map(prod, unfolded_shapes(tensors).values()))


def rank_of(tensors: Mapping[str, TensorSpec]) -> int:
    """The largest rank of a file's factors; 0 where it has none."""
    return max((spec.shape[0] for name, spec in tensors.items() if name.endswith(DOWN)), default=0)
