"""A ControlNet of a transformer on disk, understood before any tensor is read. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.errors import CnctlError
from cnctl.models.factors import MARK, UP, unfolded_shapes
from cnctl.models.identify import check_tensors
from cnctl.models.signatures import CONTROLNET
from cnctl.models.transformer.format import LOW_RANK, ControlNetFormat, Form
from cnctl.models.weights_place import (
    find_description,
    locate_weights,
    read_config,
    read_metadata,
)
from cnctl.models.weights_source import WeightsSource, note_wrappers, opening
from cnctl.tensorfiles.expected import check, check_dtypes, first_few
from cnctl.tensorfiles.header import Shape, TensorSpec
from cnctl.tensorfiles.listing import CONFIG, list_tensors, without_wrappers

if TYPE_CHECKING:
    from cnctl.tensorfiles.lazy import LazyTensor, Tensors


NEEDS_BASE = CnctlError(
    "a Control-LoRA is a ControlNet only together with a base", hint="name the base with --base"
)


class UndeterminedError(CnctlError):
    """No shape determines something that the network is built from."""


@dataclass(frozen=True, kw_only=True)
class Source(WeightsSource):
    """A ControlNet of a transformer on disk."""

    form: Form
    architecture: Any
    """See `ControlNetFormat`."""
    computed: frozenset[str] = frozenset()
    base: Mapping[str, LazyTensor] | None = None
    """What completes a Control-LoRA, by the ControlNet's names."""
    expected: Mapping[str, Shape]
    """All tensors of the ControlNet, by diffusers' names."""

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

    config: a config.json for a file that has none. base: the base (folder or file) that completes
    a Control-LoRA. condition: not needed. whole: False describes what is there; a note says what a
    config or a base would add.
    """
    path, folder = locate_weights(Path(source))
    with opening(path, config, base):
        return _open(format, path, folder, given=config, base=base, whole=whole)


def describe(format: ControlNetFormat, source: Source) -> dict[str, Any]:
    """What is known of a ControlNet: family, hint_channels, config, and what was written down."""
    config = format.complete_config(source.config, source.architecture) if source.config else {}
    family = format.name_family(config) if config else ""
    return source.description | {"family": family, "hint_channels": 3, "config": config}


def read_description(
    format: ControlNetFormat, source: str | Path, *, base: Path | None = None
) -> dict[str, Any]:
    """The description of the ControlNet there, from headers; see `describe`."""
    return describe(format, open_source(format, source, base=base))


def _open(
    format: ControlNetFormat,
    path: Path,
    folder: Path | None,
    *,
    given: Path | None,
    base: Path | None,
    whole: bool,
) -> Source:
    listing = list_tensors(path)
    check_tensors(listing.tensors, CONTROLNET, subject="this file")
    full_names = without_wrappers(listing.tensors)
    form = format.form_of(full_names)
    full_names.pop(MARK, None)
    tensors = {name: listing.tensors[full] for name, full in full_names.items()}
    check_dtypes(tensors)
    written = read_metadata(listing.metadata)
    shapes = form.diffusers_shapes({name: spec.shape for name, spec in tensors.items()})
    if form is LOW_RANK:
        said = read_config(given) if given else written.get("config")
        shapes = unfolded_shapes(tensors)
        shapes |= format.computed_shapes(said if isinstance(said, dict) else {})
    architecture = format.read_architecture(shapes)
    expected = format.expected_shapes(architecture)
    check(shapes, expected)
    notes = note_wrappers(full_names)
    if listing.others:
        notes.append(f"left out beside the weights: {first_few(list(listing.others))}")
    try:
        config = _config(format, architecture, folder, given=given, written=written)
    except UndeterminedError as error:
        if whole:
            raise
        config, notes = {}, [*notes, f"{error}; {error.hint}"]
    completing = None
    if form is LOW_RANK:
        if base is not None:
            completing = _complete(format, base, config, expected, of=tensors)
        elif whole:
            raise NEEDS_BASE
        else:
            notes.append(f"{NEEDS_BASE}; {NEEDS_BASE.hint}")
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
        base=completing,
        expected=expected,
        config=config,
        description=description,
        notes=tuple(notes),
    )


def _complete(
    format: ControlNetFormat,
    base: Path,
    config: dict[str, Any],
    expected: Mapping[str, Shape],
    *,
    of: Mapping[str, TensorSpec],
) -> Tensors:
    """What the base has of a Control-LoRA; CnctlError where it lacks what is changed there."""
    from cnctl.models.transformer.base_tensors import copied_tensors, open_transformer

    found = copied_tensors(format, open_transformer(format, base), config, expected)
    needed = {f"{name.removesuffix(UP)}.weight" for name in of if name.endswith(UP)}
    needed |= format.computed & expected.keys()
    if missing := sorted(needed - found.keys()):
        raise CnctlError(
            f"{base} has no tensors that this Control-LoRA changes, {missing[0]} for one",
            hint="give the base that it was trained on",
        )
    return found


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
