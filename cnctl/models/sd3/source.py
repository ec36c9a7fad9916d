"""A ControlNet of SD3 on disk, understood before any tensor is read. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cnctl.models.identify import check_tensors
from cnctl.models.sd3 import original
from cnctl.models.sd3.architecture import (
    POSITIONS,
    Architecture,
    expected_shapes,
    read_architecture,
)
from cnctl.models.sd3.config import UntoldError, complete_config, config_from_shapes
from cnctl.models.sd3.published import hint_bounds
from cnctl.models.sd3.shape import shape_of
from cnctl.models.signatures import CONTROLNET
from cnctl.models.weights_place import (
    find_description,
    locate_weights,
    read_config,
    read_metadata,
)
from cnctl.models.weights_source import WeightsSource, note_wrappers, opening
from cnctl.tensorfiles.expected import check, check_dtypes, first_few
from cnctl.tensorfiles.listing import CONFIG, list_tensors, without_wrappers


@dataclass(frozen=True, kw_only=True)
class Form:
    """The names of a file's tensors: "diffusers", or "original" for Stability's."""

    name: str
    label: str


DIFFUSERS = Form(name="diffusers", label="diffusers")
ORIGINAL = Form(name="original", label="original (Stability's)")


@dataclass(frozen=True, kw_only=True)
class Source(WeightsSource):
    """A ControlNet of SD3 on disk."""

    form: Form
    architecture: Architecture

    @property
    def parameters(self) -> int:
        """How many numbers are trained; the table of positions is computed."""
        trained = (spec for name, spec in self.tensors.items() if name != POSITIONS)
        return sum(prod(spec.shape) for spec in trained)

    @property
    def hint_bounds(self) -> tuple[float, float]:
        """What black and white are for the autoencoder that encodes its hints."""
        low, high = self.description.get("hint_bounds", (-1.0, 1.0))
        return float(low), float(high)


def open_source(
    source: str | Path,
    *,
    config: Path | None = None,
    base: Path | None = None,
    condition: str = "",
    whole: bool = True,
) -> Source:
    """Read headers only. Strict: every tensor is known and of the right shape, or CnctlError.

    config: a config.json for a file that has none. base, condition: not needed. whole: False
    describes what is there; a note says what only a config would tell.
    """
    path, folder = locate_weights(Path(source))
    with opening(path, config):
        return _open(path, folder, config, whole)


def describe(source: Source) -> dict[str, Any]:
    """What is known of a ControlNet: family, hint_channels, config, and what was written down."""
    config = complete_config(source.config, source.architecture) if source.config else {}
    family = shape_of(config).name if config else ""
    return source.description | {"family": family, "hint_channels": 3, "config": config}


def read_description(source: str | Path, *, base: Path | None = None) -> dict[str, Any]:
    """The description of the ControlNet there, from headers; see `describe`."""
    return describe(open_source(source))


def _open(path: Path, folder: Path | None, given: Path | None, whole: bool) -> Source:
    listing = list_tensors(path)
    check_tensors(listing.tensors, CONTROLNET, subject="this file")
    full_names = without_wrappers(listing.tensors)
    tensors = {name: listing.tensors[full] for name, full in full_names.items()}
    check_dtypes(tensors)
    shapes = {name: spec.shape for name, spec in tensors.items()}
    form = ORIGINAL if original.is_original(shapes) else DIFFUSERS
    named = original.diffusers_shapes(shapes) if form is ORIGINAL else shapes
    architecture = read_architecture(named)
    check(named, expected_shapes(architecture))
    written = read_metadata(listing.metadata)
    notes = note_wrappers(full_names)
    if listing.others:
        notes.append(f"left out beside the weights: {first_few(list(listing.others))}")
    try:
        config = _config(architecture, folder, given, written)
    except UntoldError as error:
        if whole:
            raise
        config, notes = {}, [*notes, f"{error}; {error.hint}"]
    description = find_description(folder, written)
    if bounds := hint_bounds(path):
        description = {"hint_bounds": list(bounds)} | description
    return Source(
        path=path,
        container=listing.container,
        form=form,
        tensors=tensors,
        full_names=full_names,
        architecture=architecture,
        config=config,
        description=description,
        notes=tuple(notes),
    )


def _config(
    architecture: Architecture, folder: Path | None, given: Path | None, written: dict[str, Any]
) -> dict[str, Any]:
    """Which config holds: the user's, the folder's, the file's own, the shapes'."""
    if given is not None:
        return complete_config(read_config(given), architecture)
    if folder is not None:
        config = read_config(folder / CONFIG)
    elif isinstance(written.get("config"), dict):
        config = written["config"]
    else:
        return config_from_shapes(architecture)
    complete_config(config, architecture)  # raises where it is another network's
    return config
