"""The architecture of a ControlNet as a few numbers, and those numbers read from its shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cnctl.errors import CnctlError

Shape = tuple[int, ...]

_HINT = "controlnet_cond_embedding"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that decides which tensors a ControlNet has, and of which shapes."""

    in_channels: int
    """Channels of the latents."""
    hint_channels: int
    hint_widths: tuple[int, ...]
    """Widths of the hint encoder before its last convolution, e.g. (16, 32, 96, 256)."""
    widths: tuple[int, ...]
    """Channels of each block of the encoder, e.g. (320, 640, 1280, 1280)."""
    layers: int
    """Residual layers per block."""
    depths: tuple[int, ...]
    """Transformer layers per attention in each block; 0 where the block has no attention."""
    middle_depth: int
    text_width: int
    """Width of the text encoder's output."""
    linear: bool
    """Attention projects by a linear layer (SD 2.x) instead of a 1x1 convolution (SD 1.x)."""
    hint_encoder: str = "released"
    """Or "paper": four 4x4 convolutions and a zero convolution, only under diffusers' names."""


def read_architecture(shapes: Mapping[str, Shape]) -> Architecture:
    """Read it from diffusers names, or from original names without their prefix."""
    if any(name.startswith(f"{_HINT}.") for name in shapes):
        blocks, middle, hint = _diffusers_blocks(shapes), "mid_block.attentions.0", _diffusers_hint
        first = "conv_in.weight"
    else:
        blocks, middle, hint = _original_blocks(shapes), "middle_block.1", _original_hint
        first = "input_blocks.0.0.weight"
    hint_channels, hint_widths = hint(shapes)
    return Architecture(
        in_channels=_side(shapes, first, 1),
        hint_channels=hint_channels,
        hint_widths=hint_widths,
        widths=tuple(_side(shapes, block.conv, 0) for block in blocks),
        layers=blocks[0].layers,
        depths=tuple(_depth(shapes, block.attention) for block in blocks),
        middle_depth=_depth(shapes, middle),
        text_width=_side(shapes, f"{middle}.transformer_blocks.0.attn2.to_k.weight", 1),
        linear=len(_shape(shapes, f"{middle}.proj_in.weight")) == 2,
        hint_encoder="paper" if f"{_HINT}.layers.0.weight" in shapes else "released",
    )


@dataclass(frozen=True)
class _Block:
    conv: str
    """Name of the first convolution in the block's first residual layer."""
    attention: str
    """Prefix of the first attention, whether it is there or not."""
    layers: int


def _diffusers_blocks(shapes: Mapping[str, Shape]) -> list[_Block]:
    layers = 1 + _highest(r"down_blocks\.0\.resnets\.(\d+)\.", shapes)
    return [
        _Block(f"down_blocks.{b}.resnets.0.conv1.weight", f"down_blocks.{b}.attentions.0", layers)
        for b in range(1 + _highest(r"down_blocks\.(\d+)\.", shapes))
    ]


def _original_blocks(shapes: Mapping[str, Shape]) -> list[_Block]:
    """In the original's flat list, halving the resolution ends each block but the last."""
    blocks: list[list[int]] = [[]]
    for n in range(1, 1 + _highest(r"input_blocks\.(\d+)\.", shapes)):
        if f"input_blocks.{n}.0.op.weight" in shapes:
            blocks.append([])
        else:
            blocks[-1].append(n)
    if not all(blocks):
        raise CnctlError("the encoder's blocks are incomplete", hint="the file has lost tensors")
    return [
        _Block(f"input_blocks.{ns[0]}.0.in_layers.2.weight", f"input_blocks.{ns[0]}.1", len(ns))
        for ns in blocks
    ]


def _diffusers_hint(shapes: Mapping[str, Shape]) -> tuple[int, tuple[int, ...]]:
    if f"{_HINT}.layers.0.weight" in shapes:
        convs = [f"{_HINT}.layers.{i}.weight" for i in range(4)]
    else:
        count = 1 + _highest(rf"{_HINT}\.blocks\.(\d+)\.", shapes, default=-1)
        blocks = [f"{_HINT}.blocks.{i}.weight" for i in range(1, count, 2)]
        convs = [f"{_HINT}.conv_in.weight", *blocks]
    return _side(shapes, convs[0], 1), tuple(_side(shapes, name, 0) for name in convs)


def _original_hint(shapes: Mapping[str, Shape]) -> tuple[int, tuple[int, ...]]:
    last = _highest(r"input_hint_block\.(\d+)\.", shapes)
    convs = [f"input_hint_block.{i}.weight" for i in range(0, last, 4)]
    return _side(shapes, convs[0], 1), tuple(_side(shapes, name, 0) for name in convs)


def _depth(shapes: Mapping[str, Shape], attention: str) -> int:
    return 1 + _highest(rf"{re.escape(attention)}\.transformer_blocks\.(\d+)\.", shapes, default=-1)


def _highest(pattern: str, names: Iterable[str], default: int | None = None) -> int:
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    if found:
        # Numbers in names decide how many tensors are expected: a made-up one must not.
        return min(max(found), 100)
    if default is None:
        wanted = pattern.replace("\\", "").replace("(d+)", "0")
        raise CnctlError(f"no tensor is named {wanted}*", hint="this is not a whole ControlNet")
    return default


def _side(shapes: Mapping[str, Shape], name: str, axis: int) -> int:
    shape = _shape(shapes, name)
    if len(shape) <= axis:
        raise CnctlError(f"{name} has shape {list(shape)}", hint="a ControlNet has another there")
    return shape[axis]


def _shape(shapes: Mapping[str, Shape], name: str) -> Shape:
    if name not in shapes:
        raise CnctlError(f"the tensor {name} is missing", hint="this is not a whole ControlNet")
    return shapes[name]
