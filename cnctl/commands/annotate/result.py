"""What `cnctl annotate` has written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cnctl.commands.shared.events import FailedCondition, FailedImage


@dataclass(frozen=True, kw_only=True)
class AnnotatedHint:
    """One hint on disk. skipped: an earlier run had written it."""

    path: Path
    image: Path
    record: Mapping[str, Any]
    """condition, options, resolution: what the hint is a function of, with its image."""
    skipped: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the hint was drawn from (lines, key points), if the detector says; not if skipped."""

    def as_dict(self) -> dict[str, Any]:
        data = {"data": self.data} if self.data else {}
        return data | {
            "path": self.path,
            "image": self.image,
            **self.record,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """An image and all its hints side by side, on disk."""

    path: Path
    image: Path
    skipped: bool = False


@dataclass(frozen=True, kw_only=True)
class AnnotateResult:
    """Each image gave a hint per usable condition, or is among the failed."""

    images: int
    hints: list[AnnotatedHint] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    failed: list[FailedImage] = field(default_factory=list)
    failed_conditions: list[FailedCondition] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        return sum(hint.skipped for hint in self.hints)

    def add(self, written: AnnotatedHint | Sheet) -> None:
        if isinstance(written, Sheet):
            self.sheets.append(written)
        else:
            self.hints.append(written)

    def as_dict(self) -> dict[str, Any]:
        return {
            "hints": [hint.as_dict() for hint in self.hints],
            "sheets": [asdict(sheet) for sheet in self.sheets],
            "failed": [asdict(failure) for failure in self.failed],
            "failed_conditions": [asdict(failure) for failure in self.failed_conditions],
        }
