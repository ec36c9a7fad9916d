"""What an image says about itself: a JSON document, and the text that web interfaces paste from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}
"""What the web interfaces call the modes of control."""


def metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """PNG text chunks of a generated image: "cnctl" (JSON) and "parameters" (AUTOMATIC1111's).

    record: version, base, prompt, negative_prompt, seed, steps, guidance_scale, scheduler, width,
    height, and controls, each with
    condition, scale, start, end and mode. No path but file names belongs in it.
    """
    document = json.dumps(record, ensure_ascii=False, default=str)
    return {"cnctl": document, "parameters": _parameters(record)}


def _parameters(record: Mapping[str, Any]) -> str:
    negative = record["negative_prompt"]
    fields = {
        "Steps": record["steps"],
        "Sampler": record["scheduler"].upper(),
        "CFG scale": record["guidance_scale"],
        "Seed": record["seed"],
        "Size": f"{record['width']}x{record['height']}",
        "Model": record["base"],
    }
    if edit := record.get("edit"):
        fields["Denoising strength"] = edit["strength"]
    for number, control in enumerate(record["controls"]):
        fields[f"ControlNet {number}"] = (
            f'"Module: {control["condition"]}, Weight: {control["scale"]}, '
            f"Guidance Start: {control['start']}, Guidance End: {control['end']}, "
            f'Control Mode: {MODES[control["mode"]]}"'
        )
    lines = [
        record["prompt"],
        *([f"Negative prompt: {negative}"] if negative else []),
        ", ".join(f"{key}: {value}" for key, value in fields.items()),
    ]
    return "\n".join(lines)
