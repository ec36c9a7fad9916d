"""What a training run will do, and the memory and disk it needs, before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from cnctl.commands.train.request import TrainRequest
from cnctl.data import Dataset, Selection
from cnctl.data.problems import summarize
from cnctl.data.scenes import SceneDataset
from cnctl.data.urls import without_credentials
from cnctl.models.base import Base
from cnctl.models.network import Network, replaces_base
from cnctl.plugin import Condition
from cnctl.settings import TrainSettings
from cnctl.training.cost import expected_disk, expected_memory, trained_count, unfrozen_count


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a run will do; memory and disk are estimates."""

    condition: str
    base: str
    family: str
    device: str
    dtype: str
    data: str
    examples: int
    held_out: int
    held_out_of: str
    """How many the split has that they are drawn from, and where it is; "" for none."""
    hints: str
    """How many are given, and how many detected; of all examples, held out or not."""
    prompts: str
    start: str
    """What the network starts from."""
    unread: Sequence[str]
    """What is not read of the data, and what else is odd in them."""
    parameters: int
    unfrozen: int
    """Number of the base's parameters that are unfrozen at `unfreeze_after`."""
    memory: int
    """Bytes on the device, roughly."""
    disk: int
    """Bytes in the run's folder, roughly."""
    fidelity: str
    """What is measured, or why nothing is."""
    sizes: dict[str, int]
    """How many examples are trained on at each size, "width x height"."""
    settings: TrainSettings

    @property
    def epochs(self) -> float:
        """How often each example is seen."""
        return self.settings.steps * self.settings.effective_batch / self.examples

    def lines(self) -> list[str]:
        """Returns lines for people."""
        chosen = self.settings
        return [
            f"condition   {self.condition}",
            f"base        {self.base}{f' ({self.family})' * (self.family != self.base)}, "
            f"{self.dtype} on {self.device}",
            f"data        {self.data}{_part(chosen)}: {self.examples} examples to train on, "
            f"{self.held_out} held out{f' of {self.held_out_of}' * bool(self.held_out_of)}",
            f"hints       {self.hints}",
            f"prompts     {self.prompts}",
            f"fidelity    {self.fidelity}",
            *(f"note        {line}" for line in self.unread),
            f"start       {self.start}",
            f"trained     {self.parameters:,} parameters, {_attached(chosen)}",
            *_unfrozen(chosen, self.unfrozen),
            f"steps       {chosen.steps} of {_batch(chosen)}, {self.epochs:.2f} epochs, "
            f"seed {chosen.seed}",
            f"optimizer   {chosen.optimizer}, {_rate(chosen)}",
            *(_buckets(self.sizes) if chosen.buckets else []),
            f"resolution  {chosen.resolution} px{_changes(chosen)}, "
            f"prompt dropout {chosen.prompt_dropout:g}",
            f"memory      about {self.memory / 1e6:,.0f} MB{_savings(chosen)}",
            f"disk        about {self.disk / 1e6:,.0f} MB",
        ]

    def as_dict(self) -> dict[str, Any]:
        """Returns the settings for JSON, and what they come to for these data."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "settings"}
        return asdict(self.settings) | named | {"epochs": round(self.epochs, 3)}


def make_plan(
    asked: TrainRequest,
    condition: Condition,
    base: Base,
    network: Network,
    settings: TrainSettings,
    dataset: Dataset,
    *,
    examples: Selection,
    held_out: str,
    fidelity: str,
    cut: str,
) -> TrainPlan:
    """The plan of this run. examples: those of the data set that are trained on.

    held_out: see `TrainPlan.held_out_of`. cut: of prompts, see `describe_cut`.
    """
    return TrainPlan(
        condition=condition.name,
        base=base.name,
        family=base.family.name,
        device=str(base.device),
        dtype=str(base.dtype).removeprefix("torch."),
        data=without_credentials(str(asked.data)),
        examples=len(examples),
        held_out=len(dataset) - len(examples),
        held_out_of=held_out,
        hints=_count(dataset.ready_hints, len(dataset), others=_made(dataset, condition)),
        prompts=_prompts(dataset, cut),
        unread=summarize(dataset.problems),
        fidelity=fidelity,
        start=_start(asked, condition, settings),
        parameters=trained_count(network, settings),
        memory=expected_memory(base, network, settings=settings),
        disk=expected_disk(base, network, settings=settings),
        unfrozen=unfrozen_count(base, settings),
        sizes={f"{width} x {height}": n for (height, width), n in examples.sizes.most_common()},
        settings=settings,
    )


def _start(asked: TrainRequest, condition: Condition, settings: TrainSettings) -> str:
    if asked.init_from:
        return asked.init_from
    if settings.lora or replaces_base(settings.method):
        return "the base"
    paper = condition.train.start_from
    instead = f"; the paper's is the ControlNet for {paper} (--init-from WEIGHTS)" if paper else ""
    return f"a copy of the base{instead}"


def _made(dataset: Dataset, condition: Condition) -> str:
    """How the hints are made that are not given."""
    has_maps = isinstance(dataset, SceneDataset) and condition.from_maps is not None
    return "made from the scenes' own maps" if has_maps else "detected during training"


def _count(given: int, examples: int, *, others: str) -> str:
    return f"{given} given, {examples - given} {others}"


def _prompts(dataset: Dataset, cut: str) -> str:
    counted = _count(dataset.ready_prompts, len(dataset), others="empty")
    return ", ".join(filter(None, [counted, cut]))


def _part(settings: TrainSettings) -> str:
    largest = f", the {settings.largest} largest" if settings.largest else ""
    sample = f", a sample of {settings.sample}" if settings.sample else ""
    return largest + sample


def _attached(settings: TrainSettings) -> str:
    if replaces_base(settings.method):
        what = f"rank {settings.lora} of the base" if settings.lora else "the whole base"
        return f"{what}, which reads the hint beside the latents"
    return f"connected: {settings.connect}" + (f", rank {settings.lora}" if settings.lora else "")


def _unfrozen(settings: TrainSettings, count: int) -> list[str]:
    if not count:
        return []
    what = "its decoder" if settings.unfreeze == "decoder" else "all of it"
    return [f"unfrozen    after step {settings.unfreeze_after}, {what}: {count:,} parameters"]


def _buckets(counts: Mapping[str, int]) -> list[str]:
    counted = ", ".join(f"{count} of {size}" for size, count in counts.items())
    return [f"buckets     {counted}"]


def _changes(settings: TrainSettings) -> str:
    return ", cut at random" * settings.random_crop + ", half mirrored" * settings.flip


def _batch(settings: TrainSettings) -> str:
    accumulated, processes = settings.gradient_accumulation, settings.num_processes
    parts = [str(settings.batch_size)]
    parts += [f"{accumulated} accumulated"] * (accumulated > 1)
    parts += [f"{processes} processes"] * (processes > 1)
    return f"batch {settings.effective_batch}" + f" ({' x '.join(parts)})" * (len(parts) > 1)


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
