"""Load a base of Stable Diffusion 3 from a diffusers folder or one file."""

from __future__ import annotations

from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.latents import autoencoder_factor
from cnctl.models.process import FlowMatching
from cnctl.models.sd3.files import FILES
from cnctl.models.transformer.base import base_loader, flow_scheduler, read_text_encoders
from cnctl.models.transformer.base_file import PART


def _own_fields(parts: dict[str, Any], name: str) -> dict[str, Any]:
    """Both CLIPs, and T5 where the base has it; sides as its transformer says."""
    ends = [end for end in ("", "_2", "_3") if f"text_encoder{end}" in parts]
    if "_2" not in ends:
        raise CnctlError(
            f"{name} has one CLIP text encoder, and SD3 reads two", hint="give a whole base"
        )
    config, factor = parts[PART].config, autoencoder_factor(parts["vae"])
    return {
        "text_encoders": read_text_encoders(parts, *ends),
        "process": FlowMatching(flow_scheduler(parts["scheduler"], name, dynamic=False)),
        "trained_resolution": config.sample_size * factor,
        "patch_size": config.patch_size,
        "largest_side": config.pos_embed_max_size * config.patch_size * factor,
    }


load_base = base_loader(FILES, _own_fields, text_encoders=3)
