"""Shapes of a network's tensors, by diffusers' names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import Shape

MOST_LAYERS = 100
"""Numbers in names decide how many tensors are expected: a made-up one must not."""


def shape_of_tensor(shapes: Mapping[str, Shape], name: str, sides: int) -> Shape:
    """The shape of a tensor with so many sides; CnctlError where it is missing or another."""
    if len(shape := shapes.get(name, ())) != sides:
        what = f"has shape {list(shape)}" if name in shapes else "is missing"
        raise CnctlError(f"the tensor {name} {what}", hint="this is not a whole ControlNet")
    return shape


def count_layers(shapes: Mapping[str, Shape], stem: str) -> int:
    """How many layers "STEM.0.", "STEM.1.", ... there are, at most MOST_LAYERS."""
    numbers = (re.match(rf"{re.escape(stem)}\.(\d+)\.", name) for name in shapes)
    return 1 + min(MOST_LAYERS, max((int(found[1]) for found in numbers if found), default=-1))


def shapes_of_class(kind: Any, config: Mapping[str, Any]) -> dict[str, Shape]:
    """Every tensor of a diffusers network with this config; nothing is allocated."""
    import torch

    with torch.device("meta"):
        network = kind(**{name: v for name, v in config.items() if not name.startswith("_")})
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def check_config(
    config: Mapping[str, Any],
    determined: Mapping[str, Any],
    *,
    kind: str,
    ignored: Collection[str] = (),
) -> None:
    """Raise CnctlError where a config is not that of a `kind` with what the shapes have determined.

    ignored: fields that make no difference.
    """
    if config.get("_class_name", kind) != kind:
        raise CnctlError(
            f"the config is that of a {config['_class_name']}, not of a {kind}",
            hint="give the config.json of this ControlNet",
        )
    for name, value in determined.items():
        if name in config and name not in ignored and config[name] != value:
            raise CnctlError(
                f"the config says {name} = {config[name]}, the weights say {value}",
                hint="the config belongs to another ControlNet",
            )


def check_equal(
    control: Mapping[str, Any],
    base: Mapping[str, Any],
    fields: Mapping[str, tuple[str, Any]],
    *,
    name_family: Callable[[Mapping[str, Any]], str],
) -> None:
    """Raise CnctlError where the configs of a ControlNet and a base differ in one of the fields.

    fields: name -> what it counts, and what diffusers takes where a config leaves it out.
    """
    for field, (what, default) in fields.items():
        own, theirs = control.get(field, default), base.get(field, default)
        if own != theirs:
            raise CnctlError(
                f"this ControlNet was made for a base with {what} {own}; the base has {theirs}",
                hint=choose_another(name_family(control), name_family(base)),
            )


def choose_another(made_for: str, used_with: str) -> str:
    """The hint where a ControlNet for one family does not fit a base of the other, or its own."""
    if made_for == used_with:
        return "choose the base that it was made for"
    return f"choose a base of {made_for}, or a ControlNet for {used_with}"
