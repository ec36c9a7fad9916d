"""What the examples of a shard are written to, in one split: a file or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cnctl.curation.published import Published

Record = Mapping[str, Any]
"""A row's line among the records of its shard."""
Members = Mapping[str, bytes | Path]
"""The files of an example by the ends of their names; a path is linked to."""


class Part(Protocol):
    """Is not there before it is published."""

    def add(self, record: Record, members: Members) -> Record:
        """Add an example; return its record, with what this form adds to it."""

    def publish(self) -> Published:
        """Give it its name, in place of what was there."""
