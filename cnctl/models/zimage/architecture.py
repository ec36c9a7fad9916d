"""The architecture of a Z-Image ControlNet as a few numbers, and the tensors that follow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cnctl.errors import CnctlError
from cnctl.models.zimage.shape import PATCH_SIZE
from cnctl.tensorfiles.header import Shape

EMBEDDER = f"control_all_x_embedder.{PATCH_SIZE}-1"
TIME_WIDTH = 256
"""The most channels that layers read of the embedding of time."""
Named = tuple[str, Shape]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that decides which tensors a ControlNet has, and of which shapes."""

    layers: int
    refiner_layers: int
    """Of its own; 0 where it refines hints by its layers."""
    connected: bool
    """Whether its refiner adds to that of the base, as versions from 2.1 do."""
    width: int
    """Channels of a token."""
    head_width: int
    """0 where queries and keys are not normalised: then no shape determines it."""
    hint_channels: int
    """Latent channels of a hint, a mask and an image beside it included."""


def read_architecture(shapes: Mapping[str, Shape]) -> Architecture:
    """Read it from diffusers' names; CnctlError names a tensor that is missing."""
    width, patch = _shape(shapes, f"{EMBEDDER}.weight")
    return Architecture(
        layers=_count(shapes, "control_layers"),
        refiner_layers=_count(shapes, "control_noise_refiner"),
        connected="control_noise_refiner.0.after_proj.weight" in shapes,
        width=width,
        head_width=shapes.get("control_layers.0.attention.norm_q.weight", (0,))[0],
        hint_channels=patch // PATCH_SIZE**2,
    )


def expected_shapes(a: Architecture) -> dict[str, Shape]:
    """Every tensor that such a ControlNet has, by diffusers' name."""
    return dict(_tensors(a))


def _tensors(a: Architecture) -> Iterator[Named]:
    yield from _linear(EMBEDDER, a.width, a.hint_channels * PATCH_SIZE**2)
    for number in range(a.layers):
        yield from _layer(a, f"control_layers.{number}", first=number == 0, connected=True)
    for number in range(a.refiner_layers):
        stem = f"control_noise_refiner.{number}"
        yield from _layer(a, stem, first=number == 0, connected=a.connected)


def _layer(a: Architecture, stem: str, *, first: bool, connected: bool) -> Iterator[Named]:
    w, hidden = a.width, int(a.width / 3 * 8)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        yield f"{stem}.attention.{name}.weight", (w, w)
    for name in ("norm_q", "norm_k") if a.head_width else ():
        yield f"{stem}.attention.{name}.weight", (a.head_width,)
    for name, shape in (("w1", (hidden, w)), ("w2", (w, hidden)), ("w3", (hidden, w))):
        yield f"{stem}.feed_forward.{name}.weight", shape
    for name in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"):
        yield f"{stem}.{name}.weight", (w,)
    yield from _linear(f"{stem}.adaLN_modulation.0", 4 * w, min(w, TIME_WIDTH))
    if connected and first:
        yield from _linear(f"{stem}.before_proj", w, w)
    if connected:
        yield from _linear(f"{stem}.after_proj", w, w)


def _linear(name: str, out: int, into: int) -> Iterator[Named]:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def _count(shapes: Mapping[str, Shape], stem: str) -> int:
    """One more than the highest number behind this stem."""
    numbers = (re.match(rf"{stem}\.(\d+)\.", name) for name in shapes)
    # Numbers in names decide how many tensors are expected: a made-up one must not.
    return min(100, max((int(found[1]) + 1 for found in numbers if found), default=0))


def _shape(shapes: Mapping[str, Shape], name: str) -> Shape:
    if len(shape := shapes.get(name, ())) != 2:
        what = f"has shape {list(shape)}" if name in shapes else "is missing"
        raise CnctlError(f"the tensor {name} {what}", hint="this is not a whole ControlNet")
    return shape
