"""Conversion of ControlNets for SD3; diffusers is imported only where a network runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.combine import average
from cnctl.models.conversion import Conversion
from cnctl.models.finite import checked
from cnctl.models.process import FlowMatching
from cnctl.models.sd3 import original, published
from cnctl.models.sd3.architecture import Architecture, expected_shapes
from cnctl.models.sd3.config import complete_config
from cnctl.models.sd3.source import describe, open_source
from cnctl.models.sd3.tensors import read_tensors
from cnctl.models.write_weights import refuse_pickle, write_weights
from cnctl.tensorfiles.lazy import LazyTensor, Tensors
from cnctl.tensorfiles.write import names_a_file

FORMS = ("diffusers", "original")


def choose_form(to: str | None, target: Path) -> str:
    """One of FORMS, "diffusers" for None: both as a folder or as one file."""
    refuse_pickle(target)
    form = to or "diffusers"
    if form not in FORMS:
        raise CnctlError(
            f"the form {form!r} is not one of ControlNets for SD3",
            hint=f"use one of {', '.join(FORMS)}",
        )
    if form == "original" and not names_a_file(target):
        raise CnctlError(
            f"the form {form!r} is one file, and {target} does not end in .safetensors",
            hint=f"write {target}.safetensors",
        )
    return form


def check_form(architecture: Architecture, form: str, source: Path) -> None:
    """CnctlError where Stability's form has no names for such a ControlNet."""
    if form == "original" and architecture.text_width:
        raise CnctlError(
            f"{source} reads text, unknown to Stability's own form", hint="use --to diffusers"
        )


def float32_bytes(architecture: Architecture) -> int:
    """How many bytes the tensors take in float32."""
    return 4 * sum(map(prod, expected_shapes(architecture).values()))


def rename(tensors: Tensors, architecture: Architecture, form: str) -> Tensors:
    """From diffusers' names to those of the form."""
    if form == "diffusers":
        return tensors
    parts: dict[str, list[LazyTensor]] = {}
    for name in expected_shapes(architecture):
        parts.setdefault(original.original_name(name), []).append(tensors[name])
    return {name: _joined(own) for name, own in parts.items()}


@torch.no_grad()
def residuals(
    tensors: Tensors, a: Architecture, config: Mapping[str, Any], *, where: Path
) -> list[torch.Tensor]:
    """The residuals of random latents or tokens, text and hint, in float32."""
    from cnctl.models.sd3.load import build

    network = build(tensors, complete_config(config, a), dtype=torch.float32)
    random, side = torch.Generator().manual_seed(0), 4 * a.patch_size
    tokens = (1, 16, a.width)
    seen = (1, a.latent_channels, side, side) if a.positions else tokens
    text = torch.randn(1, 77, a.text_width, generator=random) if a.text_width else None
    [samples] = network(
        torch.randn(seen, generator=random),
        torch.randn(1, a.hint_channels, side, side, generator=random),
        encoder_hidden_states=text,
        pooled_projections=torch.randn(1, a.pooled_width, generator=random),
        timestep=torch.tensor([500.0]),
        return_dict=False,
    )
    return list(samples)


def _joined(parts: list[LazyTensor]) -> LazyTensor:
    """One tensor of several along the first side."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
    return LazyTensor(first.dtype, shape, lambda: torch.cat([part.read() for part in parts]))


def _refuse(what: str, hint: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise CnctlError(f"{what} is not supported for Stable Diffusion 3", hint=hint)

    return refuse


FROM_BASE = _refuse("converting from a base", "cnctl train starts from a base")
CONVERSION = Conversion(
    open=open_source,
    describe=describe,
    named_condition=published.condition_of,
    known_quirk=published.known_quirk,
    read=read_tensors,
    bytes=float32_bytes,
    average=average,
    open_base=FROM_BASE,
    read_prediction=lambda path: FlowMatching.prediction,
    read_base=FROM_BASE,
    transfer=FROM_BASE,
    base_update=FROM_BASE,
    is_full=lambda source: False,
    choose_form=choose_form,
    check_form=check_form,
    is_low_rank=lambda form: False,
    check=checked,
    rename=rename,
    factorise=FROM_BASE,
    write=write_weights,
    residuals=residuals,
    hint_encoders=("released",),
    initial=FROM_BASE,
    initial_tensors=FROM_BASE,
)
