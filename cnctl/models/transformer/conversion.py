"""Conversion of ControlNets for transformers; diffusers is imported only where a network runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.combine import average
from cnctl.models.conversion import Conversion
from cnctl.models.finite import checked
from cnctl.models.process import FlowMatching
from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.source import describe, open_source
from cnctl.models.transformer.tensors import read_tensors, rename
from cnctl.models.write_weights import refuse_pickle, write_weights
from cnctl.tensorfiles.lazy import Tensors
from cnctl.tensorfiles.write import names_a_file


def build_conversion(format: ControlNetFormat) -> Conversion:
    """What `cnctl convert` asks of a family with these files."""
    from_base = _refuse(format, "converting from a base", "cnctl train starts from a base")
    return Conversion(
        open=partial(open_source, format),
        describe=partial(describe, format),
        named_condition=format.condition_of,
        known_quirk=format.known_quirk,
        read=read_tensors,
        bytes=lambda architecture: _float32_bytes(format, architecture),
        average=average,
        open_base=from_base,
        read_prediction=lambda path: FlowMatching.prediction,
        read_base=from_base,
        transfer=from_base,
        base_update=from_base,
        is_full=lambda source: False,
        choose_form=partial(_choose_form, format),
        check_form=partial(_check_form, format),
        is_low_rank=lambda form: False,
        check=checked,
        rename=partial(_rename, format),
        factorise=from_base,
        write=write_weights,
        residuals=partial(_residuals, format),
        hint_encoders=("released",),
        initial=from_base,
        initial_tensors=from_base,
    )


def _choose_form(format: ControlNetFormat, to: str | None, target: Path) -> str:
    """The name of a form, for None the network's own; diffusers' may be a folder or one file."""
    refuse_pickle(target)
    form = format.find_form(to or format.own_form.name)
    if form is None:
        known = ", ".join(form.name for form in (format.own_form, *format.forms))
        raise CnctlError(
            f"the form {to!r} is not one of ControlNets for {format.family}",
            hint=f"use one of {known}",
        )
    if form.one_file and not names_a_file(target):
        raise CnctlError(
            f"the form {form.name!r} is one file, and {target} does not end in .safetensors",
            hint=f"write {target}.safetensors",
        )
    return form.name


def _check_form(format: ControlNetFormat, architecture: Any, name: str, source: Path) -> None:
    """CnctlError where a form has no names for such a ControlNet."""
    form = format.find_form(name)
    if form is not None and (why := form.refuses(architecture)):
        raise CnctlError(f"{source} {why}", hint="use --to diffusers")


def _float32_bytes(format: ControlNetFormat, architecture: Any) -> int:
    return 4 * sum(map(prod, format.expected_shapes(architecture).values()))


def _rename(format: ControlNetFormat, tensors: Tensors, architecture: Any, name: str) -> Tensors:
    form = format.find_form(name)
    assert form is not None
    return rename(tensors, format.expected_shapes(architecture), form)


@torch.no_grad()
def _residuals(
    format: ControlNetFormat,
    tensors: Tensors,
    architecture: Any,
    config: Mapping[str, Any],
    *,
    where: Path,
) -> list[torch.Tensor]:
    """The residuals of random latents or tokens, text and hint, in float32."""
    from cnctl.models.transformer.load import build

    complete = format.complete_config(config, architecture)
    network = build(format, tensors, complete, dtype=torch.float32)
    return list(format.respond(network, torch.Generator().manual_seed(0)))


def _refuse(format: ControlNetFormat, what: str, hint: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise CnctlError(f"{what} is not supported for {format.family}", hint=hint)

    return refuse
