"""ControlNets for the random FLUX base, of the published forms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxControlNetModel

from cnctl.models.base import Base
from cnctl.models.families import load_base

FORMS: dict[str, dict[str, Any]] = {
    "latents": {"num_layers": 2},
    "one stream": {"num_layers": 2, "num_single_layers": 1},
    "union": {"num_layers": 1, "num_single_layers": 2, "num_mode": 5},
    "xlabs": {"num_layers": 2, "conditioning_embedding_channels": 16, "patch_size": 2},
    "without guidance": {"num_layers": 2, "guidance_embeds": False},
}
KNOWN = (
    "in_channels",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "pooled_projection_dim",
    "guidance_embeds",
    "axes_dims_rope",
)


@pytest.fixture(scope="session")
def flux_base(random_flux_base: Path) -> Base:
    """Loaded in float32 on the CPU. Do not change it."""
    return load_base(random_flux_base)


@pytest.fixture(scope="session")
def write_controlnet(flux_base: Base) -> Callable[..., Path]:
    """Writes a random one by diffusers' own class, as a folder."""

    def write(folder: Path, form: str = "latents", **changes: Any) -> Path:
        config = flux_base.denoiser.config
        known = {name: config[name] for name in KNOWN} | {"num_single_layers": 0}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            network = FluxControlNetModel(**known | FORMS[form] | changes)
            for parameter in network.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
        network.save_pretrained(folder)
        return folder

    return write
