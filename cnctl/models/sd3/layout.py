"""The layout of files of ControlNets for SD3. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.models.checkpoint_layout import CheckpointLayout
from cnctl.models.sd3 import published
from cnctl.models.sd3.config import complete_config
from cnctl.models.sd3.source import Source, describe, open_source, read_description
from cnctl.models.weights_info import DTYPES, WeightsInfo
from cnctl.tensorfiles.base_update_file import has_base_update
from cnctl.tensorfiles.digest import sha256
from cnctl.tensorfiles.parts import weight_bytes

if TYPE_CHECKING:
    from cnctl.models.conversion import Conversion


def describe_weights(path: Path, *, hash: bool = False, config: Path | None = None) -> WeightsInfo:
    """What lies in this file, folder or run.

    hash: also read the whole file for its sha256. config: see `open_source`.
    """
    source = open_source(path, config=config, whole=False)
    description = describe(source)
    converted = description.get("converted")
    family = description["family"]
    return WeightsInfo(
        path=source.path,
        form=f"{source.form.label}, {source.architecture.layers} layers that read {_read(source)}",
        container=source.container,
        family=family,
        condition=_condition(source),
        hint_channels=3,
        dtype=", ".join(DTYPES[code] for code in source.dtypes),
        tensors=len(source.tensors),
        parameters=source.parameters,
        bytes=weight_bytes(source.path),
        fits=f"bases of {family}, fine-tuned ones too" if family else "a base that no shape tells",
        notes=(*source.notes, *_oddities(source)),
        converted=converted if isinstance(converted, dict) else {},
        sha256=sha256(source.path) if hash else "",
    )


def load(source: str | Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """As `cnctl.models.sd3.load.load_controlnet`."""
    from cnctl.models.sd3.load import load_controlnet

    return load_controlnet(source, **options)


def load_conversion() -> Conversion:
    """What converts these files; imports torch."""
    from cnctl.models.sd3.conversion import CONVERSION

    return CONVERSION


LAYOUT = CheckpointLayout(
    holds=lambda path: False,
    describe=describe_weights,
    read_description=read_description,
    load=load,
    load_conversion=load_conversion,
)


def _read(source: Source) -> str:
    """Which text the network reads: this tells the published forms apart."""
    if not source.architecture.text_width:
        return "the pooled text alone"
    if not source.config:
        return "text"
    config = complete_config(source.config, source.architecture)
    zeros = config["force_zeros_for_pooled_projection"]
    return "text without the pooled text" if zeros else "text and the pooled text"


def _condition(source: Source) -> str:
    if said := str(source.description.get("condition", "")):
        return said
    told = published.condition_of(source.path)
    return f"{told} (by its name)" if told else ""


def _oddities(source: Source) -> list[str]:
    a = source.architecture
    odd = [quirk] if (quirk := published.known_quirk(source.path)) else []
    if has_base_update(source.path):
        odd.append("its base has learnt along with it; cnctl generate uses the pair")
    if a.hint_channels != a.latent_channels:
        odd.append("it reads a mask beside its hint, which cnctl does not support")
    if len(source.dtypes) > 1:
        odd.append("tensors have different dtypes")
    return odd
