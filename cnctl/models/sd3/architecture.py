"""The architecture of an SD3 ControlNet as a few numbers, and the tensors that follow from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cnctl.models.transformer.shapes import shape_of_tensor
from cnctl.tensorfiles.header import Shape

TIME_CHANNELS = 256
"""Of the sinusoidal embedding of time."""
POSITIONS = "pos_embed.pos_embed"
COMPUTED = frozenset({POSITIONS})
"""Not trained."""
Named = tuple[str, Shape]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that decides which tensors a ControlNet has, and of which shapes."""

    layers: int
    width: int
    """Channels of a token."""
    patch_size: int
    latent_channels: int
    hint_channels: int
    """Of the hint's latents; more than the latents' where it reads a mask too."""
    pooled_width: int
    text_width: int
    """0 for Stability's form, which reads no text."""
    head_width: int
    """0 where queries and keys are not normalised: then no shape determines it."""
    dual: tuple[int, ...]
    """Blocks with a second attention, of the image alone."""
    positions: int
    """Of its position embedding, along a side; 0 where the base's is used."""


def read_architecture(shapes: Mapping[str, Shape]) -> Architecture:
    """Read it from diffusers' names; CnctlError names a tensor that is missing."""
    width, hint_channels, patch, _ = shape_of_tensor(shapes, "pos_embed_input.proj.weight", 4)
    positions = shape_of_tensor(shapes, POSITIONS, 3)[1] if _has(shapes, "pos_embed.") else 0
    latents = shape_of_tensor(shapes, "pos_embed.proj.weight", 4)[1] if positions else hint_channels
    text = (
        shape_of_tensor(shapes, "context_embedder.weight", 2)[1]
        if _has(shapes, "context_emb")
        else 0
    )
    norm = shapes.get("transformer_blocks.0.attn.norm_q.weight", (0,))
    numbers = [re.match(r"transformer_blocks\.(\d+)\.(attn2\.)?", name) for name in shapes]
    found = [match for match in numbers if match]
    return Architecture(
        # Numbers in names decide how many tensors are expected: a made-up one must not.
        layers=1 + min(100, max((int(match[1]) for match in found), default=0)),
        width=width,
        patch_size=patch,
        latent_channels=latents,
        hint_channels=hint_channels,
        pooled_width=shape_of_tensor(shapes, "time_text_embed.text_embedder.linear_1.weight", 2)[1],
        text_width=text,
        head_width=norm[0],
        dual=tuple(sorted({int(match[1]) for match in found if match[2]})),
        positions=round(positions**0.5),
    )


def expected_shapes(a: Architecture) -> dict[str, Shape]:
    """Every tensor that such a ControlNet has, by diffusers' name."""
    return dict(_tensors(a))


def _tensors(a: Architecture) -> Iterator[Named]:
    w, patch = a.width, (a.patch_size, a.patch_size)
    for name, into in (("timestep_embedder", TIME_CHANNELS), ("text_embedder", a.pooled_width)):
        yield from _linear(f"time_text_embed.{name}.linear_1", w, into)
        yield from _linear(f"time_text_embed.{name}.linear_2", w, w)
    yield from _weights("pos_embed_input.proj", (w, a.hint_channels, *patch))
    if a.positions:
        yield POSITIONS, (1, a.positions**2, w)
        yield from _weights("pos_embed.proj", (w, a.latent_channels, *patch))
    if a.text_width:
        yield from _linear("context_embedder", w, a.text_width)
    for number in range(a.layers):
        yield from _linear(f"controlnet_blocks.{number}", w, w)
        for name, shape in _block(a, dual=number in a.dual):
            yield f"transformer_blocks.{number}.{name}", shape


def _block(a: Architecture, *, dual: bool) -> Iterator[Named]:
    w = a.width
    streams = [""] if not a.text_width else ["", "_context"]
    yield from _linear("norm1.linear", (9 if dual else 6) * w, w)
    if a.text_width:
        yield from _linear("norm1_context.linear", 6 * w, w)
    yield from _attention(a, "attn", joint=bool(a.text_width))
    if dual:
        yield from _attention(a, "attn2", joint=False)
    for stream in streams:
        yield from _linear(f"ff{stream}.net.0.proj", 4 * w, w)
        yield from _linear(f"ff{stream}.net.2", w, 4 * w)


def _attention(a: Architecture, stem: str, *, joint: bool) -> Iterator[Named]:
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    norms = ["norm_q", "norm_k"] if a.head_width else []
    if joint:
        layers += ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
        norms += ["norm_added_q", "norm_added_k"] if a.head_width else []
    for name in layers:
        yield from _linear(f"{stem}.{name}", a.width, a.width)
    for name in norms:
        yield f"{stem}.{name}.weight", (a.head_width,)


def _linear(name: str, out: int, into: int) -> Iterator[Named]:
    return _weights(name, (out, into))


def _weights(name: str, weight: Shape) -> Iterator[Named]:
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]


def _has(shapes: Mapping[str, Shape], start: str) -> bool:
    return any(name.startswith(start) for name in shapes)
