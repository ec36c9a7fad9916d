"""The layouts of checkpoint files, one for each folder of families. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnctl.models.checkpoint_layout import CheckpointLayout
from cnctl.models.unet.layout import LAYOUT as UNET

LAYOUTS = (UNET,)


def load_controlnet(source: str | Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A trained network as a torch module, and its description.

    source: a folder or file of any known form. options: device ("cpu"), dtype (None keeps the
    file's) and base (the base that completes a difference file or a Control-LoRA).
    """
    return find_layout(Path(source)).load(source, **options)


def read_description(source: str | Path, **options: Any) -> dict[str, Any]:
    """What is known of a network, from headers: family, hint_channels, config, condition, ..."""
    return find_layout(Path(source)).read_description(source, **options)


def find_layout(path: Path) -> CheckpointLayout:
    """The layout of the weights at this path; the last one where none knows them, to say so."""
    return next((layout for layout in LAYOUTS if layout.holds(path)), LAYOUTS[-1])
