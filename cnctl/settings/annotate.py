"""Settings of `cnctl annotate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cnctl.settings.declaration import Declared, Flag, at_least


@dataclass(frozen=True, kw_only=True)
class AnnotateSettings(Declared):
    """How hints are made."""

    SECTION: ClassVar[str] = "annotate"

    resolution: Annotated[
        int, Flag("Short side in pixels.", default="what the condition trains at"), at_least(1)
    ] = 512
