"""`cnctl generate`: a hint (or an image to detect it in) and a prompt, to images."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel

import cnctl
from cnctl.core.base import Base
from cnctl.core.controlnet import hint_tensor
from cnctl.core.sampling import Control, sample
from cnctl.errors import CnctlError, OutputError
from cnctl.hints import check_options, draw_hint, load_detector, parse_options
from cnctl.images import (
    fit_hint,
    fit_image,
    read_hint,
    read_image,
    working_size,
    write_hint,
    write_image,
)
from cnctl.jobs.provenance import metadata
from cnctl.jobs.weights import open_base, open_control
from cnctl.plugin import Condition, OptionValue
from cnctl.registry import get_condition
from cnctl.settings import GenerateSettings, resolve

DEFAULT_PROMPT = "a professional, detailed, high-quality image"
"""The paper's default prompt (section 4.1): it names nothing in the image."""

MAX_SEED = 2**63 - 1
SMALL_UNET = 50_000_000
"""Parameters."""


@dataclass(frozen=True, kw_only=True)
class ControlSpec:
    """One `--cond`: a condition and where its hint comes from. None means "as for all"."""

    condition: str
    source: Path | None = None
    scale: float | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One image on disk, and all that made it."""

    path: Path
    hint: Path
    record: Mapping[str, Any]
    """seed, prompt, width, height, base, controls, settings: what its metadata say too."""

    def as_dict(self) -> dict[str, Any]:
        return {"path": self.path, "hint": self.hint, **self.record}


@dataclass(frozen=True, kw_only=True)
class _Branch:
    """A control with its condition, detector and network in memory, and its settings resolved."""

    condition: Condition
    options: Mapping[str, OptionValue]
    detect: Callable[..., np.ndarray | None]
    controlnet: ControlNetModel
    source: Path | None
    scale: float
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class _Texts:
    prompt: str
    negative_prompt: str


@dataclass(frozen=True, kw_only=True)
class _Output:
    """Where the images of one input go."""

    folder: Path
    file: Path | None
    stem: str
    overwrite: bool

    def image(self, seed: int) -> Path:
        return self.file or self.folder / f"{self.stem}-{seed}.png"

    def hint(self, channels: int) -> Path:
        suffix = ".png" if channels in (1, 3, 4) else ".npz"
        return self.folder / f"{self.stem}-hint{suffix}"


def parse_control(text: str) -> ControlSpec:
    """Read NAME[:SOURCE[:SCALE[:START-END]]], e.g. "canny:edges.png:0.8:0-0.6"."""
    number = r"\d*\.?\d+"
    match = re.fullmatch(
        rf"(?P<condition>[^:]+)(:(?P<source>.*?)"
        rf"(:(?P<scale>{number})(:(?P<start>{number})-(?P<end>{number}))?)?)?",
        text,
    )
    if match is None:
        raise CnctlError(
            f"--cond {text!r} is not NAME[:SOURCE[:SCALE[:START-END]]]",
            hint="for example --cond canny:edges.png:0.8:0-0.6",
        )
    part = match.groupdict()
    scale, start, end = (float(part[k]) if part[k] else None for k in ("scale", "start", "end"))
    source = Path(part["source"]) if part["source"] else None
    return ControlSpec(
        condition=part["condition"], source=source, scale=scale, start=start, end=end
    )


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
) -> Iterator[GeneratedImage]:
    """Generate `count` images for each input under all controls at once; yields each when written.

    images: what every control without a source of its own reads; may be empty if each has one.
    ready_hint: the sources are hints, nothing is detected. out: a folder, or a .png where one
    image is made. weights: one per control, or none for those that the base or condition brings.
    seed: of the first image, the next ones follow; None takes the first from 0 whose file is not
    there. settings: GenerateSettings by name, None for the default. on_step(done, total): image
    steps.
    """
    _check_arguments(controls, images, count=count, seed=seed, out=out)
    text = choose_prompt(prompt, prompt_mode)
    conditions = [get_condition(control.condition) for control in controls]
    parsed = _parse_options(conditions, options)
    _check_sources(controls, conditions, images, ready=ready_hint)
    on_base = open_base(base, device=device, dtype=dtype, note=note)
    _choose_threads(on_base)
    _note_long_prompt(on_base, text, note)
    chosen = _resolve(conditions[0], on_base, settings or {})
    branches = _open_branches(
        controls, conditions, on_base, chosen, options=parsed, weights=weights
    )
    texts = _Texts(prompt=text, negative_prompt=negative_prompt)
    rounds: list[Path | None] = [*images] or [None]
    total = len(rounds) * count * chosen.steps
    for index, image in enumerate(rounds):
        hints, sources = _make_hints(branches, image, ready=ready_hint, size=chosen.resolution)
        output = _output(out, sources[0], conditions, overwrite=overwrite)
        seeds = _choose_seeds(output, count, seed)
        _note_dead_hints(hints, sources, note)
        hint_path = sources[0] if ready_hint else _write_hint(output, hints[0])
        record = _record(on_base, branches, hints, sources, chosen) | asdict(texts)
        before = index * count * chosen.steps
        pictures = _sample(
            on_base,
            [_control(branch, hint) for branch, hint in zip(branches, hints, strict=True)],
            texts,
            chosen,
            seeds=seeds,
            batch_size=batch_size,
            on_step=_counting(lambda done: on_step(done, total), before=before),
        )
        for value, picture in zip(seeds, pictures, strict=True):
            yield _write(output, picture, hint_path, record | {"seed": value})


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
    *,
    count: int,
    seed: int | None,
    out: Path,
) -> None:
    if not controls:
        raise CnctlError("no condition", hint="name one: --cond canny; see cnctl conditions")
    if not images and any(control.source is None for control in controls):
        raise CnctlError("no image", hint="give one, or one per condition: --cond canny:x.png")
    if count < 1:
        raise CnctlError(f"-n {count} makes no image", hint="give at least 1")
    if seed is not None and not 0 <= seed <= MAX_SEED - count:
        raise CnctlError(f"seed {seed} is out of range", hint=f"use 0 to {MAX_SEED - count}")
    if out.suffix and max(len(images), count) > 1:
        raise CnctlError(f"-o {out} is one file for several images", hint="name a folder")
    if out.suffix not in ("", ".png"):
        raise CnctlError(f"-o {out}: images are PNG", hint=f"-o {out.with_suffix('.png')}")


def _parse_options(
    conditions: Sequence[Condition], assignments: Sequence[str]
) -> list[dict[str, OptionValue]]:
    if assignments and len(conditions) > 1:
        raise CnctlError(
            "--option is for one condition, but several are named",
            hint="make their hints first with cnctl annotate, then pass --hint",
        )
    return [
        check_options(condition, parse_options(condition, assignments)) for condition in conditions
    ]


def _check_sources(
    controls: Sequence[ControlSpec],
    conditions: Sequence[Condition],
    images: Sequence[Path],
    *,
    ready: bool,
) -> None:
    """Read every input once before anything slow happens: an unreadable one is told at once."""
    for control, condition in zip(controls, conditions, strict=True):
        for source in [control.source] if control.source else images:
            _read_ready(source, condition) if ready else read_image(source)


def _choose_threads(base: Base) -> None:
    """A small U-Net gains nothing from a second thread, and loses much where the CPU is busy."""
    parameters = sum(parameter.numel() for parameter in base.unet.parameters())
    if base.device.type == "cpu" and parameters < SMALL_UNET:
        torch.set_num_threads(1)


def _resolve(condition: Condition, base: Base, given: Mapping[str, Any]) -> GenerateSettings:
    of_base = {"resolution": base.resolution} | dict(base.defaults)
    chosen = resolve(GenerateSettings, of_base, asdict(condition.generate), flags=given)
    if chosen.steps < 1:
        raise CnctlError(f"--steps {chosen.steps} denoises nothing", hint="give at least 1")
    if chosen.resolution < base.latent_factor:
        raise CnctlError(f"--resolution {chosen.resolution} is too small", hint="try 512")
    return chosen


def _open_branches(
    controls: Sequence[ControlSpec],
    conditions: Sequence[Condition],
    base: Base,
    settings: GenerateSettings,
    *,
    options: Sequence[Mapping[str, OptionValue]],
    weights: Sequence[str],
) -> list[_Branch]:
    if weights and len(weights) != len(controls):
        raise CnctlError(
            f"{len(weights)} --control for {len(controls)} --cond",
            hint="give one for each, in the same order, or none",
        )
    named: list[str | None] = [*weights] or [None] * len(controls)
    return [
        _Branch(
            condition=condition,
            options=chosen,
            detect=_loaded_when_used(condition, device=str(base.device)),
            controlnet=open_control(condition, base, weights=name),
            source=control.source,
            **_interval(control, settings),
        )
        for control, condition, chosen, name in zip(
            controls, conditions, options, named, strict=True
        )
    ]


def _interval(control: ControlSpec, settings: GenerateSettings) -> dict[str, float]:
    own = {"scale": control.scale, "start": control.start, "end": control.end}
    common = {name: getattr(settings, f"control_{name}") for name in own}
    values = common | {name: value for name, value in own.items() if value is not None}
    if not 0 <= values["start"] <= values["end"] <= 1:
        raise CnctlError(
            f"{control.condition} cannot control from {values['start']} to {values['end']}",
            hint="give fractions of the run with 0 <= start <= end <= 1",
        )
    return values


def _note_long_prompt(base: Base, prompt: str, note: Callable[[str], None]) -> None:
    room = base.tokenizer.model_max_length
    length = len(base.tokenizer(prompt).input_ids)
    if length > room:
        note(f"the prompt has {length} tokens; {base.name} reads the first {room}")


def _make_hints(
    branches: Sequence[_Branch], image: Path | None, *, ready: bool, size: int
) -> tuple[list[np.ndarray], list[Path]]:
    """One hint per branch, uint8 (h, w, C), all of the first one's working size; their sources."""
    sources = [source for branch in branches if (source := branch.source or image)]
    working: tuple[int, int] | None = None
    hints = []
    for branch, source in zip(branches, sources, strict=True):
        picture = _read_ready(source, branch.condition) if ready else read_image(source)
        working = working or working_size(*picture.shape[:2], resolution=size)
        if ready:
            palette = bool(branch.condition.palette)
            hints.append(fit_hint(picture, size=working, palette=palette))
        else:
            hints.append(_detect(branch, fit_image(picture, size=working), source))
    return hints, sources


