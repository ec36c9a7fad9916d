"""What of a base's transformer a ControlNet copies, not yet read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.location import Location
from cnctl.models.transformer.base_file import PART
from cnctl.models.transformer.files import BaseFiles, expected_shapes, read_config
from cnctl.models.transformer.format import Config, ControlNetFormat
from cnctl.models.weights_source import opening
from cnctl.tensorfiles.expected import check, check_dtypes
from cnctl.tensorfiles.header import Shape
from cnctl.tensorfiles.lazy import Tensors, open_tensors
from cnctl.tensorfiles.listing import find_weights, list_tensors, no_weights


@dataclass(frozen=True, kw_only=True)
class BaseTransformer:
    """The transformer of a base on disk; path: its file of tensors, or the index of its parts."""

    path: Path
    config: Mapping[str, Any]
    tensors: Tensors
    """By diffusers' names."""


def open_transformer(format: ControlNetFormat, path: Path) -> BaseTransformer:
    """The transformer of the base in this folder or file; CnctlError for another family's."""
    files: BaseFiles = format.load_files()
    location = Location(path, path.name, "given")
    folder = files.find_folder(location)
    if folder is None:
        raise CnctlError(
            f"{path} is not a base of {format.family}",
            hint="give the base that the ControlNet was trained on",
        )
    config = read_config(folder)
    if path.is_file():
        return BaseTransformer(
            path=path, config=config, tensors={**files.open(path, folder).parts[PART]}
        )
    weights = find_weights(folder / PART)
    if weights is None:
        raise no_weights(folder / PART, "a whole base")
    with opening(weights):
        listing = list_tensors(weights)
        check_dtypes(listing.tensors)
        shapes = {name: spec.shape for name, spec in listing.tensors.items()}
        check(shapes, expected_shapes(files.kind, folder))
    tensors = open_tensors(weights, listing.container, listing.tensors, listing.tensors)
    return BaseTransformer(path=weights, config=config, tensors=tensors)


def copied_tensors(
    format: ControlNetFormat,
    base: BaseTransformer,
    config: Config,
    expected: Mapping[str, Shape],
) -> Tensors:
    """Those of the base that a ControlNet starts from, by the ControlNet's names.

    config, expected: the ControlNet's, complete, and the shapes of all its tensors. CnctlError
    where it was made for a base of other shapes.
    """
    format.check_same_shape(config, base.config)
    found = {}
    for name, shape in expected.items():
        tensor = base.tensors.get(format.base_name(config, name))
        if tensor is not None and tensor.shape == shape:
            found[name] = tensor
    return found
