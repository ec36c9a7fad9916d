"""Where the parts of a base with a transformer are: in a folder of diffusers, or in one file.

No file has configs, tokenizers and the noise schedule, and many lack text encoders and autoencoder.
A folder of the same family completes it: the one that it lies in, or one of the hub's cache.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError, MissingError
from cnctl.models.identify import identify
from cnctl.models.location import Location, cached_folder, read_defaults, read_json
from cnctl.models.signatures import BASE
from cnctl.models.transformer.base_file import PART, BaseFile, FileNames, open_base_file
from cnctl.models.transformer.shapes import shapes_of_class
from cnctl.tensorfiles.expected import check
from cnctl.weights import PublishedBase

INDEX = "model_index.json"


@dataclass(frozen=True, kw_only=True)
class BaseFiles:
    """What a family says of the files of its bases.

    folder: of `cnctl.models.signatures`. kind: the transformer's class of diffusers. names: of one
    file. published: the bases that may complete it.
    """

    folder: str
    kind: type
    names: FileNames
    published: Mapping[str, PublishedBase]

    def find_folder(self, location: Location) -> Path | None:
        """The folder with the configs of a base: its own, or what completes a file.

        None for a base of another family; MissingError where nothing completes a file.
        """
        if location.path.is_file():
            row = identify(location.path, BASE)
            is_own = row is not None and row.read_by == self.folder
            return self._completing(location.path) if is_own else None
        return location.path if self._is_own(location.path) else None

    def read_defaults(self, location: Location) -> dict[str, Any]:
        """What a base of this family says of its settings, see `location.read_defaults`."""
        return read_defaults(self.find_folder(location) or location.path)

    def read_config(self, location: Location) -> dict[str, Any]:
        """The config of the transformer of a base of this family."""
        folder = self.find_folder(location)
        assert folder is not None  # it was recognised
        return read_config(folder)

    def open(self, path: Path, folder: Path) -> BaseFile:
        """What a file has of a base that the folder completes; no tensor is read.

        CnctlError where it has other tensors than the folder's transformer.
        """
        expected = expected_shapes(self.kind, folder)
        try:
            file = open_base_file(self.names, path, expected)
            check({name: tensor.shape for name, tensor in file.parts[PART].items()}, expected)
        except CnctlError as error:
            raise CnctlError(
                f"{path} does not fit the transformer of {folder}: {error}",
                hint="put it into a folder of diffusers with the base that it was made from",
            ) from error
        return file

    def describe(self, location: Location) -> str:
        """What completes a base in one file, and what of it is not read; "" for a folder."""
        folder = self.find_folder(location)
        if folder is None or not location.path.is_file():
            return ""
        file = self.open(location.path, folder)
        parts = ", ".join((PART, *sorted(file.parts.keys() - {PART})))
        left_out = f"; {file.describe_left_out()}" if file.left_out else ""
        return f"{location.path.name} has the {parts}; all else is from {folder}{left_out}"

    def _is_own(self, folder: Path) -> bool:
        return read_json(folder / INDEX).get(PART) == ["diffusers", self.kind.__name__]

    def _completing(self, path: Path) -> Path:
        """The folder of diffusers that the file lies in, else the first of the cache that fits."""
        if (path.parent / INDEX).is_file() and self._is_own(path.parent):
            self.open(path, path.parent)
            return path.parent
        ids = (hub_id for base in self.published.values() for hub_id in base.ids)
        refused = None
        for folder in filter(None, map(cached_folder, ids)):
            try:
                self.open(path, folder)
                return folder
            except CnctlError as error:
                refused = refused or error
        if refused:
            raise refused
        names = " or ".join(self.published)
        raise MissingError(
            f"{path} lacks tokenizers, configs and a noise schedule",
            hint=f"fetch a base that completes it: cnctl models pull {names}; or put it into a "
            "folder of diffusers with such a base",
        )


def completed_by(location: Location, folder: Path) -> Path | None:
    """The folder that `find_folder` returned, where the base is one file."""
    return folder if location.path.is_file() else None


def read_config(folder: Path) -> dict[str, Any]:
    """The config of the transformer in a folder of diffusers."""
    return read_json(folder / PART / "config.json")


@functools.cache
def expected_shapes(kind: type, folder: Path) -> Mapping[str, tuple[int, ...]]:
    """Every tensor of the transformer in a folder of diffusers, from its config."""
    return shapes_of_class(kind, read_config(folder))
