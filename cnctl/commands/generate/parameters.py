"""The "parameters" text of a PNG, from which web interfaces paste their settings."""

from __future__ import annotations

from pathlib import Path

from cnctl.commands.generate.record import ControlRecord, ImageRecord
from cnctl.models.prompt_weighting import without_emphasis
from cnctl.sampling.samplers import sampler_of_class, split_spacing
from cnctl.sampling.schedulers import scheduler_class

CONTROL_MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}
"""The web interfaces' names of the control modes."""
PREPROCESSORS = {
    "ade20k": "seg_ufade20k",
    "ade20k-oneformer": "seg_ofade20k",
    "blur-gaussian": "blur_gaussian",
    "canny": "canny",
    "cartoon": "lineart_anime",
    "coco-stuff": "seg_ofcoco",
    "depth": "depth_midas",
    "depth-anything": "depth_anything_v2",
    "depth-zoe": "depth_zoe",
    "hed": "softedge_hed",
    "hough": "mlsd",
    "inpaint": "inpaint_only",
    "lineart": "lineart_realistic",
    "normal": "normal_midas",
    "normal-bae": "normal_bae",
    "openpifpaf": "openpose",
    "openpose": "openpose",
    "pose": "openpose",
    "scribble": "scribble_hed",
    "shuffle": "shuffle",
    "softedge-pidi": "softedge_pidinet",
    "softedge-safe": "softedge_hedsafe",
    "tile": "tile_resample",
}
"""What sd-webui-controlnet calls the preprocessor for the same kind of hint."""


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
    scheduler = str(settings["scheduler"])
    fields: dict[str, object] = {
        "Steps": settings["steps"],
        "Sampler": sampler_of_class(scheduler_class(scheduler)),
        "CFG scale": settings["guidance_scale"],
        "Seed": record.seed,
        "Size": f"{record.width}x{record.height}",
        "Model": record.base,
    }
    if distilled := settings.get("distilled_guidance"):
        fields["Distilled CFG Scale"] = distilled
    if spacing := split_spacing(scheduler)[1]:
        fields["Schedule type"] = spacing.capitalize()
    if (clip_skip := settings["clip_skip"]) != 1:
        fields["Clip skip"] = clip_skip
    if record.edit:
        fields["Denoising strength"] = record.edit.strength
    for number, control in enumerate(record.controls):
        fields[f"ControlNet {number}"] = _unit(control, record.base)
    return fields | {"Version": f"cnctl {record.version}"}


def _unit(control: ControlRecord, base: str) -> str:
    """One control as sd-webui-controlnet writes it, with module "none" for a ready hint."""
    ready = control.hint.name == control.source.name
    module = "none" if ready else PREPROCESSORS.get(control.condition, control.condition)
    # A folder's file is called the same in every folder.
    model = control.weights.given or f"{Path(base).name}_{control.condition}"
    return (
        f'"Module: {module}, Model: {Path(model).name.removesuffix(".safetensors")} '
        f"[{control.weights.sha256[:8]}], Weight: {control.scale}, "
        f"Guidance Start: {control.start}, Guidance End: {control.end}, "
        f'Control Mode: {CONTROL_MODES[control.mode]}"'
    )
