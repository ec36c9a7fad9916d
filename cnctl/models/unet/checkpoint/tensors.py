"""The tensors of an opened source, under diffusers' names."""

from __future__ import annotations

from cnctl.models.unet.checkpoint import keymap
from cnctl.models.unet.checkpoint.base_file import Unet
from cnctl.models.unet.checkpoint.partial import complete
from cnctl.models.unet.checkpoint.source import Source
from cnctl.tensorfiles.lazy import Tensors, open_tensors


def read_tensors(source: Source) -> Tensors:
    """All tensors of the ControlNet: diffusers' names, the file's own dtypes, not yet read."""
    names = source.full_names
    listing = {names[name]: spec for name, spec in source.tensors.items()}
    found = open_tensors(source.path, source.container, listing, listing)
    own = {name: found[full] for name, full in names.items()}
    table = keymap.pairs(source.architecture)
    if source.base:
        base, mark = read_encoder_tensors(source.base), source.form.mark
        return {pair.diffusers: complete(own, base, pair, mark=mark) for pair in table}
    if source.form.name == "diffusers":
        return {pair.diffusers: own[pair.diffusers] for pair in table}
    return {pair.diffusers: own[pair.original] for pair in table}


def read_encoder_tensors(unet: Unet) -> Tensors:
    """What a ControlNet copies of a base: diffusers' names, the base's dtypes, not yet read."""
    names = {pair.diffusers: unet.name(pair) for pair in keymap.pairs(unet.architecture)}
    found = open_tensors(unet.path, unet.container, unet.tensors, names.values())
    return {name: found[full] for name, full in names.items()}
