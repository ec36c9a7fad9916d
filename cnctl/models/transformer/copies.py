"""A fresh ControlNet from its base's own blocks."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.nn.Module)


def copy_of(transformer: Any, kind: type[Kind], *, seed: int, **changes: Any) -> Kind:
    """A network of this kind with the transformer's weights wherever names are equal.

    float32, on the transformer's device. Its config is the transformer's with these
    changes, where it has such fields. What has no counterpart is drawn by the seed, or zero as
    diffusers' class has it.
    """
    config = {
        name: transformer.config[name]
        for name in inspect.signature(kind).parameters
        if name in transformer.config
    }
    on_meta = transformer.device.type == "meta"
    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        torch.manual_seed(seed)
        controlnet = kind(**config | changes)
    if not on_meta:
        own = controlnet.state_dict().keys()
        copied = {n: t for n, t in transformer.state_dict().items() if n in own}
        controlnet.load_state_dict(copied, strict=False)
    return controlnet.to(transformer.device)
