"""What the headers of a network's file say: what `cnctl info` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2",
}
"""Codes of safetensors, and what cnctl calls them."""


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """What the headers of a ControlNet's file say."""

    path: Path
    form: str
    container: str
    family: str
    condition: str
    """"" where neither the file nor a published name says it; most files do not."""
    hint_channels: int
    dtype: str
    tensors: int
    parameters: int
    bytes: int
    fits: str
    notes: tuple[str, ...]
    rank: int = 0
    """The largest of a Control-LoRA; 0 for other forms."""
    merged: int = 0
    """Numbers of the weights that a Control-LoRA changes or has, in memory; 0 for other forms."""
    licence: str = ""
    """Of the published ControlNet whose name it has; "" for other names."""
    converted: dict[str, Any] = field(default_factory=dict)
    """What `cnctl convert` wrote down: form and sha256 of the source, and what was done to it."""
    sha256: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"path": str(self.path)}