def _read_ready(source: Path, condition: Condition) -> np.ndarray:
    """A hint, uint8 (H, W, C): as it is stored, or drawn from JSON such as a pose editor writes."""
    if source.suffix.lower() != ".json":
        return read_hint(source, channels=condition.stored_channels)
    try:
        data = json.loads(source.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CnctlError(f"{source} is no readable JSON: {error}", hint="check the file") from error
    return draw_hint(condition, data)


def _loaded_when_used(condition: Condition, *, device: str) -> Callable[..., np.ndarray | None]:
    """The detector, whose weights need not be at hand where all hints are ready."""

    def detect(image: np.ndarray, **options: OptionValue) -> np.ndarray | None:
        return load_detector(condition, device=device)(image, **options)

    return detect


def _detect(branch: _Branch, image: np.ndarray, source: Path) -> np.ndarray:
    hint = branch.detect(image, **branch.options)
    if hint is None:
        raise CnctlError(
            f"{branch.condition.name} found nothing in {source}",
            hint="draw a hint and pass it with --hint",
        )
    return hint


def _note_dead_hints(
    hints: Sequence[np.ndarray], sources: Sequence[Path], note: Callable[[str], None]
) -> None:
    for hint, source in zip(hints, sources, strict=True):
        if np.ptp(hint) == 0:
            note(f"{source}: the hint is empty, so it controls nothing; try other options")


def _output(
    out: Path, source: Path, conditions: Sequence[Condition], *, overwrite: bool
) -> _Output:
    stem = f"{source.stem}-{'+'.join(condition.name for condition in conditions)}"
    folder, file = (out.parent, out) if out.suffix else (out, None)
    return _Output(folder=folder, file=file, stem=stem, overwrite=overwrite)


def _choose_seeds(output: _Output, count: int, seed: int | None) -> list[int]:
    """`count` seeds in a row whose files may be written; from the first free ones if not told."""
    first = seed or 0
    if seed is None and output.file is None:
        while any(output.image(first + offset).exists() for offset in range(count)):
            first += 1
    seeds = list(range(first, first + count))
    taken = [path for path in map(output.image, seeds) if path.exists()]
    if taken and not output.overwrite:
        raise OutputError(f"{taken[0]} exists", hint="take another --seed or -o, or --overwrite")
    return seeds


def _write_hint(output: _Output, hint: np.ndarray) -> Path:
    path = output.hint(hint.shape[2])
    write_hint(path, hint, overwrite=True)
    return path


def _sample(
    base: Base,
    controls: Sequence[Control],
    texts: _Texts,
    settings: GenerateSettings,
    *,
    seeds: Sequence[int],
    batch_size: int,
    on_step: Callable[[int], None],
) -> Iterator[np.ndarray]:
    """One image uint8 (H, W, 3) per seed, denoised in batches; on_step hears of image steps."""
    height, width = controls[0].hint.shape[2:]
    for first in range(0, len(seeds), batch_size):
        batch = seeds[first : first + batch_size]
        before = first * settings.steps
        yield from sample(
            base,
            controls,
            [texts.prompt] * len(batch),
            negative_prompts=[texts.negative_prompt] * len(batch),
            seeds=batch,
            height=height,
            width=width,
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            scheduler=settings.scheduler,
            on_step=_counting(on_step, before=before, images=len(batch)),
        )


def _counting(
    on_step: Callable[[int], None], *, before: int, images: int = 1
) -> Callable[[int], None]:
    """Turn the steps of one batch into image steps of the whole."""
    return lambda step: on_step(before + step * images)


def _control(branch: _Branch, hint: np.ndarray) -> Control:
    channels = branch.controlnet.config.conditioning_channels
    return Control(
        controlnet=branch.controlnet,
        hint=hint_tensor([hint], channels=channels),
        scale=branch.scale,
        start=branch.start,
        end=branch.end,
    )


def _record(
    base: Base,
    branches: Sequence[_Branch],
    hints: Sequence[np.ndarray],
    sources: Sequence[Path],
    settings: GenerateSettings,
) -> dict[str, Any]:
    """What the images of one input have in common; no path of this machine, only file names."""
    controls = [
        {
            "condition": branch.condition.name,
            "options": dict(branch.options),
            "source": source.name,
            "hint_sha256": hashlib.sha256(hint.tobytes()).hexdigest(),
            "scale": branch.scale,
            "start": branch.start,
            "end": branch.end,
        }
        for branch, hint, source in zip(branches, hints, sources, strict=True)
    ]
    per_control = {"control_scale", "control_start", "control_end"}
    common = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return {
        "version": cnctl.__version__,
        "base": base.name,
        "family": base.family.name,
        "controls": controls,
        **{name: value for name, value in common.items() if name not in per_control},
    }


def _write(
    output: _Output, image: np.ndarray, hint: Path, record: dict[str, Any]
) -> GeneratedImage:
    height, width = image.shape[:2]
    full = record | {"width": width, "height": height}
    path = output.image(full["seed"])
    write_image(path, image, metadata=metadata(full), overwrite=output.overwrite)
    return GeneratedImage(path=path, hint=hint, record=full)
