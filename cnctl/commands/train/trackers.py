"""accelerate's trackers, which send the numbers of log.jsonl to TensorBoard, wandb, ..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from cnctl.errors import CnctlError, MissingError

PROJECT = "cnctl"


def check_tracker(name: str) -> None:
    """Raise CnctlError where accelerate knows no tracker of this name."""
    if name and name not in LOGGER_TYPE_TO_CLASS:
        known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
        raise CnctlError(f"unknown tracker {name!r}", hint=f"known are {known}")


class Tracker:
    """One tracker's run; without a name it does nothing. folder: for those that write files."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self._tracker: GeneralTracker | None = None
        if not name:
            return
        check_tracker(name)
        PartialState()  # accelerate's trackers write on its main process alone
        kind = LOGGER_TYPE_TO_CLASS[name]
        where = {"logging_dir": folder} if kind.requires_logging_directory else {}
        try:
            self._tracker = kind(PROJECT, **where)
            if hasattr(self._tracker, "start"):
                self._tracker.start()
        except ImportError as error:
            raise MissingError(
                f"the tracker {name} needs {error.name}, which is not installed",
                hint=f"pip install {error.name}, or leave --tracker out",
            ) from error
        self._tracker.store_init_configuration(dict(settings))

    def log(self, values: Mapping[str, float | None], step: int) -> None:
        """Numbers by name; those that are None are left out."""
        if self._tracker is not None:
            known = {name: value for name, value in values.items() if value is not None}
            self._tracker.log(known, step=step)

    def finish(self) -> None:
        """Have all of it written."""
        if self._tracker is not None:
            self._tracker.finish()
