"""`cnctl generate`: a hint (or an image to detect it in) and a prompt, to images."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cnctl
from cnctl.core.base import Base
from cnctl.core.sampling import Control, sample
from cnctl.errors import CnctlError, OutputError
from cnctl.hints import load_detector, parse_options
from cnctl.images import fit_image, read_hint, read_image, working_size, write_hint, write_image
from cnctl.jobs.weights import open_base, open_control
from cnctl.plugin import Condition, OptionValue
from cnctl.registry import get_condition
from cnctl.settings import GenerateSettings, resolve

DEFAULT_PROMPT = "a professional, detailed, high-quality image"
"""The paper's default prompt (section 4.1): it names nothing in the image."""

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class ControlSpec:
    """One `--cond`: a condition, and where its hint comes from. None means "as the command says"."""

    condition: str
    source: Path | None = None
    scale: float | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One image on disk and all that made it."""

    path: Path
    seed: int
    prompt: str
    hint: Path
    width: int
    height: int
    settings: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields, with the settings beside them."""
        own = {name: getattr(self, name) for name in ("path", "seed", "prompt", "hint")}
        return own | {"width": self.width, "height": self.height, **self.settings}


@dataclass(frozen=True)
class _Loaded:
    """A control whose condition, detector and network are in memory."""

    spec: ControlSpec
    condition: Condition
    options: Mapping[str, OptionValue]
    detect: Callable[..., np.ndarray | None]
    controlnet: torch.nn.Module
    description: Mapping[str, Any]


def parse_control(text: str) -> ControlSpec:
    """Read NAME[:SOURCE[:SCALE[:START-END]]], e.g. "canny:edges.png:0.8:0-0.6"."""
    match = re.fullmatch(
        r"(?P<name>[^:]+)(?::(?P<source>.*?)(?::(?P<scale>[\d.]+)(?::(?P<start>[\d.]+)-(?P<end>[\d.]+))?)?)?",
        text,
    )
    if match is None:
        raise CnctlError(
            f"--cond {text!r} is not NAME[:SOURCE[:SCALE[:START-END]]]",
            hint="for example --cond canny:edges.png:0.8:0-0.6",
        )
    part = match.groupdict()
    return ControlSpec(
        condition=part["name"],
        source=Path(part["source"]) if part["source"] else None,
        scale=_number(part["scale"], text),
        start=_number(part["start"], text),
        end=_number(part["end"], text),
    )


def _number(text: str | None, spec: str) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise CnctlError(f"--cond {spec!r}: {text!r} is not a number") from error


