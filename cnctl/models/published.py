"""What is published for the families: bases by short name, ControlNets by condition.

Standard library only: `cnctl conditions` and `cnctl models` list it without loading a network.
"""

from __future__ import annotations

import re

from cnctl.models.flux import published as flux
from cnctl.models.qwen import published as qwen
from cnctl.models.sd3 import published as sd3
from cnctl.models.unet import published as unet
from cnctl.models.zimage import published as zimage
from cnctl.weights import Weights

BASES = {**unet.BASES, **sd3.BASES, **flux.BASES, **zimage.BASES, **qwen.BASES}
"""By short name."""
TABLES = (unet.CONTROLNETS, sd3.CONTROLNETS, flux.CONTROLNETS, zimage.CONTROLNETS, qwen.CONTROLNETS)

TRANSFORMER_NAMES = {
    r"SD3-Controlnet-(\w+)": "sd3",
    r"SD3\.5M-Controlnet-(\w+)": "sd35m",
    r"stable-diffusion-3\.5-large-controlnet-(\w+)": "sd35l",
    r"FLUX\.1-(Canny|Depth)-dev-lora": "flux_lora",
    r"FLUX\.1-dev-Control[Nn]et-([\w.-]+)": "flux",
    r"Flux\.1-dev-Controlnet-([\w-]+)": "flux_jasperai",
    r"Qwen-Image-ControlNet-(\w+)": "qwen",
    r"Qwen-Image-Blockwise-ControlNet-(\w+)": "qwen_blockwise",
    r"flux-controlnet-(\w+)-diffusers": "flux_xlabs",
    r"Z-Image-Turbo-Fun-Controlnet-([\w.-]+)": "zimage_turbo",
    r"Z-Image-Fun-Controlnet-([\w.-]+)": "zimage",
}


def published_controlnets(condition: str) -> tuple[Weights, ...]:
    """The published ControlNets for a condition, of every family."""
    families = (family for table in TABLES for family in table.values())
    return tuple(weights for family in families for weights in family.get(condition, ()))


def listed_name(known: Weights) -> str:
    """What lists call a ControlNet and `--control` takes: "tiny/canny", else its short name."""
    return known.source if known.embedded else short_name(known.source)


def short_name(hub_id: str) -> str:
    """What `--control` may call a ControlNet of the hub: "v11p_canny", "sdxl_canny"; no owner."""
    owner, _, name = hub_id.partition("/")
    if match := re.fullmatch(r"control_(v11\w*?)_sd15(?:s2)?_(\w+)", name):
        return f"{match[1]}_{match[2]}"
    if match := re.fullmatch(r"sd-controlnet-(\w+)", name):
        return f"v10_{match[1]}"
    if match := re.fullmatch(r"controlnet-sd21-(\w+)-diffusers", name):
        return f"sd21_{match[1]}"
    if match := re.fullmatch(r"controlnet-([\w-]+)-sdxl-1\.0", name):
        return f"sdxl_{match[1]}" + ("" if owner == "diffusers" else f"_{owner}")
    for pattern, short in TRANSFORMER_NAMES.items():
        if match := re.fullmatch(pattern, name):
            return f"{short}_{match[1].lower()}"
    return name
