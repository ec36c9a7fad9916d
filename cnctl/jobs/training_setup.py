"""From what the user said, and what a checkpoint remembers, to all that a training run needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel

import cnctl
from cnctl.core.base import Base
from cnctl.core.batches import hold_out
from cnctl.core.cache import EncodingCache
from cnctl.core.checkpoints import Checkpoint
from cnctl.core.controlnet import (
    CONNECTIONS,
    HINT_ENCODERS,
    HINT_STARTS,
    build_controlnet,
)
from cnctl.core.cost import expected_disk, expected_memory, trained_count, unlocked_count
from cnctl.core.lora import add_adapters
from cnctl.core.training import LR_SCHEDULES, OPTIMIZERS
from cnctl.core.unlocking import UNLOCKS
from cnctl.dataset import Dataset, Selection, TrainingPairs, open_dataset
from cnctl.dataset.examples import FolderDataset
from cnctl.errors import CnctlError
from cnctl.formats.listing import has_base_delta
from cnctl.hints import hint_from_maps, load_detector, read_ready
from cnctl.jobs.convergence import ON_CONVERGENCE
from cnctl.jobs.previews import Trial
from cnctl.jobs.trackers import check_tracker
from cnctl.jobs.weights import locate_control, open_base, open_control
from cnctl.plugin import Condition
from cnctl.registry import get_condition
from cnctl.settings import GenerateSettings, TrainSettings, resolve

FREE = {
    "checkpoint_every",
    "preview_every",
    "preview_steps",
    "on_convergence",
    "tracker",
    "gradient_checkpointing",
    "channels_last",
    "compile",
    "workers",
}
"""Settings that may change when a run is resumed: they do not change what a step does."""
SPLIT = {"batch_size", "gradient_accumulation"}
"""May change where their product does not: how a batch is split does not matter."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What a user asks for. None: not said.

    data: a folder with metadata.jsonl or prompt.json, or "scenes:N". init_from: a ControlNet to
    start from, else a copy of the base. settings: TrainSettings by name, None for the default.
    cache: a folder, made if need be, where encoded images and prompts are kept.
    """

    condition: str | Condition | None = None
    data: str | None = None
    base: str | None = None
    init_from: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    cache: str | None = None
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a run will do, told before it does it."""

    condition: str
    base: str
    family: str
    device: str
    dtype: str
    data: str
    examples: int
    held_out: int
    hints: str
    parameters: int
    unlocked: int
    """Parameters of the base that learn along, from `unlock_after` on."""
    memory: int
    """Bytes on the device, roughly."""
    disk: int
    """Bytes in the run's folder, roughly."""
    settings: TrainSettings

    @property
    def epochs(self) -> float:
        """How often each example is seen."""
        return self.settings.steps * self.settings.effective_batch / self.examples

    def lines(self) -> list[str]:
        """For people."""
        chosen = self.settings
        return [
            f"condition   {self.condition}, hints {self.hints}",
            f"base        {self.base} ({self.family}), {self.dtype} on {self.device}",
            f"data        {self.data}: {self.examples} examples to train on, "
            f"{self.held_out} held out",
            f"trained     {self.parameters:,} parameters, connected: {chosen.connect}"
            + (f", rank {chosen.lora}" if chosen.lora else ""),
            *_unlocked(chosen, self.unlocked),
            f"steps       {chosen.steps} of {_batch(chosen)}, {self.epochs:.2f} epochs, "
            f"seed {chosen.seed}",
            f"optimizer   {chosen.optimizer}, {_rate(chosen)}",
            f"resolution  {chosen.resolution} px, prompt dropout {chosen.prompt_dropout:g}",
            f"memory      about {self.memory / 2**20:,.0f} MiB{_savings(chosen)}",
            f"disk        about {self.disk / 2**20:,.0f} MiB",
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "settings"}
        return named | {"epochs": round(self.epochs, 3)} | asdict(self.settings)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All that a run needs, in memory."""

    condition: Condition
    base: Base
    controlnet: ControlNetModel
    settings: TrainSettings
    examples: Selection
    trial: Trial
    cache: EncodingCache | None
    plan: TrainPlan
    record: Mapping[str, Any]
    """What a checkpoint remembers, to be resumed by and compared with."""


@dataclass
class HintMaker:
    """The condition's detector as data workers need it: loaded where it is used first."""

    condition: Condition
    device: str

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray | None:
        """The hint, with training options drawn from `rng`, or with the defaults for None."""
        if not hasattr(self, "_detect"):
            self._detect = load_detector(self.condition, device=self.device)
        return self._detect(image, **self._options(rng))

    def from_maps(
        self, maps: Mapping[str, Any], rng: np.random.Generator | None
    ) -> np.ndarray | None:
        """The same from what a renderer knows, for a condition that reads it."""
        return hint_from_maps(self.condition, maps, **self._options(rng))

    def _options(self, rng: np.random.Generator | None) -> Mapping[str, Any]:
        draw = self.condition.training_options
        return {} if rng is None or draw is None else draw(rng)

    def __reduce__(self) -> tuple[Any, ...]:
        """By name, for workers that are no forks; neither condition nor detector can be pickled."""
        return _hint_maker, (self.condition.name, self.device)


