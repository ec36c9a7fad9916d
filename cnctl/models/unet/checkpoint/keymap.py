"""Every tensor of a ControlNet under its two names: diffusers' and the original's.

The table is derived from the architecture, so it serves every width and number of blocks, and it
is a bijection: read forwards it converts to the original's form, read backwards to diffusers'.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cnctl.models.unet.checkpoint.architecture import Architecture, Shape, Union

UNION_STEMS = (
    "task_embedding",
    "transformer_layes.",
    "spatial_ch_projs.",
    "control_add_embedding.",
)
"""How the names of what only a ControlNet-Union has begin; the misspelling is the released one."""


class Pair(NamedTuple):
    diffusers: str
    original: str
    shape: Shape

    @property
    def copied(self) -> bool:
        """Of the trainable copy: the base's U-Net has the same tensor under the same names."""
        return not self.diffusers.startswith(("controlnet_", *UNION_STEMS))


class _Layer(NamedTuple):
    """One layer with a weight and, mostly, a bias as long as the weight's first side."""

    diffusers: str
    original: str
    weight: Shape
    bias: bool = True


def pairs(architecture: Architecture) -> list[Pair]:
    """All tensors; the original's names come without the `control_model.` prefix.

    The paper's hint encoder and what a ControlNet-Union adds exist under diffusers' names only:
    their original names are empty. A U-Net's encoder (no hint channels) has the copied tensors
    alone.
    """
    table = []
    for layer in _layers(architecture):
        table.append(_pair(layer, "weight", layer.weight))
        if layer.bias:
            table.append(_pair(layer, "bias", layer.weight[:1]))
    if architecture.union:
        table += _union(architecture.union, architecture.widths[0])
    return table if architecture.hint_channels else [pair for pair in table if pair.copied]


def decoder_names(encoder: Architecture) -> Iterator[tuple[str, str]]:
    """Every tensor of the U-Net's other half: diffusers' name, the original's without prefix."""
    depths, n = encoder.depths[::-1], 0
    for b, depth in enumerate(depths):
        for r in range(encoder.layers + 1):
            # Here every residual layer has a shortcut: skips widen its input.
            layers = _inside(_resnet(1, 2, 1), f"up_blocks.{b}.resnets.{r}", f"output_blocks.{n}.0")
            yield from _both(layers)
            if depth:
                inner = _attention(1, depth, encoder)
                outer = f"up_blocks.{b}.attentions.{r}", f"output_blocks.{n}.1"
                yield from _both(_inside(inner, *outer))
            n += 1
        if b < len(depths) - 1:
            place = f"output_blocks.{n - 1}.{2 if depth else 1}.conv"
            yield from _both(iter([_Layer(f"up_blocks.{b}.upsamplers.0.conv", place, (1,))]))
    last = [_Layer("conv_norm_out", "out.0", (1,)), _Layer("conv_out", "out.2", (1,))]
    yield from _both(iter(last))


def _both(layers: Iterator[_Layer]) -> Iterator[tuple[str, str]]:
    for layer in layers:
        for end in ("weight", "bias") if layer.bias else ("weight",):
            yield f"{layer.diffusers}.{end}", f"{layer.original}.{end}"


def _pair(layer: _Layer, end: str, shape: Shape) -> Pair:
    original = f"{layer.original}.{end}" if layer.original else ""
    return Pair(f"{layer.diffusers}.{end}", original, shape)


def _layers(a: Architecture) -> Iterator[_Layer]:
    time = 4 * a.widths[0]
    yield _Layer("time_embedding.linear_1", "time_embed.0", (time, a.widths[0]))
    yield _Layer("time_embedding.linear_2", "time_embed.2", (time, time))
    if a.label_width:
        yield _Layer("add_embedding.linear_1", "label_emb.0.0", (time, a.label_width))
        yield _Layer("add_embedding.linear_2", "label_emb.0.2", (time, time))
    yield _Layer("conv_in", "input_blocks.0.0", (a.widths[0], a.in_channels, 3, 3))
    yield from _hint_encoder(a)
    yield from _encoder(a, time)
    width = a.widths[-1]
    yield from _inside(_resnet(width, width, time), "mid_block.resnets.0", "middle_block.0")
    if a.middle_depth:
        attention = _attention(width, a.middle_depth, a)
        yield from _inside(attention, "mid_block.attentions.0", "middle_block.1")
        yield from _inside(_resnet(width, width, time), "mid_block.resnets.1", "middle_block.2")
    yield _Layer("controlnet_mid_block", "middle_block_out.0", (width, width, 1, 1))


