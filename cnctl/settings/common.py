"""Settings that all commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cnctl.settings.declaration import Declared, Flag

BaseName = Annotated[
    str | None,
    Flag(
        "Base model: folder, file, cached hub id, or tiny, sd15, sdxl, flux-dev.",
        variable="CNCTL_BASE",
    ),
]


@dataclass(frozen=True, kw_only=True)
class CommonSettings(Declared):
    """Where models are found; top-level keys of the settings file."""

    SECTION: ClassVar[str] = ""

    base: BaseName = None
    detectors: Annotated[str | None, Flag("Folder with your own weights of detectors.")] = None