def _hint_maker(name: str, device: str) -> HintMaker:
    return HintMaker(get_condition(name), device)


@dataclass(frozen=True)
class HintReader:
    """Reads a file as a hint of the condition, here or in a data worker."""

    condition: Condition

    def __call__(self, path: Path) -> np.ndarray:
        """As `read_ready`."""
        return read_ready(self.condition, path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _hint_reader, (self.condition.name,)


def _hint_reader(name: str) -> HintReader:
    return HintReader(get_condition(name))


def prepare(
    request: TrainRequest, checkpoint: Checkpoint | None, *, note: Callable[[str], None]
) -> Setup:
    """Load and check everything. Raises CnctlError where the checkpoint's run was another one."""
    asked, settings = _merge(request, checkpoint)
    condition = find_condition(asked.condition)
    if asked.data is None:
        raise CnctlError("no data is named", hint="give --data FOLDER or --data scenes:2000")
    base = open_base(asked.base, device=asked.device, dtype=asked.dtype, note=note)
    chosen = _check(settings or _resolve(condition, base, asked.settings), base)
    dataset = open_training_data(asked.data, condition, resolution=chosen.resolution)
    record = _record(asked, base, chosen, dataset)
    if checkpoint is not None:
        _check_data(record, checkpoint.state["run"], note=note)
    train, held = hold_out(len(dataset), wanted=chosen.held_out, seed=chosen.seed)
    pairs = _pairs(dataset, condition, chosen, device=str(base.device))
    if not held and chosen.held_out:
        note("too few examples to hold any out: fidelity is measured on ones that are trained on")
    controlnet = _open_controlnet(asked, condition, base, chosen, fresh=checkpoint is None)
    return Setup(
        condition=condition,
        base=base,
        controlnet=controlnet,
        settings=chosen,
        examples=Selection(pairs, tuple(train)),
        trial=_trial(pairs, held or train[: chosen.held_out], condition, base, chosen),
        cache=EncodingCache(Path(asked.cache), base) if asked.cache else None,
        plan=_plan(asked, condition, base, controlnet, chosen, dataset, held=len(held)),
        record=record,
    )


def find_condition(condition: str | Condition | None) -> Condition:
    """The condition of this name, or the condition itself."""
    if condition is None:
        raise CnctlError("no condition is named", hint="give --cond; cnctl conditions lists them")
    return condition if isinstance(condition, Condition) else get_condition(condition)


def open_training_data(data: str, condition: Condition, *, resolution: int) -> Dataset:
    """The data set, with hints as this condition reads them; CnctlError where files are missing."""
    dataset = open_dataset(data, read_hint=HintReader(condition), size=resolution)
    if isinstance(dataset, FolderDataset) and (missing := dataset.missing()):
        raise CnctlError(
            f"{data}: {len(missing)} of its files are missing, the first is {missing[0]}",
            hint="--check lists them all",
        )
    return dataset


def _merge(
    request: TrainRequest, checkpoint: Checkpoint | None
) -> tuple[TrainRequest, TrainSettings | None]:
    """The request completed by the checkpoint's run, and that run's settings where there is one.

    Raises CnctlError that names what the request says otherwise.
    """
    cache = request.cache and str(Path(request.cache).resolve())
    request = replace(request, data=_full(request.data), base=_full(request.base), cache=cache)
    if checkpoint is None:
        return request, None
    run = checkpoint.state["run"]
    given = {name: value for name, value in request.settings.items() if value is not None}
    asked = {"condition": _name(request.condition), "base": request.base} | given
    before = TrainSettings(**run["settings"])
    after = replace(before, **given)
    begun = {"condition": run["condition"], "base": run["base"]} | asdict(before)
    changed = [
        f"{name} was {begun[name]!r}, not {value!r}"
        for name, value in asked.items()
        if value not in (None, begun[name])
        and not _may_change(name, begun[name], value, before)
        and not (name in SPLIT and after.effective_batch == before.effective_batch)
    ]
    if changed:
        raise CnctlError(
            f"this run was begun otherwise: {'; '.join(changed)}",
            hint="leave them out to go on, or choose another -o",
        )
    names = ("condition", "data", "base", "cache")
    whole = {name: getattr(request, name) or run.get(name) for name in names}
    return replace(request, **whole), after


def _name(condition: str | Condition | None) -> str | None:
    return condition.name if isinstance(condition, Condition) else condition


def _may_change(name: str, begun: object, asked: object, before: TrainSettings) -> bool:
    if name == "steps":
        return before.lr_schedule == "constant"  # else it is part of each step's learning rate
    if name in ("unlock", "unlock_after"):
        return not before.unlock_after
    return name in FREE or (name, begun, asked) == ("connect", "middle", "all")


def _full(source: str | None) -> str | None:
    """A path as it reads from any folder; other names as they are."""
    return str(Path(source).resolve()) if source and Path(source).exists() else source


def _unlocked(settings: TrainSettings, count: int) -> list[str]:
    if not count:
        return []
    what = "its decoder" if settings.unlock == "decoder" else "its whole U-Net"
    return [f"unlocked    after step {settings.unlock_after}, {what}: {count:,} parameters"]


def _batch(settings: TrainSettings) -> str:
    if settings.gradient_accumulation == 1:
        return f"batch {settings.batch_size}"
    split = f"{settings.gradient_accumulation} x {settings.batch_size}"
    return f"batch {settings.effective_batch} ({split})"


def _rate(settings: TrainSettings) -> str:
    shape = "" if settings.lr_schedule == "constant" else f", {settings.lr_schedule}"
    warm = f", warm-up {settings.lr_warmup}" if settings.lr_warmup else ""
    clip = f", gradients clipped to {settings.max_grad_norm:g}" if settings.max_grad_norm else ""
    average = f", averaged by {settings.ema:g}" if settings.ema else ""
    return f"learning rate {settings.learning_rate:g}{shape}{warm}{clip}{average}"


def _savings(settings: TrainSettings) -> str:
    used = {
        "gradient checkpointing": settings.gradient_checkpointing,
        "channels last": settings.channels_last,
        "compiled": settings.compile,
    }
    return "".join(f", {name}" for name, on in used.items() if on)


def _resolve(condition: Condition, base: Base, flags: Mapping[str, Any]) -> TrainSettings:
    of_base = {"resolution": base.resolution} | dict(base.defaults.get("train", {}))
    return resolve(TrainSettings, of_base, asdict(condition.train), flags=flags)


def _check(settings: TrainSettings, base: Base) -> TrainSettings:
    """The settings, or CnctlError that names the one out of range."""
    check_tracker(settings.tracker)
    factor = base.latent_factor
    wrong = {
        "steps": settings.steps < 1 and "at least 1",
        "batch_size": settings.batch_size < 1 and "at least 1",
        "learning_rate": not 0 < settings.learning_rate < 1 and "between 0 and 1",
        "gradient_accumulation": settings.gradient_accumulation < 1 and "at least 1",
        "optimizer": settings.optimizer not in OPTIMIZERS and " or ".join(OPTIMIZERS),
        "lr_warmup": not 0 <= settings.lr_warmup <= settings.steps
        and f"from 0 to the number of steps, {settings.steps}",
        "lr_schedule": settings.lr_schedule not in LR_SCHEDULES and "constant or cosine",
        "max_grad_norm": settings.max_grad_norm < 0 and "at least 0",
        "ema": not 0 <= settings.ema < 1 and "from 0 to less than 1",
        "prompt_dropout": not 0 <= settings.prompt_dropout <= 1 and "from 0 to 1",
        "snr_gamma": settings.snr_gamma < 0 and "at least 0",
        "resolution": (settings.resolution < factor or settings.resolution % factor)
        and f"a multiple of {factor}",
        "seed": not 0 <= settings.seed < 2**63 and "from 0 to 2^63 - 1",
        "connect": settings.connect not in CONNECTIONS and "all or middle",
        "hint_encoder": settings.hint_encoder not in HINT_ENCODERS and "released or paper",
        "hint_start": settings.hint_start not in HINT_STARTS and "gaussian or torch",
        "lora": settings.lora < 0 and "at least 1, or 0 for none",
        "unlock_after": settings.unlock_after < 0 and "at least 1, or 0 for never",
        "unlock": settings.unlock not in UNLOCKS and " or ".join(UNLOCKS),
        "checkpoint_every": settings.checkpoint_every < 1 and "at least 1",
        "preview_every": settings.preview_every < 0 and "at least 1, or 0 for no previews",
        "preview_steps": settings.preview_steps < 1 and "at least 1",
        "on_convergence": settings.on_convergence not in ON_CONVERGENCE
        and " or ".join(ON_CONVERGENCE),
        "held_out": settings.held_out < 0 and "at least 0",
        "workers": settings.workers < 0 and "at least 0",
    }
    for name, must in wrong.items():
        if must:
            raise CnctlError(f"{name} is {getattr(settings, name)}; it must be {must}")
    if settings.lora and (settings.unlock_after or settings.hint_encoder != "released"):
        raise CnctlError(
            "a Control-LoRA stands on a locked base and has the released hint encoder",
            hint="leave out --lora, or --unlock-after and --hint-encoder",
        )
    return settings


def _record(
    asked: TrainRequest, base: Base, settings: TrainSettings, dataset: Dataset
) -> dict[str, Any]:
    return {
        "version": cnctl.__version__,
        "condition": _name(asked.condition),
        "data": asked.data,
        "examples": len(dataset),
        "fingerprint": dataset.fingerprint,
        "base": asked.base or ("tiny" if base.name == "tiny" else str(base.path)),
        "init_from": asked.init_from,
        "cache": asked.cache,
        "device": base.device.type,
        "dtype": str(base.dtype).removeprefix("torch."),
        "settings": asdict(settings),
    }


def _check_data(
    now: Mapping[str, Any], begun: Mapping[str, Any], *, note: Callable[[str], None]
) -> None:
    """Raise CnctlError where the data are not those that the run was begun with."""
    if now["examples"] < begun["examples"]:
        raise CnctlError(
            f"the data have shrunk: {now['data']} holds {now['examples']} examples, "
            f"this run was begun with {begun['examples']}",
            hint="bring them back, or begin a new run from its weights with --init-from",
        )
    if now["fingerprint"] != begun["fingerprint"]:
        raise CnctlError(
            f"data were {begun['data']!r}; what {now['data']!r} holds is not the same",
            hint="bring them back, or begin a new run from its weights with --init-from",
        )
    if (now["device"], now["dtype"]) != (begun["device"], begun["dtype"]):
        note(
            f"begun on {begun['device']} in {begun['dtype']}, resumed on {now['device']} in "
            f"{now['dtype']}: as good as uninterrupted, but not bit for bit"
        )


def _pairs(
    dataset: Dataset, condition: Condition, settings: TrainSettings, *, device: str
) -> TrainingPairs:
    # A worker is a fork, which must not touch the parent's CUDA.
    maker = HintMaker(condition, "cpu" if settings.workers else device)
    return TrainingPairs(
        dataset=dataset,
        size=(settings.resolution, settings.resolution),
        hint_channels=condition.stored_channels,
        detect=maker,
        from_maps=maker.from_maps if condition.from_maps else None,
        augment=condition.augment,
        nearest=bool(condition.palette),
    )


def _open_controlnet(
    asked: TrainRequest, condition: Condition, base: Base, settings: TrainSettings, *, fresh: bool
) -> ControlNetModel:
    """What the run begins with; what it begins with is of no matter where a checkpoint follows."""
    if asked.init_from and fresh:
        if settings.lora:
            raise CnctlError(
                "a Control-LoRA starts from the base", hint="leave out --init-from, or --lora"
            )
        if has_base_delta(locate_control(condition, base, weights=asked.init_from)):
            raise CnctlError(
                f"{asked.init_from} was trained together with its base",
                hint="--init-from takes what was trained beside a locked one",
            )
        return open_control(condition, base, weights=asked.init_from, dtype=torch.float32)
    controlnet = build_controlnet(
        base.unet,
        hint_channels=condition.hint_channels,
        hint_encoder=settings.hint_encoder,
        hint_start=settings.hint_start,
        seed=settings.seed,
    )
    if settings.lora:
        add_adapters(controlnet, rank=settings.lora, seed=settings.seed)
    return controlnet


def _trial(
    pairs: TrainingPairs,
    held: Sequence[int],
    condition: Condition,
    base: Base,
    settings: TrainSettings,
) -> Trial:
    """Examples to measure with, as they are; one whose hint is dead cannot be obeyed."""
    examples = [pairs.load(index) for index in (held if settings.preview_every else [])]
    living = [example for example in examples if np.ptp(example.hint) > 0]
    of_base = {"resolution": base.resolution} | dict(base.defaults)
    guided = resolve(GenerateSettings, of_base, asdict(condition.generate), flags={})
    return Trial(
        hints=[example.hint for example in living],
        prompts=[example.prompt for example in living],
        detect=pairs.detect_again,
        metric=condition.metric,
        steps=settings.preview_steps,
        guidance_scale=guided.guidance_scale,
        scheduler=guided.scheduler,
        batch_size=settings.batch_size,
    )


def _plan(
    asked: TrainRequest,
    condition: Condition,
    base: Base,
    controlnet: ControlNetModel,
    settings: TrainSettings,
    dataset: Dataset,
    *,
    held: int,
) -> TrainPlan:
    from_files = isinstance(dataset, FolderDataset) and all(row.hint for row in dataset.rows)
    return TrainPlan(
        condition=condition.name,
        base=base.name,
        family=base.family.name,
        device=str(base.device),
        dtype=str(base.dtype).removeprefix("torch."),
        data=str(asked.data),
        examples=len(dataset) - held,
        held_out=held,
        hints="from files" if from_files else "detected on the way",
        parameters=trained_count(controlnet, settings),
        memory=expected_memory(base, controlnet, settings=settings),
        disk=expected_disk(base, controlnet, settings=settings),
        unlocked=unlocked_count(base, settings),
        settings=settings,
    )
