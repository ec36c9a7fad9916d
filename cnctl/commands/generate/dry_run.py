"""What `cnctl generate` would do, without weights in memory or a file written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnctl.commands.generate.adapters import check_fit
from cnctl.commands.generate.check import CheckedRun, check_run
from cnctl.commands.generate.chosen_settings import check_settings, choose_settings, settings_of
from cnctl.commands.generate.events import OnEvent
from cnctl.commands.generate.hint_files import hint_paths
from cnctl.commands.generate.loaded_controls import check_acts, name_weights
from cnctl.commands.generate.memory_plan import describe_memory, plan_memory
from cnctl.commands.generate.outputs import PlannedImage
from cnctl.commands.generate.plan import plan_run
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.sources import source_of
from cnctl.commands.shared.events import FailedImage, Note
from cnctl.commands.shared.weights import check_controls, locate_control, open_base
from cnctl.errors import counted, shown
from cnctl.images import working_size
from cnctl.models.base import Base, check_size
from cnctl.models.quantize import check_library
from cnctl.settings import GenerateSettings


@dataclass(frozen=True, kw_only=True)
class PlannedControl:
    """A control: where its hints come from, and its weights."""

    condition: str
    hints: str
    """ "detected" or "given"."""
    weights: Path


@dataclass(frozen=True, kw_only=True)
class GeneratePlan:
    """Which images a run would make."""

    base: str
    device: str
    dtype: str
    controls: Sequence[PlannedControl]
    inputs: int
    prompts: Sequence[str]
    settings: GenerateSettings
    images: Sequence[PlannedImage]
    hints: Sequence[Path]
    """The files of detected hints."""
    sizes: Mapping[str, int]
    """How many images have each size, "width x height"."""
    memory: Mapping[str, int]
    """Bytes of weights on the device at once: "as asked", and with flags that need less."""
    failed: Sequence[FailedImage]

    def lines(self) -> list[str]:
        """Returns lines for people."""
        chosen, made = self.settings, [image for image in self.images if not image.done]
        kept = len(self.images) - len(made)
        return [
            f"base        {self.base}, {self.dtype} on {self.device}",
            *(
                f"control     {each.condition}: hints {each.hints}, weights {shown(each.weights)}"
                for each in self.controls
            ),
            f"inputs      {counted(self.inputs, 'image')}, {counted(len(self.prompts), 'prompt')}",
            f"settings    {chosen.steps} steps, {chosen.scheduler}, "
            f"guidance scale {chosen.guidance_scale:g}, control scale {chosen.control_scale:g}"
            + (f", distilled {scale:g}" if (scale := chosen.distilled_guidance) else ""),
            f"sizes       {', '.join(f'{count} of {size}' for size, count in self.sizes.items())}",
            f"outputs     {counted(len(made), 'image')}"
            + (f", {kept} kept" if kept else "")
            + f": {_listed([image.path for image in self.images])}",
            *([f"hints       {_listed(self.hints)}"] if self.hints else []),
            f"memory      {describe_memory(self.memory)}",
        ]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "base": self.base,
            "device": self.device,
            "dtype": self.dtype,
            "controls": [asdict(control) for control in self.controls],
            "inputs": self.inputs,
            "prompts": self.prompts,
            "settings": asdict(self.settings),
            "sizes": self.sizes,
            "images": [
                {"path": image.path, "seed": image.seed, "done": image.done}
                for image in self.images
            ],
            "hints": self.hints,
            "memory": self.memory,
        }


def plan_generation(request: GenerateRequest, on_event: OnEvent) -> GeneratePlan:
    """Return what `generate` would do. Inputs are read and checked, weights are only located."""

    def note(text: str) -> None:
        on_event(Note(text))

    checked = check_run(plan_run(request, note), on_event)
    plan = checked.plan
    named = name_weights(plan.conditions, request.weights, request.configs)
    check_controls(request.base, named, note=note)
    base = open_base(
        request.base, device=request.device, dtype=request.dtype, weights=False, note=note
    )
    settings = choose_settings(plan.conditions[0], base, request.settings)
    check_fit(base, request.loras, request.embeddings)
    if request.size:
        check_size(base, height=request.size[1], width=request.size[0])
    places = [locate_control(one.condition, base, weights=one.weights) for one in named]
    for chosen in dict.fromkeys(settings_of(settings, task) for task in plan.tasks):
        check_settings(chosen, base)
        check_acts(plan.controls, places, chosen, base.family, adapted=bool(request.loras))
    if request.quantize:
        check_library(request.quantize)
    ready = [request.ready_hint or control.ready for control in plan.controls]
    return GeneratePlan(
        base=base.name,
        device=str(base.device),
        dtype=str(base.dtype).removeprefix("torch."),
        controls=[
            PlannedControl(
                condition=one.condition.name,
                hints="given" if given else "detected",
                weights=place,
            )
            for one, place, given in zip(named, places, ready, strict=True)
        ],
        inputs=len({*_inputs(checked)}),
        prompts=[*dict.fromkeys(task.prompt for task in plan.tasks)],
        settings=settings,
        images=checked.images,
        hints=[*dict.fromkeys(_hints(checked, ready))],
        sizes=dict(_sizes(checked, base, settings, ready[0]).most_common()),
        memory=plan_memory(request, base, places),
        failed=checked.failures.failed,
    )


def _inputs(checked: CheckedRun) -> Iterable[Path]:
    """The files that the controls read."""
    for task in checked.plan.tasks:
        sources = (source_of(control, task.image) for control in checked.plan.controls)
        yield from filter(None, sources)


def _hints(checked: CheckedRun, ready: Sequence[bool]) -> Iterable[Path]:
    channels = [condition.stored_channels for condition in checked.plan.conditions]
    for image in checked.images:
        paths = hint_paths(image.task, Path(checked.plan.request.out), channels)
        yield from (path for path, given in zip(paths, ready, strict=True) if not given)


def _sizes(
    checked: CheckedRun, base: Base, settings: GenerateSettings, ready: bool
) -> Counter[str]:
    """As `make_hints` chooses them. ready: the first control's sources are hints."""
    request, plan, multiple = checked.plan.request, checked.plan, base.size_multiple
    sizes: Counter[str] = Counter()
    for image in checked.images:
        resolution = settings_of(settings, image.task).resolution
        source = source_of(plan.controls[0], image.task.image)
        if request.size:
            height, width = request.size[1], request.size[0]
        elif checked.to_edit:
            height, width = checked.to_edit.size(resolution, multiple=multiple)
        else:
            assert source
            read = checked.pictures
            picture = read.hint(plan.conditions[0], source) if ready else read.photograph(source)
            height, width = working_size(
                *picture.shape[:2], resolution=resolution, multiple=multiple
            )
        sizes[f"{width} x {height}"] += 1
    return sizes


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{shown(paths[0])}{more}"
