"""The "parameters" text of a PNG, from which web interfaces paste their settings."""

from __future__ import annotations

from pathlib import Path

from cnctl.commands.generate.record import ControlRecord, ImageRecord
from cnctl.models.prompt_weighting import without_emphasis
from cnctl.sampling.schedulers import scheduler_class

CONTROL_MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}
"""The web interfaces' names of the control modes."""
SAMPLERS = {
    "DDIM": "DDIM",
    "DPMSolverMultistep": "DPM++ 2M",
    "EulerAncestralDiscrete": "Euler a",
    "EulerDiscrete": "Euler",
    "HeunDiscrete": "Heun",
    "KDPM2AncestralDiscrete": "DPM2 a",
    "KDPM2Discrete": "DPM2",
    "LCM": "LCM",
    "LMSDiscrete": "LMS",
    "PNDM": "PLMS",
    "UniPCMultistep": "UniPC",
}
"""Their names of those diffusers schedulers that they have."""


def format_parameters(record: ImageRecord) -> str:
    """The prompt, the negative prompt and the settings, as AUTOMATIC1111 writes them."""
    prompts = (record.prompt, record.negative_prompt)
    weighted = record.settings.get("emphasis", False)
    prompt, negative = prompts if weighted else map(without_emphasis, prompts)
    # The web interfaces take LoRA from the prompt.
    loras = [f"<lora:{Path(lora.name).stem}:{lora.scale:g}>" for lora in record.loras]
    lines = [
        " ".join([prompt, *loras]),
        *([f"Negative prompt: {negative}"] if negative else []),
        ", ".join(f"{name}: {value}" for name, value in _fields(record).items()),
    ]
    return "\n".join(lines)


def _fields(record: ImageRecord) -> dict[str, object]:
    settings = record.settings
    scheduler = scheduler_class(str(settings["scheduler"])).removesuffix("Scheduler")
    fields: dict[str, object] = {
        "Steps": settings["steps"],
        "Sampler": SAMPLERS.get(scheduler, scheduler),
        "CFG scale": settings["guidance_scale"],
        "Seed": record.seed,
        "Size": f"{record.width}x{record.height}",
        "Model": record.base,
    }
    if (clip_skip := settings["clip_skip"]) != 1:
        fields["Clip skip"] = clip_skip
    if record.edit:
        fields["Denoising strength"] = record.edit.strength
    for number, control in enumerate(record.controls):
        fields[f"ControlNet {number}"] = _unit(control)
    return fields | {"Version": f"cnctl {record.version}"}


def _unit(control: ControlRecord) -> str:
    return (
        f'"Module: {control.condition}, Weight: {control.scale}, '
        f"Guidance Start: {control.start}, Guidance End: {control.end}, "
        f'Control Mode: {CONTROL_MODES[control.mode]}"'
    )
