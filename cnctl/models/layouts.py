"""The layouts of checkpoint files, one for each folder of families. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnctl.models import signatures
from cnctl.models.checkpoint_layout import CheckpointLayout
from cnctl.models.flux.format import LAYOUT as FLUX
from cnctl.models.identify import check_role
from cnctl.models.qwen.layout import LAYOUT as QWEN
from cnctl.models.sd3.format import LAYOUT as SD3
from cnctl.models.signatures import CONTROLNET
from cnctl.models.unet.layout import LAYOUT as UNET
from cnctl.models.zimage.format import LAYOUT as ZIMAGE

LAYOUTS = {
    signatures.UNET: UNET,
    signatures.SD3: SD3,
    signatures.FLUX: FLUX,
    signatures.ZIMAGE: ZIMAGE,
    signatures.QWEN: QWEN,
}
"""By the names that the table of signatures has for them."""


def load_controlnet(source: str | Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A trained network as a torch module, and its description.

    source: a folder or file of any known form. options: device ("cpu"), dtype (None keeps the
    file's) and base (the base that completes a difference file or a Control-LoRA).
    """
    return find_layout(Path(source)).load(source, **options)


def read_description(source: str | Path, **options: Any) -> dict[str, Any]:
    """What is known of a network, from headers: family, hint_channels, config, condition, ..."""
    return find_layout(Path(source)).read_description(source, **options)


def find_layout(path: Path, role: str = CONTROLNET) -> CheckpointLayout:
    """The layout of the weights at this path; CnctlError where they are something else.

    role: what they are to serve as, of `cnctl.models.signatures`.
    """
    for layout in LAYOUTS.values():
        if layout.holds(path):
            return layout
    row = check_role(path, role)
    # What no row knows, the first layout refuses, and says what is wrong with it.
    return LAYOUTS[row.read_by] if row else next(iter(LAYOUTS.values()))
