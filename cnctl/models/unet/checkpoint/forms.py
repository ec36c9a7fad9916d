"""The forms that a ControlNet is written in, and the file or folder that each becomes."""

from __future__ import annotations

from pathlib import Path

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.keymap import Pair
from cnctl.models.unet.checkpoint.recognise import PREFIX
from cnctl.models.write_weights import refuse_pickle
from cnctl.tensorfiles.lazy import Tensors
from cnctl.tensorfiles.write import names_a_file

LORA = "control-lora"
FORMS = ("diffusers", "original", "bare", LORA)


def choose_form(to: str | None, target: Path) -> str:
    """One of FORMS; CnctlError where the target's name cannot hold it.

    None: "original" where the target ends in .safetensors, else "diffusers".
    """
    is_file = names_a_file(target)
    refuse_pickle(target)
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
