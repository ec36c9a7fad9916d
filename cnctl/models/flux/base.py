"""Load a base of FLUX.1 from a diffusers folder or one file."""

from __future__ import annotations

from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.flux.files import FILES
from cnctl.models.process import FlowMatching
from cnctl.models.transformer.base import base_loader, flow_scheduler, read_text_encoders
from cnctl.models.transformer.packing import SIDE

RESOLUTION = 1024
"""Short side that it was trained on; no config says it."""


def _own_fields(parts: dict[str, Any], name: str) -> dict[str, Any]:
    if "text_encoder_2" not in parts:
        raise CnctlError(f"{name} has no T5 text encoder", hint="give a whole base")
    scheduler = flow_scheduler(parts["scheduler"], name, dynamic=True)
    return {
        "text_encoders": read_text_encoders(parts, "", "_2"),
        "process": FlowMatching(scheduler, even=True),
        "trained_resolution": RESOLUTION,
        "patch_size": SIDE,
    }


load_base = base_loader(FILES, _own_fields, text_encoders=2)
