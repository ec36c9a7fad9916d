"""What `cnctl convert` asks of a family's files, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnctl.tensorfiles.lazy import Tensors


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Reading, combining and writing the ControlNets of one folder of families.

    A source is an opened file, of which headers alone are read: it has path, form (with a label),
    architecture, config, description and notes. Two of equal architecture have tensors of the same
    names and shapes, which are diffusers' in memory.
    """

    open: Callable[..., Any]
    """open(path, config=, base=, condition=): a source; CnctlError where it is not whole."""
    describe: Callable[[Any], dict[str, Any]]
    """What a source says of itself, and what its shapes say."""
    named_condition: Callable[[Path], str]
    """The condition that a published file's name says; "" for other names."""
    known_quirk: Callable[[Path], str]
    """One sentence on the hints of a published ControlNet, or ""."""
    read: Callable[[Any], Tensors]
    """The tensors of a source."""
    bytes: Callable[[Any], int]
    """How many bytes the tensors of an architecture take in float32."""
    average: Callable[[Sequence[Tensors], Sequence[float]], Tensors]

    open_base: Callable[[Path], Any]
    """The headers of a base's denoiser; it has path and architecture."""
    read_prediction: Callable[[Path], str]
    """What the base at this path predicts, as `Process.prediction`; "" where no header says it."""
    read_base: Callable[[Any, Any, Mapping[str, Any]], Tensors]
    """read_base(base, architecture, config): what of an opened base such a ControlNet copies."""
    transfer: Callable[..., Tensors]
    """transfer(tensors, old=, new=): the ControlNet moved from one base to another."""
    base_update: Callable[[Any, Any], tuple[Tensors, str]]
    """base_update(of, base): what the base in a full checkpoint has learnt, by its names, and the
    dtype whose rounding explains what is left out; "" for none."""
    is_full: Callable[[Any], bool]
    """Whether a source is a full checkpoint, with its base."""

    choose_form: Callable[[str | None, Path], str]
    """choose_form(to, target): the form to write; CnctlError for an unknown one."""
    check_form: Callable[[Any, str, Path], None]
    """check_form(architecture, form, source): CnctlError where the form cannot hold it."""
    is_low_rank: Callable[[str], bool]
    """Whether a form holds what a ControlNet adds to its base."""
    check: Callable[..., Tensors]
    """check(tensors, where=, dtype=): the same in this dtype; reading raises where values do not
    fit."""
    rename: Callable[[Tensors, Any, str], Tensors]
    """rename(tensors, architecture, form): under the names of this form."""
    factorise: Callable[..., tuple[Tensors, float]]
    """factorise(tensors, base, architecture, rank=, advance=): in a low-rank form, and the share of
    the change that is lost."""
    write: Callable[..., None]

    residuals: Callable[..., list[torch.Tensor]]
    """residuals(tensors, architecture, config, where=): what the network says to random input."""
    hint_encoders: tuple[str, ...]
    initial: Callable[..., tuple[Any, Mapping[str, Any], str]]
    """initial(base, config=, hint_channels=, hint_encoder=): architecture, config and family of an
    untrained ControlNet."""
    initial_tensors: Callable[..., Tensors]
    """initial_tensors(base, architecture, config, seed=)."""
