"""A shard as such, and one on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from cnctl.errors import CnctlError, reading, shown


class Shard(Protocol):
    """A tar file, local or remote."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    @property
    def file_name(self) -> str:
        """The last part of its name."""

    @property
    def version(self) -> str:
        """Changes with its content; "" where that is not known."""

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of it; CnctlError where it is too short or cannot be read."""

    def open(self) -> BinaryIO:
        """Open it as a file, to read headers."""


@dataclass(frozen=True)
class LocalShard:
    """A shard on this machine."""

    path: Path

    version = ""

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.name

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of it."""
        with reading(self.path), self.path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise CnctlError(f"{shown(self.path)} is truncated", hint="copy it again")
        return data

    def open(self) -> BinaryIO:
        """Open the file."""
        return self.path.open("rb")
