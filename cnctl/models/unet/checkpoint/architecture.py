"""The architecture of a ControlNet as a few numbers, and those numbers read from its shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import Shape

_HINT = "controlnet_cond_embedding"
UNION_MARK = "task_embedding"
"""A tensor that every ControlNet-Union has."""


@dataclass(frozen=True, kw_only=True)
class Union:
    """What a ControlNet-Union (xinsir's, for SDXL) has besides the layers of a ControlNet."""

    kinds: int
    """Kinds of hint that it knows."""
    kind_width: int
    """Numbers that say for each kind whether it is given."""
    layers: int
    """Of the transformer that weighs hints of several kinds; as wide as the first block."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that decides which tensors a ControlNet has, and of which shapes."""

    in_channels: int
    """Channels of the latents."""
    hint_channels: int = 0
    """0, and no widths below: the encoder of a U-Net, which has no hint encoder."""
    hint_widths: tuple[int, ...] = ()
    """Widths of the hint encoder before its last convolution, e.g. (16, 32, 96, 256)."""
    widths: tuple[int, ...]
    """Channels of each block of the encoder, e.g. (320, 640, 1280, 1280)."""
    layers: int
    """Residual layers per block."""
    depths: tuple[int, ...]
    """Transformer layers per attention in each block; 0 where the block has no attention."""
    middle_depth: int
    """0: the middle block is one residual layer, as in the small ControlNets for SDXL."""
    text_width: int
    """Width of the text encoder's output; 0 where no attention determines it."""
    linear: bool
    """Attention projects by a linear layer (SD 2.x, SDXL) instead of a 1x1 convolution (SD 1.x)."""
    label_width: int = 0
    """Width of SDXL's second embedding (pooled text and sizes); 0 where there is none."""
    hint_encoder: str = "released"
    """Or "paper": four 4x4 convolutions and a zero convolution, only under diffusers' names."""
    union: Union | None = None

    @property
    def has_original_names(self) -> bool:
        """Whether the original's form can hold it."""
        return self.hint_encoder == "released" and not self.union


def read_architecture(shapes: Mapping[str, Shape]) -> Architecture:
    """Read it from diffusers names, or from original names without their prefix."""
    hint_channels, hint_widths = read_hint(shapes)
    return replace(
        read_encoder(shapes),
        hint_channels=hint_channels,
        hint_widths=hint_widths,
        hint_encoder="paper" if f"{_HINT}.layers.0.weight" in shapes else "released",
        union=_union(shapes) if UNION_MARK in shapes else None,
    )


def _union(shapes: Mapping[str, Shape]) -> Union:
    kinds = max(1, _side(shapes, UNION_MARK, 0))
    return Union(
        kinds=kinds,
        kind_width=_side(shapes, "control_add_embedding.linear_1.weight", 1) // kinds,
        layers=1 + _highest(r"transformer_layes\.(\d+)\.", shapes, default=-1),
    )


def read_hint(shapes: Mapping[str, Shape]) -> tuple[int, tuple[int, ...]]:
    """Channels of the hint, and widths of its encoder before the last convolution."""
    is_diffusers = any(name.startswith(f"{_HINT}.") for name in shapes)
    return (_diffusers_hint if is_diffusers else _original_hint)(shapes)


def read_encoder(shapes: Mapping[str, Shape]) -> Architecture:
    """The part that a ControlNet shares with the U-Net it was copied from."""
    if any(name.startswith("down_blocks.") for name in shapes):
        blocks, middle, first = _diffusers_blocks(shapes), "mid_block.attentions.0", "conv_in"
        label = "add_embedding.linear_1.weight"
    else:
        blocks, middle, first = _original_blocks(shapes), "middle_block.1", "input_blocks.0.0"
        label = "label_emb.0.0.weight"
    depths = [_depth(shapes, block.attention) for block in blocks]
    attentions = [middle, *(block.attention for block in blocks)]
    attention = next((name for name in attentions if _depth(shapes, name)), "")
    key = f"{attention}.transformer_blocks.0.attn2.to_k.weight"
    return Architecture(
        in_channels=_side(shapes, f"{first}.weight", 1),
        widths=tuple(_side(shapes, block.conv, 0) for block in blocks),
        layers=blocks[0].layers,
        depths=tuple(depths),
        middle_depth=_depth(shapes, middle),
        text_width=_side(shapes, key, 1) if attention else 0,
        linear=bool(attention) and len(_shape(shapes, f"{attention}.proj_in.weight")) == 2,
        label_width=_side(shapes, label, 1) if label in shapes else 0,
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
        raise CnctlError(
            f"{name} has shape {list(shape)}", hint="a ControlNet has a different shape"
        )
    return shape[axis]


def _shape(shapes: Mapping[str, Shape], name: str) -> Shape:
    if name not in shapes:
        raise CnctlError(f"the tensor {name} is missing", hint="this is not a whole ControlNet")
    return shapes[name]
