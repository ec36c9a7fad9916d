"""What has become of a row: an example, or the reason why it is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnctl.curation.layout import TRAIN, key_of
from cnctl.curation.parts import Members
from cnctl.curation.reasons import Reason
from cnctl.curation.rows import Row


class LeftOut(Exception):
    """A row is left out. error: what was wrong with it, "" where a rule was not met."""

    def __init__(self, reason: Reason, error: str = "") -> None:
        super().__init__(error)
        self.reason = reason
        self.error = error


@dataclass(kw_only=True)
class Outcome:
    """One row after the work. reason: None for an example, whose files are `members`.

    numbers: what the rules measured. not_met: reasons of rules that were not met, and were kept.
    frames: of the image, of which the first is read.
    """

    number: int
    row: Row
    reason: Reason | None = None
    error: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    not_met: tuple[str, ...] = ()
    sha256: str = ""
    frames: int = 1
    perceptual_hash: int | None = None
    caption_source: str = ""
    split: str = TRAIN
    members: Members = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The line of the row among the records of its shard."""
        found = self.perceptual_hash
        return {
            "row": self.number,
            "key": key_of(self.number),
            "name": self.row.name,
            "reason": self.reason,
            "error": self.error,
            "not_met": list(self.not_met),
            "numbers": dict(self.numbers),
            "sha256": self.sha256,
            "frames": self.frames,
            "phash": None if found is None else f"{found:016x}",
            "caption_source": self.caption_source,
            "split": self.split,
        }
