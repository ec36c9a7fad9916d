"""A ControlNet on disk, described before any tensor is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.factors import unfolded_shapes
from cnctl.models.identify import check_tensors, find_signature
from cnctl.models.signatures import CONTROLNET
from cnctl.models.unet.checkpoint import config as configs
from cnctl.models.unet.checkpoint import keymap
from cnctl.models.unet.checkpoint.architecture import Architecture, read_architecture, read_hint
from cnctl.models.unet.checkpoint.averaging import FIELD as AVERAGES
from cnctl.models.unet.checkpoint.averaging import find_averaging
from cnctl.models.unet.checkpoint.base_file import Unet, open_unet
from cnctl.models.unet.checkpoint.input_concat import find_input_concat
from cnctl.models.unet.checkpoint.recognise import FULL, Form, detect, select
from cnctl.models.weights_place import find_description, locate_weights, read_config, read_metadata
from cnctl.models.weights_source import WeightsSource, note_wrappers, opening
from cnctl.tensorfiles.expected import check, check_dtypes, first_few
from cnctl.tensorfiles.header import TensorSpec
from cnctl.tensorfiles.listing import CONFIG, list_tensors, without_wrappers


@dataclass(frozen=True, kw_only=True)
class Source(WeightsSource):
    """A ControlNet of a U-Net on disk."""

    form: Form
    architecture: Architecture
    base: Unet | None = None
    """What a partial file (see `Form.mark`) is to be completed with."""
    assumed: tuple[str, ...] = ()
    """What the file does not say and something else does, one sentence each."""


def open_source(
    source: str | Path,
    *,
    config: Path | None = None,
    base: Path | None = None,
    whole: bool = True,
    condition: str = "",
) -> Source:
    """Read headers only. Strict: every tensor is known and of the right shape, or CnctlError.

    config: a config.json that supplies what shapes do not determine, such as the number of heads.
    base: the base (folder or file) that completes a difference file or a Control-LoRA.
    whole: False describes what is there; a note says what a config or a base would add.
    condition: what the weights are used for; decides what a file without a config leaves open.
    """
    if found := find_input_concat(Path(source)):
        raise CnctlError(
            f"{found.folder} is a whole U-Net, trained by input-concat, and has no other layout",
            hint="cnctl generate takes it as it is, and diffusers as a UNet2DConditionModel",
        )
    path, folder = locate_weights(Path(source))
    with opening(path, config, base):
        return _open(path, folder, config, base, whole, condition)


def read_description(source: str | Path, *, base: Path | None = None) -> dict[str, Any]:
    """What is known of a ControlNet, without reading a tensor.

    Always there: config (diffusers' fields), hint_channels, family ("" where neither the shapes
    nor the file say it). The rest is what `save_network` was given: condition, connect, steps ...
    """
    return describe(open_source(source, base=base))


def describe(source: Source) -> dict[str, Any]:
    """The description of an opened source; see `read_description`."""
    known = {
        "hint_channels": source.architecture.hint_channels,
        "config": configs.complete_config(source.config, source.architecture),
    }
    family = configs.find_family(source.architecture)
    name = family.name if family else source.description.get("family", "")
    return source.description | {"family": name} | known


def _open(
    path: Path,
    folder: Path | None,
    config_file: Path | None,
    base: Path | None,
    whole: bool,
    condition: str,
) -> Source:
    listing = list_tensors(path)
    check_tensors(listing.tensors, CONTROLNET, subject=str(path))
    stored = without_wrappers(listing.tensors)
    form = detect(stored)
    full_names = {name: stored[long] for name, long in select(stored, form).items()}
    tensors = {name: listing.tensors[full] for name, full in full_names.items()}
    unet = open_unet(base) if base and form.mark else None
    notes = [*_notes(form, listing.others), *note_wrappers(stored)]
    if form.mark and not unet:
        error = _needs_base(form)
        if whole:
            raise error
        notes.append(f"{error}; {error.hint}")
    try:
        architecture = _check_tensors(tensors, form, unet)
    except CnctlError as error:
        what = find_signature(listing.tensors)
        named = f"{what.what}, but {error}" if what else str(error)
        raise type(error)(named, hint=error.hint) from error
    written = read_metadata(listing.metadata)
    said = _said(folder, config_file, written)
    try:
        config = _config(architecture, said, unet, is_given=config_file is not None)
    except configs.UnknownHeadsError as error:
        if whole:
            raise
        config, notes = {}, [*notes, f"{error}; {error.hint}"]
    description = find_description(folder, written)
    averaging = find_averaging(
        said, folder or path, condition or str(description.get("condition", ""))
    )
    if config and averaging.assumed:
        config = config | {AVERAGES: averaging.averaged}
    return Source(
        path=path,
        container=listing.container,
        form=form,
        tensors=tensors,
        full_names=full_names,
        architecture=architecture,
        config=config,
        description=description,
        base=unet,
        notes=(*notes, *filter(None, [averaging.note])),
        assumed=(averaging.note,) if averaging.assumed else (),
    )


def _needs_base(form: Form) -> CnctlError:
    return CnctlError(
        f"a {form.label} is a ControlNet only together with a base",
        hint="name the base with --base",
    )


def _check_tensors(tensors: dict[str, TensorSpec], form: Form, unet: Unet | None) -> Architecture:
    check_dtypes(tensors)
    shapes = unfolded_shapes(tensors) if form.mark else {n: t.shape for n, t in tensors.items()}
    if unet:
        channels, widths = read_hint(shapes)
        architecture = replace(unet.architecture, hint_channels=channels, hint_widths=widths)
    else:
        architecture = read_architecture(shapes)
    table = keymap.pairs(architecture)
    if form.name == "diffusers":
        expected = {pair.diffusers: pair.shape for pair in table}
    else:
        left_out = {p.original for p in table if form.mark and p.copied} - shapes.keys()
        expected = {p.original: p.shape for p in table if p.original not in left_out}
    check(shapes, expected)
    return architecture


def _said(folder: Path | None, given: Path | None, written: dict[str, Any]) -> dict[str, Any]:
    """The config that somebody has written: the user's, the folder's or the file's own; or {}."""
    if given is not None:
        return read_config(given)
    if folder is not None:
        return read_config(folder / CONFIG)
    config = written.get("config")
    return config if isinstance(config, dict) else {}


def _config(
    architecture: Architecture, said: dict[str, Any], unet: Unet | None, *, is_given: bool
) -> dict[str, Any]:
    """The config that holds: what is said, else the base's, else that of the shapes."""
    if is_given:  # it may be that of another network, such as the base's
        config = configs.fill_config(said, architecture)
    elif said:
        config = said
    elif unet and unet.config:
        config = configs.fill_config(unet.config, architecture)
    else:
        config = configs.config_from_shapes(architecture)
    configs.check_config(config, architecture)
    return config


def _notes(form: Form, others: tuple[str, ...]) -> list[str]:
    notes = [
        f"left out {what} ({count} tensor{'s' * (count > 1)})"
        for what, count in form.dropped.items()
    ]
    if others:
        notes.append(f"left out beside the weights: {first_few(list(others))}")
    if form.label == FULL:
        notes.append("this checkpoint has its own U-Net; with another base its images may differ")
    return notes
