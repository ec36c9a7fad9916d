"""What LoRAs for Qwen-Image call its layers: by diffusers' names, which are the original's."""

from __future__ import annotations

from cnctl.models.transformer.lora import build_names

NAMES = build_names({})