def generate(
    controls: Sequence[ControlSpec],
    images: Sequence[Path] = (),
    prompt: str | None = None,
    *,
    out: Path = Path("out"),
    negative_prompt: str = "",
    prompt_mode: str | None = None,
    ready_hint: bool = False,
    options: Sequence[str] = (),
    weights: Sequence[str] = (),
    base: str | None = None,
    count: int = 1,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 4,
    device: str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
    note: Callable[[str], None] = lambda text: None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> list[GeneratedImage]:
    """Generate `count` images for each input image under all `controls` at once.

    images: inputs that every control without a source of its own reads; may be empty if each has
    one. ready_hint: the sources are hints already, nothing is detected. out: a folder, or a .png
    when exactly one image is made. seed: of the first image, the others follow; None takes the
    first from 0 whose file does not exist. settings: GenerateSettings by name, None = default.
    Images are written as soon as they are made.
    """
    _check_arguments(controls, images, count, seed, out)
    text = choose_prompt(prompt, prompt_mode)
    loaded_base = open_base(base, device=device, dtype=dtype, note=note)
    loaded = _load_controls(
        controls, loaded_base, base_source=base, weights=weights, options=options
    )
    chosen = _resolve(loaded[0].condition, loaded_base, settings or {})
    _note_long_prompt(loaded_base, text, note)
    made: list[GeneratedImage] = []
    rounds = [image for image in images] or [None]
    total = len(rounds) * count * chosen.steps

    for index, image in enumerate(rounds):
        hints, sources = _make_hints(loaded, image, ready=ready_hint, resolution=chosen.resolution)
        name = _name(sources[0], loaded)
        seeds = _choose_seeds(out, name, count, seed, overwrite)
        paths = [_path(out, name, value) for value in seeds]
        hint_path = sources[0] if ready_hint else _write_hint(out, name, hints[0])
        if not ready_hint and any(np.ptp(hint) == 0 for hint in hints):
            note(f"{sources[0]}: the hint is empty, so it controls nothing; try other options")
        for first in range(0, count, batch_size):
            done = (index * count + first) * chosen.steps
            part = slice(first, first + batch_size)
            size = len(seeds[part])
            arrays = sample(
                loaded_base,
                [_control(item, hint, chosen) for item, hint in zip(loaded, hints, strict=True)],
                [text] * size,
                negative_prompts=[negative_prompt] * size,
                seeds=seeds[part],
                height=hints[0].shape[0],
                width=hints[0].shape[1],
                steps=chosen.steps,
                guidance_scale=chosen.guidance_scale,
                scheduler=chosen.scheduler,
                on_step=lambda step, done=done, size=size: on_step(done + step * size, total),
            )
            for path, value, array in zip(paths[part], seeds[part], arrays, strict=True):
                record = _record(loaded, sources, hints, loaded_base, chosen, text, negative_prompt)
                _write(path, array, record | {"seed": value}, overwrite)
                made.append(_describe(path, value, text, hint_path, array, record))
    return made


def choose_prompt(prompt: str | None, mode: str | None) -> str:
    """The text of a prompt mode (section 4.1): "none", "default" or "user".

    Without a mode it is "user" where a prompt is given and "default" where none is.
    """
    mode = mode or ("default" if prompt is None else "user")
    if mode not in ("none", "default", "user"):
        raise CnctlError(f"prompt mode {mode!r} is unknown", hint="use none, default or user")
    if mode == "user" and prompt is None:
        raise CnctlError("--prompt-mode user needs a prompt", hint='give one: -p "a cat"')
    if mode != "user" and prompt is not None:
        raise CnctlError(f"--prompt-mode {mode} takes no prompt", hint="leave out -p or the mode")
    return {"none": "", "default": DEFAULT_PROMPT, "user": prompt or ""}[mode]


def _check_arguments(
    controls: Sequence[ControlSpec],
    images: Sequence[Path],
    count: int,
    seed: int | None,
    out: Path,
) -> None:
    if not controls:
        raise CnctlError("no condition", hint="name one: --cond canny; cnctl conditions lists them")
    if not images and any(control.source is None for control in controls):
        raise CnctlError("no image", hint="give one, or a source per condition: --cond canny:x.png")
    if count < 1:
        raise CnctlError(f"-n {count}: at least 1 image")
    if seed is not None and not 0 <= seed <= MAX_SEED - count:
        raise CnctlError(f"seed {seed} is out of range", hint=f"use 0 to {MAX_SEED - count}")
    if out.suffix and (len(images) > 1 or count > 1):
        raise CnctlError(f"-o {out} is one file but several images are made", hint="name a folder")
    if out.suffix and out.suffix.lower() != ".png":
        raise CnctlError(
            f"-o {out}: images are written as .png", hint=f"-o {out.with_suffix('.png')}"
        )


def _load_controls(
    controls: Sequence[ControlSpec],
    base: Base,
    *,
    base_source: str | None,
    weights: Sequence[str],
    options: Sequence[str],
) -> list[_Loaded]:
    if weights and len(weights) != len(controls):
        raise CnctlError(
            f"{len(controls)} conditions but {len(weights)} times --control",
            hint="give one --control per --cond, in the same order, or none",
        )
    if options and len(controls) > 1:
        raise CnctlError("--option with several conditions is ambiguous", hint="annotate first")
    loaded = []
    for position, spec in enumerate(controls):
        condition = get_condition(spec.condition)
        parsed = parse_options(condition, list(options))
        controlnet, description = open_control(
            condition,
            base,
            base_source=base_source,
            control=weights[position] if weights else None,
        )
        detect = load_detector(condition, device=str(base.device))
        loaded.append(_Loaded(spec, condition, parsed, detect, controlnet, description))
    return loaded


def _resolve(condition: Condition, base: Base, given: Mapping[str, Any]) -> GenerateSettings:
    of_base = {"resolution": base.resolution} | dict(base.defaults)
    chosen = resolve(GenerateSettings, of_base, asdict(condition.generate), flags=given)
    if chosen.steps < 1:
        raise CnctlError(f"steps is {chosen.steps}; it must be at least 1")
    if not 0 <= chosen.control_start <= chosen.control_end <= 1:
        raise CnctlError(
            f"control runs from {chosen.control_start} to {chosen.control_end}",
            hint="give 0 <= --control-start <= --control-end <= 1",
        )
    return chosen


def _note_long_prompt(base: Base, prompt: str, note: Callable[[str], None]) -> None:
    room = base.tokenizer.model_max_length
    length = len(base.tokenizer(prompt).input_ids)
    if length > room:
        note(f"the prompt has {length} tokens; {base.name} reads the first {room}")


def _make_hints(
    loaded: Sequence[_Loaded], image: Path | None, *, ready: bool, resolution: int
) -> tuple[list[np.ndarray], list[Path]]:
    """One hint per control, uint8 (H, W, C), all of the first one's size; and their sources."""
    sources = [item.spec.source or image for item in loaded]
    hints: list[np.ndarray] = []
    size: tuple[int, int] | None = None
    for item, source in zip(loaded, sources, strict=True):
        assert source is not None  # _check_arguments saw to it
        channels = item.condition.hint_channels
        picture = read_hint(source, channels=channels) if ready else read_image(source)
        size = size or working_size(*picture.shape[:2], resolution=resolution)
        nearest = ready and bool(item.condition.palette)
        fitted = fit_image(picture, size=size, resize="stretch", nearest=nearest)
        hints.append(fitted if ready else _detect(item, fitted, source))
    return hints, sources  # type: ignore[return-value]


def _detect(item: _Loaded, image: np.ndarray, source: Path) -> np.ndarray:
    hint = item.detect(image, **item.options)
    if hint is None:
        raise CnctlError(
            f"{item.condition.name} found nothing in {source}",
            hint="draw a hint and pass it with --hint",
        )
    return hint


def _control(item: _Loaded, hint: np.ndarray, settings: GenerateSettings) -> Control:
    spec = item.spec
    tensor = torch.from_numpy(hint).permute(2, 0, 1)[None].float() / 255
    return Control(
        controlnet=item.controlnet,
        hint=tensor,
        scale=settings.control_scale if spec.scale is None else spec.scale,
        start=settings.control_start if spec.start is None else spec.start,
        end=settings.control_end if spec.end is None else spec.end,
    )


def _name(source: Path, loaded: Sequence[_Loaded]) -> str:
    return f"{source.stem}-{'+'.join(item.condition.name for item in loaded)}"


def _path(out: Path, name: str, seed: int) -> Path:
    return out if out.suffix else out / f"{name}-{seed}.png"


def _choose_seeds(out: Path, name: str, count: int, seed: int | None, overwrite: bool) -> list[int]:
    if seed is not None or out.suffix:
        seeds = list(range(seed or 0, (seed or 0) + count))
        taken = [path for path in (_path(out, name, value) for value in seeds) if path.exists()]
        if taken and not overwrite:
            raise OutputError(
                f"{taken[0]} exists", hint="take another --seed or -o, or --overwrite"
            )
        return seeds
    first = 0
    while any(_path(out, name, first + offset).exists() for offset in range(count)):
        first += 1
    return list(range(first, first + count))


def _write_hint(out: Path, name: str, hint: np.ndarray) -> Path:
    folder = out.parent if out.suffix else out
    suffix = ".png" if hint.shape[2] in (1, 3, 4) else ".npz"
    path = folder / f"{name}-hint{suffix}"
    write_hint(path, hint, overwrite=True)
    return path


def _record(
    loaded: Sequence[_Loaded],
    sources: Sequence[Path],
    hints: Sequence[np.ndarray],
    base: Base,
    settings: GenerateSettings,
    prompt: str,
    negative_prompt: str,
) -> dict[str, Any]:
    """All that made an image, for its metadata; no path of this machine but file names."""
    controls = [
        {
            "condition": item.condition.name,
            "options": dict(item.options),
            "source": source.name,
            "hint_sha256": hashlib.sha256(hint.tobytes()).hexdigest(),
            "scale": settings.control_scale if item.spec.scale is None else item.spec.scale,
        }
        for item, source, hint in zip(loaded, sources, hints, strict=True)
    ]
    return {
        "version": cnctl.__version__,
        "base": base.name,
        "family": base.family,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "controls": controls,
        **asdict(settings),
    }


def _write(path: Path, image: np.ndarray, record: dict[str, Any], overwrite: bool) -> None:
    metadata = {
        "cnctl": json.dumps(record, ensure_ascii=False),
        "parameters": _a1111(record, image),
    }
    write_image(path, image, metadata=metadata, overwrite=overwrite)


def _a1111(record: Mapping[str, Any], image: np.ndarray) -> str:
    """The text that the web interfaces paste from (AUTOMATIC1111's "parameters")."""
    lines = [record["prompt"]]
    if record["negative_prompt"]:
        lines.append(f"Negative prompt: {record['negative_prompt']}")
    fields = {
        "Steps": record["steps"],
        "Sampler": record["scheduler"].upper(),
        "CFG scale": record["guidance_scale"],
        "Seed": record["seed"],
        "Size": f"{image.shape[1]}x{image.shape[0]}",
        "Model": record["base"],
    }
    for number, control in enumerate(record["controls"]):
        text = f"Module: {control['condition']}, Weight: {control['scale']}"
        fields[f"ControlNet {number}"] = f'"{text}"'
    lines.append(", ".join(f"{key}: {value}" for key, value in fields.items()))
    return "\n".join(lines)


def _describe(
    path: Path, seed: int, prompt: str, hint: Path, array: np.ndarray, record: Mapping[str, Any]
) -> GeneratedImage:
    height, width = array.shape[:2]
    settings = {key: value for key, value in record.items() if key not in ("prompt", "seed")}
    return GeneratedImage(
        path=path,
        seed=seed,
        prompt=prompt,
        hint=hint,
        width=width,
        height=height,
        settings=settings,
    )
