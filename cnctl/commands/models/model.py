"""One line of `cnctl models`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Model:
    """A base, a ControlNet or a detector of conditions, a captioner, or what a metric reads."""

    kind: str
    """ "base", "control", "detector", "captioner" or "metric"."""
    name: str
    family: str = ""
    """Family of a base or ControlNet, where it is known without reading the weights."""
    conditions: tuple[str, ...] = ()
    """Those that it serves."""
    licence: str = ""
    hub_id: str = ""
    """"" for what comes with cnctl."""
    file: str = ""
    """The one file of the hub id, where it is not the whole of it."""
    path: Path | None = None
    """Where it is; None where it is not installed."""
    size: int = 0
    """Bytes on disk, or to fetch where it is not installed; 0 where that is not known."""
    pull: str = ""
    """What `cnctl models pull` takes to fetch it."""
    about: str = ""
    """What it is good for and what it cannot do, or what is wrong with it."""

    @property
    def installed(self) -> bool:
        return self.path is not None
