"""ControlNets for the random SD3 base, of the three published forms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SD3ControlNetModel

from cnctl.models.base import Base

FORMS: dict[str, dict[str, Any]] = {
    "zeros": {},
    "pooled": {"force_zeros_for_pooled_projection": False},
    "no text": {
        "force_zeros_for_pooled_projection": False,
        "joint_attention_dim": None,
        "qk_norm": None,
        "dual_attention_layers": (),
        "use_pos_embed": False,
        "pos_embed_type": None,
        "pos_embed_max_size": None,
    },
}
"""InstantX's, the same with the pooled text, Stability's for SD3.5 large."""


@pytest.fixture(scope="session")
def write_controlnet(loaded_sd3_base: Base) -> Callable[..., Path]:
    """Writes a random one by diffusers' own class, as a folder."""

    def write(folder: Path, form: str = "zeros", **changes: Any) -> Path:
        base = loaded_sd3_base.denoiser.config
        known = {name: base[name] for name in KNOWN} | {"num_layers": 2} | FORMS[form] | changes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            network = SD3ControlNetModel(**known)
            for parameter in network.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
        network.save_pretrained(folder)
        return folder

    return write


KNOWN = (
    "sample_size",
    "patch_size",
    "in_channels",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "caption_projection_dim",
    "pooled_projection_dim",
    "pos_embed_max_size",
    "qk_norm",
    "dual_attention_layers",
)
