"""Files that are a ControlNet together with a base only: differences and low ranks.

A webui difference file holds what is to be added to each copied tensor, and leaves out those
that did not change. A Control-LoRA (stability's form) holds for each copied weight two factors,
`up` (out, rank) and `down` (rank, in, ...), whose product is to be added, and some tensors whole.
The layers that no base has are whole in both.
"""

from __future__ import annotations

from cnctl.models.factors import DOWN, UP
from cnctl.models.low_rank import add, add_factors
from cnctl.models.unet.checkpoint.keymap import Pair
from cnctl.tensorfiles.lazy import LazyTensor, Tensors


def complete(own: Tensors, base: Tensors, pair: Pair, *, mark: str) -> LazyTensor:
    """The whole tensor. own: by the original's names; base: copied tensors by diffusers' names.

    It has the precision of the file; what the file leaves out has that of the base.
    """
    stem = pair.original.removesuffix(".weight")
    if stem + UP in own:
        return add_factors(base[pair.diffusers], own[stem + UP], own[stem + DOWN])
    if pair.original not in own:
        return base[pair.diffusers]
    tensor = own[pair.original]
    if mark == "difference" and pair.copied:
        return add(base[pair.diffusers], tensor, dtype=tensor.dtype)
    return tensor
