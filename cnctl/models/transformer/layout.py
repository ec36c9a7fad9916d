"""The layout of files of ControlNets for transformers. Needs no torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.models.checkpoint_layout import CheckpointLayout
from cnctl.models.factors import count_merged, rank_of
from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.source import Source, describe, open_source, read_description
from cnctl.models.weights_info import DTYPES, WeightsInfo
from cnctl.tensorfiles.base_update_file import has_base_update
from cnctl.tensorfiles.digest import sha256
from cnctl.tensorfiles.parts import weight_bytes

if TYPE_CHECKING:
    from cnctl.models.conversion import Conversion


def build_layout(format: ControlNetFormat) -> CheckpointLayout:
    """The layout of a family whose files have this format."""
    return CheckpointLayout(
        holds=lambda path: False,
        describe=partial(_describe, format),
        read_description=partial(read_description, format),
        load=partial(_load, format),
        load_conversion=partial(_load_conversion, format),
    )


def _load(format: ControlNetFormat, source: str | Path, **options: Any) -> tuple[Any, Any]:
    from cnctl.models.transformer.load import load_controlnet

    return load_controlnet(format, source, **options)


def _load_conversion(format: ControlNetFormat, path: Path) -> Conversion:
    from cnctl.models.transformer.conversion import build_conversion

    return build_conversion(format)


def _describe(
    format: ControlNetFormat, path: Path, *, hash: bool = False, config: Path | None = None
) -> WeightsInfo:
    """What lies in this file, folder or run.

    hash: also read the whole file for its sha256. config: see `open_source`.
    """
    source = open_source(format, path, config=config, whole=False)
    description = describe(format, source)
    converted = description.get("converted")
    family = description["family"]
    return WeightsInfo(
        path=source.path,
        form=f"{source.form.label}, {format.summarise(source)}",
        container=source.container,
        family=family,
        condition=_condition(format, source),
        hint_channels=3,
        dtype=", ".join(DTYPES[code] for code in source.dtypes),
        tensors=len(source.tensors),
        parameters=source.parameters,
        bytes=weight_bytes(source.path),
        fits=f"bases of {family}, fine-tuned ones too"
        if family
        else "a base that no shape determines",
        notes=(*source.notes, *_oddities(format, source)),
        rank=rank_of(source.tensors),
        merged=count_merged(source.tensors),
        converted=converted if isinstance(converted, dict) else {},
        sha256=sha256(source.path) if hash else "",
    )


def _condition(format: ControlNetFormat, source: Source) -> str:
    if said := str(source.description.get("condition", "")):
        return said
    named = format.condition_of(source.path)
    return f"{named} (by its name)" if named else ""


def _oddities(format: ControlNetFormat, source: Source) -> list[str]:
    odd = [quirk] if (quirk := format.known_quirk(source.path)) else []
    if has_base_update(source.path):
        odd.append("its base has learnt along with it; cnctl generate uses the pair")
    odd += format.list_oddities(source)
    if len(source.dtypes) > 1:
        odd.append("tensors have different dtypes")
    return odd
