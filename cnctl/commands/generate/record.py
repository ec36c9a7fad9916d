"""What an image says about itself: a JSON document, and the text that web interfaces paste from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.commands.generate.controls import ACTS, Branch
from cnctl.commands.generate.image_to_image import EditedImage
from cnctl.models.base import Base
from cnctl.models.unet.prompt_weighting import without_emphasis
from cnctl.registry import find_entry
from cnctl.sampling.schedulers import scheduler_class
from cnctl.settings import GenerateSettings
from cnctl.tensorfiles.digest import known_sha256

LIBRARIES = ("torch", "diffusers", "transformers")
CONTROL_MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}
"""What the web interfaces call the modes of control."""
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
"""What they call diffusers' schedulers, of those that they have."""


def describe_machine(base: Base) -> dict[str, Any]:
    """What rounding may depend on."""
    return {
        "version": version("cnctl"),
        "libraries": {name: version(name) for name in LIBRARIES},
        "device": base.device.type,
    }


def describe_run(base: Base, settings: GenerateSettings) -> dict[str, Any]:
    """The base and the settings of an image."""
    of_controls = {f"control_{name}" for name in ACTS}
    common = {name: value for name, value in asdict(settings).items() if name not in of_controls}
    return {
        "dtype": str(base.dtype).removeprefix("torch."),
        "base": base.name,
        "base_sha256": _base_sha256(base.path),
        "family": base.family.name,
        **common,
    }


def describe_hint(hint: np.ndarray, stored: Path) -> dict[str, str]:
    """A hint, uint8 (H, W, C), as the network was shown it, and the file that holds it."""
    return {"name": stored.name, "sha256": hint_sha256(hint)}


def describe_control(branch: Branch, source: Path, settings: GenerateSettings) -> dict[str, Any]:
    """One control of an image but for its hint. No path of this machine, only names of files."""
    entry = find_entry(branch.condition.name)
    return {
        "condition": branch.condition.name,
        "plugin": entry.provider,
        "options": dict(branch.options),
        "source": named(source),
        "weights": {**named(branch.weights), "given": branch.given},
        **({"region": named(Path(branch.spec.region))} if branch.spec.region else {}),
        **{name: value for name, value in branch.acts(settings).items() if value != ()},
    }


def describe_edit(edited: EditedImage) -> dict[str, Any]:
    """What an image was made from by editing."""
    mask = {"mask": named(edited.mask_path)} if edited.mask_path else {}
    return {"image": named(edited.path), **mask, "strength": edited.strength}


def hint_sha256(hint: np.ndarray) -> str:
    """Of its pixels, whatever file they are stored in."""
    return hashlib.sha256(np.ascontiguousarray(hint).tobytes()).hexdigest()


def named(path: Path) -> dict[str, str]:
    """A file by its name and its content."""
    about = path.stat()
    return {"name": path.name, "sha256": _sha256_of(path, about.st_size, about.st_mtime_ns)}


def metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """PNG text chunks of a generated image: "cnctl" (JSON) and "parameters" (AUTOMATIC1111's).

    record: version, base, prompt, negative_prompt, seed, steps, guidance_scale, scheduler, width,
    height, and controls, each with condition, scale, start, end and mode.
    """
    document = json.dumps(record, ensure_ascii=False, default=str)
    return {"cnctl": document, "parameters": _parameters(record)}


def differences(record: Mapping[str, Any], origin: Mapping[str, Any]) -> Iterator[str]:
    """What an image was made with that its origin was not, though nobody asked for it."""
    for name, value in origin["libraries"].items():
        if (now := record["libraries"].get(name)) != value:
            yield f"made with {name} {now}, the first time with {value}"
    for name in ("device", "dtype"):
        if record[name] != origin[name]:
            yield f"made with {name} {record[name]}, the first time with {origin[name]}"
    if record["base"] == origin["base"] and record["base_sha256"] != origin["base_sha256"]:
        yield f"the base {record['base']} has other weights than the first time"
    for now, then in zip(record["controls"], origin["controls"], strict=False):
        for part in ("weights", "hint"):
            same_name = now[part]["name"] == then[part]["name"]
            if same_name and now[part]["sha256"] != then[part]["sha256"]:
                yield f"{now[part]['name']} is not what it was the first time"


@cache
def _sha256_of(path: Path, size: int, changed: int) -> str:
    """Of a file as it is now; weights of gigabytes are read once, and not for each image."""
    return known_sha256(path)


@cache
def _base_sha256(path: Path) -> str:
    """Of a base's one file, or of its U-Net's weights, which tell fine-tunes apart."""
    if path.is_file():
        return known_sha256(path)
    weights: Sequence[Path] = sorted((path / "unet").glob("*.safetensors"))
    return known_sha256(weights[0]) if weights else ""


def _parameters(record: Mapping[str, Any]) -> str:
    weighed = record.get("emphasis", False)
    prompts = [record["prompt"], record["negative_prompt"]]
    prompt, negative = prompts if weighed else map(without_emphasis, prompts)
    scheduler = scheduler_class(record["scheduler"]).removesuffix("Scheduler")
    fields = {
        "Steps": record["steps"],
        "Sampler": SAMPLERS.get(scheduler, scheduler),
        "CFG scale": record["guidance_scale"],
        "Seed": record["seed"],
        "Size": f"{record['width']}x{record['height']}",
        "Model": record["base"],
    }
    if record.get("clip_skip", 1) > 1:
        fields["Clip skip"] = record["clip_skip"]
    if edit := record.get("edit"):
        fields["Denoising strength"] = edit["strength"]
    for number, control in enumerate(record["controls"]):
        fields[f"ControlNet {number}"] = (
            f'"Module: {control["condition"]}, Weight: {control["scale"]}, '
            f"Guidance Start: {control['start']}, Guidance End: {control['end']}, "
            f'Control Mode: {CONTROL_MODES[control["mode"]]}"'
        )
    fields["Version"] = f"cnctl {record['version']}"
    # The web interfaces take LoRA from the prompt.
    loras = [(Path(lora["name"]).stem, lora["scale"]) for lora in record.get("loras", [])]
    lines = [
        " ".join([prompt, *(f"<lora:{name}:{scale:g}>" for name, scale in loras)]),
        *([f"Negative prompt: {negative}"] if negative else []),
        ", ".join(f"{key}: {value}" for key, value in fields.items()),
    ]
    return "\n".join(lines)
