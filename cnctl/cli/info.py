"""cnctl info"""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnctl.cli.page import emit_page
from cnctl.cli.report import emit_json, note
from cnctl.errors import shown

if TYPE_CHECKING:
    from cnctl.commands.info import ImageInfo, WeightsInfo


DONE = {
    "averaged": "averaged with others",
    "to_base": "moved to another base",
    "rank": "reduced to a low rank",
    "seed": "untrained",
}
"""What `cnctl convert` did to weights, by the key that it wrote down."""


def info(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="ControlNet weights, or their name, or an image of generate."
        ),
    ],
    hash: Annotated[bool, typer.Option("--hash", help="Also the sha256 of the weights.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="config.json that says what weights do not."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Describe a file of weights or an image.

    For weights: form, family and anything unusual. For an image: how it was made.

    cnctl info control_v11p_sd15_canny.pth
    """
    from cnctl.commands.info import ImageInfo
    from cnctl.commands.info import info as run

    found = run(file, hash=hash, config=config)
    if json:
        emit_json(found.as_dict())
    elif isinstance(found, ImageInfo):
        _print_image(found)
    else:
        _print_weights(found)


def _print_image(found: ImageInfo) -> None:
    if not found.metadata:
        note(f"{found.path} does not say how it was made")
    for number, (key, value) in enumerate(found.metadata.items()):
        emit_page(["", key][not number :])
        emit_page(f"  {shown(line)}" for line in _record_lines(value))


def _record_lines(value: Any) -> Iterator[str]:
    """A record, one value a line; what it holds is indented below its name."""
    if not isinstance(value, dict):
        yield from str(value).splitlines()
        return
    width = max(map(len, value), default=0)
    for name, part in value.items():
        parts = part if isinstance(part, list) else [part]
        if parts and all(isinstance(each, dict) for each in parts):
            for each in parts:
                yield name
                yield from (f"  {line}" for line in _record_lines(each))
        elif part != "":
            yield f"{name:{width}}  {part if isinstance(part, str) else json_text.dumps(part)}"


def _print_weights(found: WeightsInfo) -> None:
    rows = {
        "form": f"{found.form} ({found.container})",
        "family": found.family or "unknown",
        "condition": found.condition or "not said in the file",
        "licence": f"{found.licence} (by its name)" if found.licence else "",
        "hint channels": found.hint_channels,
        "rank": found.rank or "",
        "dtype": found.dtype,
        "parameters": f"{found.parameters:,} in {found.tensors} tensors",
        "size": f"{found.bytes / 1e6:,.1f} MB",
        "fits": found.fits,
        "converted from": _origin(found.converted),
        "sha256": found.sha256,
    }
    emit_page(f"{name:14} {value}" for name, value in rows.items() if value != "")
    emit_page(
        f"{'odd' if number == 0 else '':14} {text}" for number, text in enumerate(found.notes)
    )


def _origin(converted: dict[str, Any]) -> str:
    if not converted:
        return ""
    parts = [f"{converted.get('form', 'unknown')}, sha256 {str(converted.get('sha256'))[:12]}"]
    parts += [what for key, what in DONE.items() if key in converted]
    return ", ".join(parts)
