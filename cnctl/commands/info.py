"""`cnctl info`: what a file is, before anything is done with it. Needs no torch."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from cnctl.errors import MissingError
from cnctl.models.unet.checkpoint import published
from cnctl.models.unet.checkpoint.config import find_family
from cnctl.models.unet.checkpoint.factors import DOWN
from cnctl.models.unet.checkpoint.input_concat import InputConcat, find_input_concat
from cnctl.models.unet.checkpoint.source import Source, describe, open_source
from cnctl.tensorfiles.digest import sha256
from cnctl.tensorfiles.listing import has_base_update, list_tensors

IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2",
}


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """What the headers of a ControlNet's file say."""

    path: Path
    form: str
    container: str
    family: str
    condition: str
    """"" where neither the file nor a published name tells; most files do not."""
    hint_channels: int
    dtype: str
    tensors: int
    parameters: int
    bytes: int
    fits: str
    notes: tuple[str, ...]
    rank: int = 0
    """The largest of a Control-LoRA; 0 for other forms."""
    converted: dict[str, Any] = field(default_factory=dict)
    """What `cnctl convert` wrote down: form and sha256 of the source, and what was done to it."""
    sha256: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"path": str(self.path)}


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What an image says of how it was made: the texts in it, "cnctl" as JSON where it is that."""

    path: Path
    metadata: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"path": str(self.path)}


def info(source: str | Path, *, hash: bool = False) -> WeightsInfo | ImageInfo:
    """Describe ControlNet weights (file, folder, run) or an image made by `generate`.

    hash: also read the whole file for its sha256. CnctlError says what another file is.
    """
    path = Path(source)
    if path.is_file() and _is_image(path):
        return _describe_image(path)
    if not path.exists():
        raise MissingError(f"{path} does not exist", hint="give weights, or an image of generate")
    if found := find_input_concat(path):
        return _describe_input_concat(found, hash=hash)
    return _describe_weights(open_source(path, whole=False), hash=hash)


def _is_image(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(IMAGES)


def _describe_image(path: Path) -> ImageInfo:
    from cnctl.images import read_metadata

    metadata: dict[str, Any] = dict(read_metadata(path))
    with suppress(KeyError, ValueError):
        metadata["cnctl"] = json.loads(metadata["cnctl"])
    return ImageInfo(path=path, metadata=metadata)


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
        bytes=source.path.stat().st_size,
        fits=_fits(source),
        notes=(*source.notes, *_oddities(source)),
        rank=max((s.shape[0] for n, s in source.tensors.items() if n.endswith(DOWN)), default=0),
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
        bytes=found.weights.stat().st_size,
        fits=f"in the place of the U-Net of {family or 'its base'}",
        notes=("no ControlNet: cnctl generate reads it, other tools as a U-Net",),
        sha256=sha256(found.weights) if hash else "",
    )


def _condition(source: Source, description: dict[str, Any]) -> str:
    if said := str(description.get("condition", "")):
        return said
    told = published.condition_of(source.path)
    return f"{told} (by its name)" if told else ""


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
        odd.append("its base has learnt along with it; cnctl generate uses the pair")
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
        odd.append(f"the hint encoder shrinks by {2 ** (len(a.hint_widths) - 1)}, not by 8")
    return odd
