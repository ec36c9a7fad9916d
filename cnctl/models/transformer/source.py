"""A ControlNet of a transformer on disk, understood before any tensor is read. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.identify import check_tensors
from cnctl.models.signatures import CONTROLNET
from cnctl.models.transformer.format import ControlNetFormat, Form
from cnctl.models.weights_place import (
    find_description,
    locate_weights,
    read_config,
    read_metadata,
)
from cnctl.models.weights_source import WeightsSource, note_wrappers, opening
from cnctl.tensorfiles.expected import check, check_dtypes, first_few
from cnctl.tensorfiles.listing import CONFIG, list_tensors, without_wrappers


class UndeterminedError(CnctlError):
    """No shape determines something that the network is built from."""


@dataclass(frozen=True, kw_only=True)
class Source(WeightsSource):
    """A ControlNet of a transformer on disk."""

    form: Form
    architecture: Any
    """See `ControlNetFormat`."""
    computed: frozenset[str] = frozenset()

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        trained = (spec for name, spec in self.tensors.items() if name not in self.computed)
        return sum(prod(spec.shape) for spec in trained)

    @property
    def hint_bounds(self) -> tuple[float, float]:
        """What black and white are for the autoencoder that encodes its hints."""
        low, high = self.description.get("hint_bounds", (-1.0, 1.0))
        return float(low), float(high)


def open_source(
    format: ControlNetFormat,
    source: str | Path,
    *,
    config: Path | None = None,
    base: Path | None = None,
    condition: str = "",
    whole: bool = True,
) -> Source:
    """Read headers only. Strict: every tensor is known and of the right shape, or CnctlError.

    config: a config.json for a file that has none. base, condition: not needed. whole: False
    describes what is there; a note says what only a config would say.
    """
    path, folder = locate_weights(Path(source))
    with opening(path, config):
        return _open(format, path, folder, given=config, whole=whole)


def describe(format: ControlNetFormat, source: Source) -> dict[str, Any]:
    """What is known of a ControlNet: family, hint_channels, config, and what was written down."""
    config = format.complete_config(source.config, source.architecture) if source.config else {}
    family = format.name_family(config) if config else ""
    return source.description | {"family": family, "hint_channels": 3, "config": config}


def read_description(
    format: ControlNetFormat, source: str | Path, *, base: Path | None = None
) -> dict[str, Any]:
    """The description of the ControlNet there, from headers; see `describe`."""
    return describe(format, open_source(format, source))


def _open(
    format: ControlNetFormat, path: Path, folder: Path | None, *, given: Path | None, whole: bool
) -> Source:
    listing = list_tensors(path)
    check_tensors(listing.tensors, CONTROLNET, subject="this file")
    full_names = without_wrappers(listing.tensors)
    tensors = {name: listing.tensors[full] for name, full in full_names.items()}
    check_dtypes(tensors)
    form = format.form_of(tensors)
    shapes = form.diffusers_shapes({name: spec.shape for name, spec in tensors.items()})
    architecture = format.read_architecture(shapes)
    check(shapes, format.expected_shapes(architecture))
    written = read_metadata(listing.metadata)
    notes = note_wrappers(full_names)
    if listing.others:
        notes.append(f"left out beside the weights: {first_few(list(listing.others))}")
    try:
        config = _config(format, architecture, folder, given=given, written=written)
    except UndeterminedError as error:
        if whole:
            raise
        config, notes = {}, [*notes, f"{error}; {error.hint}"]
    description = find_description(folder, written)
    if bounds := format.hint_bounds(path):
        description = {"hint_bounds": list(bounds)} | description
    return Source(
        path=path,
        container=listing.container,
        form=form,
        tensors=tensors,
        full_names=full_names,
        architecture=architecture,
        computed=format.computed,
        config=config,
        description=description,
        notes=tuple(notes),
    )


def _config(
    format: ControlNetFormat,
    architecture: Any,
    folder: Path | None,
    *,
    given: Path | None,
    written: dict[str, Any],
) -> dict[str, Any]:
    """Which config holds: the user's, the folder's, the file's own, the shapes'."""
    if given is not None:
        return format.complete_config(read_config(given), architecture)
    if folder is not None:
        config = read_config(folder / CONFIG)
    elif isinstance(written.get("config"), dict):
        config = written["config"]
    else:
        return format.config_from_shapes(architecture)
    format.complete_config(config, architecture)  # raises where it is another network's
    return config
