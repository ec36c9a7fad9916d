"""The forms that a ControlNet is written in, and the file or folder that each becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.keymap import Pair
from cnctl.models.unet.checkpoint.recognise import PREFIX
from cnctl.models.unet.checkpoint.source import METADATA_KEY
from cnctl.tensorfiles.lazy import Tensors
from cnctl.tensorfiles.stream import Advance
from cnctl.tensorfiles.write import names_a_file, write_file, write_folder

LORA = "control-lora"
FORMS = ("diffusers", "original", "bare", LORA)
PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth"})


def choose_form(to: str | None, target: Path) -> str:
    """One of FORMS; CnctlError where the target's name cannot hold it.

    None: "original" where the target ends in .safetensors, else "diffusers".
    """
    is_file = names_a_file(target)
    if target.suffix in PICKLES and not target.is_dir():
        raise CnctlError(
            f"{target} would be a pickle; cnctl writes only safetensors",
            hint=f"write {target.with_suffix('.safetensors')}, which webui and ComfyUI read too",
        )
    form = to or ("original" if is_file else "diffusers")
    if form not in FORMS:
        raise CnctlError(f"unknown form {form!r}", hint=f"use one of {', '.join(FORMS)}")
    if form != "diffusers" and not is_file:
        raise CnctlError(
            f"the form {form!r} is one file, and {target} does not end in .safetensors",
            hint=f"write {target}.safetensors",
        )
    return form


def rename(tensors: Tensors, table: list[Pair], form: str) -> Tensors:
    """From diffusers' names to those of the form (any but a Control-LoRA's)."""
    if form == "diffusers":
        return tensors
    prefix = PREFIX if form == "original" else ""
    return {prefix + pair.original: tensors[pair.diffusers] for pair in table}


def write_form(
    target: Path,
    tensors: Tensors,
    *,
    config: Mapping[str, Any],
    description: Callable[[bool], Mapping[str, Any]],
    base_update: Tensors,
    overwrite: bool,
    advance: Advance,
) -> None:
    """Write tensors under their final names; config and description lie beside or in the file.

    base_update: see `write_folder`; a file has no place for it.
    description(done) may come late: before, only its length counts.
    """
    if not names_a_file(target):
        write_folder(
            target,
            tensors,
            config=config,
            description=lambda: description(True),
            base_update=base_update,
            overwrite=overwrite,
            advance=advance,
        )
        return

    def metadata(done: bool) -> dict[str, str]:
        known = {"config": config, "description": description(done)}
        return {METADATA_KEY: json.dumps(known, sort_keys=True)}

    write_file(target, tensors, metadata=metadata, overwrite=overwrite, advance=advance)