def _hint_encoder(a: Architecture) -> Iterator[_Layer]:
    """Convolutions at every second place of the original's list; activations lie between."""
    stem = "controlnet_cond_embedding"
    if not a.hint_widths:
        return
    if a.hint_encoder == "paper":
        yield from _paper_hint_encoder(a, stem)
        return
    first = (a.hint_widths[0], a.hint_channels, 3, 3)
    yield _Layer(f"{stem}.conv_in", "input_hint_block.0", first)
    steps = [
        (width, into)
        for width, after in zip(a.hint_widths, a.hint_widths[1:], strict=False)
        for into in (width, after)
    ]
    for i, (width, into) in enumerate(steps):
        yield _Layer(f"{stem}.blocks.{i}", f"input_hint_block.{2 * i + 2}", (into, width, 3, 3))
    last = (a.widths[0], a.hint_widths[-1], 3, 3)
    yield _Layer(f"{stem}.conv_out", f"input_hint_block.{2 * len(steps) + 2}", last)


def _paper_hint_encoder(a: Architecture, stem: str) -> Iterator[_Layer]:
    """The original's code never had this form, so there is no second name to give."""
    sides = zip((a.hint_channels, *a.hint_widths), a.hint_widths, strict=False)
    for i, (width, into) in enumerate(sides):
        yield _Layer(f"{stem}.layers.{i}", "", (into, width, 4, 4))
    yield _Layer(f"{stem}.zero_conv", "", (a.widths[0], a.hint_widths[-1], 1, 1))


def _encoder(a: Architecture, time: int) -> Iterator[_Layer]:
    """Layer n of the original's flat list is layer r of block b, or the end of block b."""
    width = a.widths[0]
    yield _zero_conv(0, width)
    n = 0
    for b, into in enumerate(a.widths):
        for r in range(a.layers):
            n += 1
            resnet = _resnet(width, into, time)
            yield from _inside(resnet, f"down_blocks.{b}.resnets.{r}", f"input_blocks.{n}.0")
            if a.depths[b]:
                attention = _attention(into, a.depths[b], a)
                yield from _inside(
                    attention, f"down_blocks.{b}.attentions.{r}", f"input_blocks.{n}.1"
                )
            yield _zero_conv(n, into)
            width = into
        if b < len(a.widths) - 1:
            n += 1
            down = f"down_blocks.{b}.downsamplers.0.conv"
            yield _Layer(down, f"input_blocks.{n}.0.op", (into, into, 3, 3))
            yield _zero_conv(n, into)


def _union(union: Union, width: int) -> Iterator[Pair]:
    time = 4 * width
    shapes: dict[str, Shape] = {"task_embedding": (union.kinds, width)}
    linear = {
        "spatial_ch_projs": (width, width),
        "control_add_embedding.linear_1": (time, union.kinds * union.kind_width),
        "control_add_embedding.linear_2": (time, time),
    }
    for n in range(union.layers):
        block = f"transformer_layes.{n}"
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
        }
        shapes |= {f"{block}.ln_{m}.{end}": (width,) for m in (1, 2) for end in ("weight", "bias")}
        linear |= {
            f"{block}.attn.out_proj": (width, width),
            f"{block}.mlp.c_fc": (4 * width, width),
            f"{block}.mlp.c_proj": (width, 4 * width),
        }
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return (Pair(name, "", shape) for name, shape in shapes.items())


def _zero_conv(n: int, width: int) -> _Layer:
    return _Layer(f"controlnet_down_blocks.{n}", f"zero_convs.{n}.0", (width, width, 1, 1))


def _resnet(width: int, into: int, time: int) -> Iterator[_Layer]:
    yield _Layer("norm1", "in_layers.0", (width,))
    yield _Layer("conv1", "in_layers.2", (into, width, 3, 3))
    yield _Layer("time_emb_proj", "emb_layers.1", (into, time))
    yield _Layer("norm2", "out_layers.0", (into,))
    yield _Layer("conv2", "out_layers.3", (into, into, 3, 3))
    if width != into:
        yield _Layer("conv_shortcut", "skip_connection", (into, width, 1, 1))


def _attention(width: int, depth: int, a: Architecture) -> Iterator[_Layer]:
    """Inside an attention both forms use the same names."""
    project = (width, width) if a.linear else (width, width, 1, 1)
    yield _same("norm", (width,))
    yield _same("proj_in", project)
    for d in range(depth):
        yield from _inside(_transformer(width, a.text_width), *[f"transformer_blocks.{d}"] * 2)
    yield _same("proj_out", project)


def _transformer(width: int, text_width: int) -> Iterator[_Layer]:
    for name, source in (("attn1", width), ("attn2", text_width)):
        yield _same(f"{name}.to_q", (width, width), bias=False)
        yield _same(f"{name}.to_k", (width, source), bias=False)
        yield _same(f"{name}.to_v", (width, source), bias=False)
        yield _same(f"{name}.to_out.0", (width, width))
    yield _same("ff.net.0.proj", (8 * width, width))
    yield _same("ff.net.2", (width, 4 * width))
    for name in ("norm1", "norm2", "norm3"):
        yield _same(name, (width,))


def _same(name: str, weight: Shape, bias: bool = True) -> _Layer:
    return _Layer(name, name, weight, bias)


def _inside(layers: Iterator[_Layer], diffusers: str, original: str) -> Iterator[_Layer]:
    for layer in layers:
        yield layer._replace(
            diffusers=f"{diffusers}.{layer.diffusers}", original=f"{original}.{layer.original}"
        )
