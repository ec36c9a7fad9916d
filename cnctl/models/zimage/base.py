"""Load a base of Z-Image from a diffusers folder or one file."""

from __future__ import annotations

from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.latents import autoencoder_factor
from cnctl.models.process import FlowMatching
from cnctl.models.transformer.base import base_loader, flow_scheduler, read_text_encoders
from cnctl.models.transformer.base_file import PART
from cnctl.models.zimage.files import FILES
from cnctl.models.zimage.shape import PATCH_SIZE

TRAINED_RESOLUTION = 1024


def _own_fields(parts: dict[str, Any], name: str) -> dict[str, Any]:
    if not parts["tokenizer"].chat_template:
        raise CnctlError(
            f"the tokenizer of {name} has no chat template", hint="fetch the whole base again"
        )
    config, factor = parts[PART].config, autoencoder_factor(parts["vae"])
    scheduler = flow_scheduler(parts["scheduler"], name, dynamic=True)
    return {
        "text_encoders": read_text_encoders(parts, ""),
        "process": FlowMatching(scheduler, even=True),
        "trained_resolution": TRAINED_RESOLUTION,
        "patch_size": PATCH_SIZE,
        "largest_side": min(config.axes_lens[1:]) * PATCH_SIZE * factor,
    }


load_base = base_loader(FILES, _own_fields, text_encoders=1)
