"""Load a base of Qwen-Image from a diffusers folder or one file."""

from __future__ import annotations

from typing import Any

from cnctl.models.process import FlowMatching
from cnctl.models.qwen.files import FILES
from cnctl.models.transformer.base import base_loader, flow_scheduler, read_text_encoders
from cnctl.models.transformer.packing import SIDE

RESOLUTION = 1328
"""Side of the squares that it makes best (its model card); no config says it."""


def _own_fields(parts: dict[str, Any], name: str) -> dict[str, Any]:
    scheduler = flow_scheduler(parts["scheduler"], name, dynamic=True)
    return {
        "text_encoders": read_text_encoders(parts, ""),
        "process": FlowMatching(scheduler, even=True),
        "trained_resolution": RESOLUTION,
        "patch_size": SIDE,
    }


load_base = base_loader(FILES, _own_fields, text_encoders=1)
