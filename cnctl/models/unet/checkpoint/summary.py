"""What a file of a ControlNet for U-Nets is, from its headers. Needs no torch."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from cnctl.models.factors import count_merged, rank_of
from cnctl.models.input_concat import InputConcat
from cnctl.models.unet.checkpoint import published
from cnctl.models.unet.checkpoint.config import find_family
from cnctl.models.unet.checkpoint.input_concat import find_input_concat
from cnctl.models.unet.checkpoint.source import Source, describe, open_source
from cnctl.models.weights_info import DTYPES, WeightsInfo
from cnctl.tensorfiles.base_update_file import has_base_update
from cnctl.tensorfiles.digest import sha256
from cnctl.tensorfiles.listing import list_tensors
from cnctl.tensorfiles.parts import weight_bytes


def describe_weights(path: Path, *, hash: bool = False, config: Path | None = None) -> WeightsInfo:
    """Describe this file, folder or run.

    hash: also read the whole file for its sha256. config: see `open_source`. CnctlError says what
    another file is.
    """
    if found := find_input_concat(path):
        return _describe_input_concat(found, hash=hash)
    return _describe_weights(open_source(path, config=config, whole=False), hash=hash)


def _describe_weights(source: Source, *, hash: bool) -> WeightsInfo:
    description = describe(source)
    converted = description.get("converted")
    return WeightsInfo(
        path=source.path,
        form=source.form.label,
        container=source.container,
        family=description["family"],
        condition=_condition(source, description),
        hint_channels=source.architecture.hint_channels,
        dtype=", ".join(DTYPES[code] for code in source.dtypes),
        tensors=len(source.tensors),
        parameters=source.parameters,
        bytes=weight_bytes(source.path),
        fits=_fits(source),
        notes=(*source.notes, *_oddities(source)),
        rank=rank_of(source.tensors),
        merged=count_merged(source.tensors),
        converted=converted if isinstance(converted, dict) else {},
        sha256=sha256(source.path) if hash else "",
    )


def _describe_input_concat(found: InputConcat, *, hash: bool) -> WeightsInfo:
    listing = list_tensors(found.weights)
    family = str(found.description.get("family", ""))
    return WeightsInfo(
        path=found.weights,
        form="U-Net that reads a hint, by input-concat",
        container=listing.container,
        family=family,
        condition=str(found.description.get("condition", "")),
        hint_channels=found.hint_channels,
        dtype=", ".join(sorted({DTYPES[spec.dtype] for spec in listing.tensors.values()})),
        tensors=len(listing.tensors),
        parameters=sum(prod(spec.shape) for spec in listing.tensors.values()),
        bytes=weight_bytes(found.weights),
        fits=f"in the place of the U-Net of {family or 'its base'}",
        notes=("no ControlNet: cnctl generate reads it, other tools as a U-Net",),
        sha256=sha256(found.weights) if hash else "",
    )


def _condition(source: Source, description: dict[str, Any]) -> str:
    if said := str(description.get("condition", "")):
        return said
    named = published.condition_of(source.path)
    return f"{named} (by its name)" if named else ""


def _fits(source: Source) -> str:
    a = source.architecture
    if family := find_family(a):
        return f"bases of {family.name}, fine-tuned ones too"
    widths = "-".join(map(str, a.widths))
    return f"bases with blocks of {widths} channels and text of width {a.text_width}"


def _oddities(source: Source) -> list[str]:
    a = source.architecture
    family = find_family(a)
    latents = family.latents if family else 4
    odd = [quirk] if (quirk := published.known_quirk(source.path)) else []
    if has_base_update(source.path):
        odd.append("its base was trained with it; cnctl generate uses both")
    if a.union:
        names = ", ".join(published.UNION_KINDS[: a.union.kinds])
        odd.append(f"a union of {a.union.kinds} kinds of hint: {names}, if it is a published one")
    if a.hint_channels != 3:
        odd.append(f"hints have {a.hint_channels} channels; webui and ComfyUI give 3")
    if a.in_channels != latents:
        odd.append(f"latents have {a.in_channels} channels, not {latents}")
    if len(source.dtypes) > 1:
        odd.append("tensors have different dtypes")
    if a.hint_encoder != "released":
        odd.append("the hint encoder has the paper's form, which only cnctl reads")
    if a.hint_encoder == "released" and len(a.hint_widths) != 4:
        odd.append(f"the hint encoder reduces by {2 ** (len(a.hint_widths) - 1)}, not by 8")
    return odd
