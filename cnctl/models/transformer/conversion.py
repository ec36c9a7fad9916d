"""Conversion of ControlNets for transformers; diffusers is imported only where a network runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import torch

from cnctl.errors import CnctlError
from cnctl.models.combine import average, transfer
from cnctl.models.conversion import Conversion
from cnctl.models.finite import checked
from cnctl.models.low_rank import factorise
from cnctl.models.process import FlowMatching
from cnctl.models.save import diffusers_config
from cnctl.models.transformer.base_tensors import BaseTransformer, copied_tensors, open_transformer
from cnctl.models.transformer.format import LOW_RANK, ControlNetFormat
from cnctl.models.transformer.low_rank import list_entries
from cnctl.models.transformer.source import describe, open_source
from cnctl.models.transformer.starts import draw_weight
from cnctl.models.transformer.tensors import read_tensors, rename
from cnctl.models.transformer.weights import check_hint_channels
from cnctl.models.write_weights import refuse_pickle, write_weights
from cnctl.tensorfiles.lazy import Tensors, ready
from cnctl.tensorfiles.write import names_a_file


def build_conversion(format: ControlNetFormat) -> Conversion:
    """What `cnctl convert` asks of a family with these files."""
    conversion = Conversion(
        open=partial(open_source, format),
        describe=partial(describe, format),
        named_condition=format.condition_of,
        known_quirk=format.known_quirk,
        read=read_tensors,
        bytes=lambda architecture: _float32_bytes(format, architecture),
        average=average,
        open_base=partial(open_transformer, format),
        read_prediction=lambda path: FlowMatching.prediction,
        read_base=partial(_read_base, format),
        transfer=transfer,
        base_update=_no_base_update,
        is_full=lambda source: False,
        choose_form=partial(_choose_form, format),
        check_form=partial(_check_form, format),
        is_low_rank=lambda form: form == LOW_RANK.name,
        check=checked,
        rename=partial(_rename, format),
        factorise=partial(_factorise, format),
        write=write_weights,
        residuals=partial(_residuals, format),
        hint_encoders=("released",),
        initial=partial(_initial, format),
        initial_tensors=partial(_initial_tensors, format),
    )
    return conversion if format.copied else replace(conversion, open_base=partial(_refuse, format))


def _refuse(format: ControlNetFormat, *_: Any) -> NoReturn:
    raise CnctlError(
        f"ControlNets for {format.family} are not copies of their base, so a base can be neither "
        "subtracted from them nor added",
        hint="convert it without a base",
    )


def _no_base_update(*_: Any) -> NoReturn:
    raise AssertionError("no file of these families has its base in it")


def _read_base(
    format: ControlNetFormat, base: BaseTransformer, architecture: Any, config: Mapping[str, Any]
) -> Tensors:
    """What a ControlNet copies of a base, by the ControlNet's names."""
    complete = format.complete_config(config, architecture)
    return copied_tensors(format, base, complete, format.expected_shapes(architecture))


def _factorise(
    format: ControlNetFormat, tensors: Tensors, base: Tensors, architecture: Any, **how: Any
) -> tuple[Tensors, float]:
    """The tensors as a Control-LoRA, and the share of the learnt change that it loses."""
    expected = format.expected_shapes(architecture)
    return factorise(tensors, base, list_entries(expected, base, format.computed), **how)


def _initial(
    format: ControlNetFormat,
    base: BaseTransformer,
    *,
    config: Path | None,
    hint_channels: int,
    hint_encoder: str,
) -> tuple[Any, Mapping[str, Any], str]:
    """Architecture, config and family of an untrained ControlNet for this base."""
    if config is not None:
        raise CnctlError(
            "--config is for a base without a config, and this one has it",
            hint="leave out --config",
        )
    check_hint_channels(format.family, "an untrained ControlNet", hint_channels)
    network = _outline(format, base)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    architecture = format.read_architecture(shapes)
    complete = format.complete_config(diffusers_config(network), architecture)
    return architecture, diffusers_config(network), format.name_family(complete)


def _outline(format: ControlNetFormat, base: BaseTransformer) -> Any:
    """A fresh ControlNet without weights."""
    with torch.device("meta"):
        transformer = format.load_files().kind(
            **{name: value for name, value in base.config.items() if not name.startswith("_")}
        )
    return format.load_builder()(transformer)


def _initial_tensors(
    format: ControlNetFormat,
    base: BaseTransformer,
    architecture: Any,
    config: Mapping[str, Any],
    *,
    seed: int,
) -> Tensors:
    """The base's tensors, the layer that reads the hint from the seed, zeros for the rest."""
    copied = _read_base(format, base, architecture, config)
    dtype = next(iter(copied.values())).dtype
    expected = format.expected_shapes(architecture)
    fresh = {
        name: ready(torch.zeros(shape, dtype=dtype))
        for name, shape in expected.items()
        if name not in copied
    }
    reads = f"{format.hint_layer}.weight"
    drawn = {reads: ready(draw_weight(expected[reads], seed=seed).to(dtype))}
    found = {**copied, **fresh, **drawn}
    return {name: found[name] for name in expected}


def _choose_form(format: ControlNetFormat, to: str | None, target: Path) -> str:
    """The name of a form, for None the network's own; diffusers' may be a folder or one file."""
    refuse_pickle(target)
    form = format.find_form(to or format.own_form.name)
    if form is None and to == LOW_RANK.name:
        _refuse(format)
    if form is None:
        known = ", ".join(form.name for form in (format.own_form, *format.known_forms))
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
