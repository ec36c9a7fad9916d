"""Stability's own names for the tensors of its ControlNets for SD3.5 large.

Queries, keys and values are one tensor there, in this order (diffusers'
`convert_sd3_controlnet_to_diffusers.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cnctl.models.sd3.architecture import Architecture
from cnctl.models.transformer.format import Form

FUSED = ".attn.qkv."
PARTS = ("to_q", "to_k", "to_v")
"""What diffusers calls the thirds of a fused tensor."""
RENAMED = {
    ".attn.proj.": ".attn.to_out.0.",
    ".mlp.fc1.": ".ff.net.0.proj.",
    ".mlp.fc2.": ".ff.net.2.",
    ".adaLN_modulation.1.": ".norm1.linear.",
}


def is_original(names: Iterable[str]) -> bool:
    """Whether these are Stability's names."""
    return any(FUSED in name for name in names)


def diffusers_names(name: str) -> list[str]:
    """What diffusers calls this tensor, or each third of it."""
    if FUSED in name:
        return [name.replace(FUSED, f".attn.{part}.") for part in PARTS]
    return [_replaced(name, RENAMED)]


def original_name(name: str) -> str:
    """What Stability calls a tensor of diffusers, or the tensor that it is a third of."""
    name = re.sub(r"\.attn\.to_[qkv]\.", FUSED, name)
    return _replaced(name, {new: old for old, new in RENAMED.items()})


def refuses(architecture: Architecture) -> str:
    """Why Stability's form has no names for such a ControlNet; "" where it has."""
    return "reads text, unknown to Stability's own form" if architecture.text_width else ""


def _replaced(name: str, by: Mapping[str, str]) -> str:
    old = next((old for old in by if old in name), "")
    return name.replace(old, by[old]) if old else name


ORIGINAL = Form(
    name="original",
    label="original (Stability's)",
    holds=is_original,
    diffusers_names=diffusers_names,
    own_name=original_name,
    refuses=refuses,
)
