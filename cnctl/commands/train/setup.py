"""Load everything that a training run needs, for a request and perhaps a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cnctl.commands.shared.events import ignore, notes
from cnctl.commands.shared.weights import (
    NamedControl,
    check_controls,
    locate_control,
    open_base,
    open_control,
)
from cnctl.commands.train.check import find_condition, named_data
from cnctl.commands.train.events import OnEvent
from cnctl.commands.train.fidelity import describe_fidelity, find_missing
from cnctl.commands.train.long_prompts import describe_cut
from cnctl.commands.train.plan import TrainPlan, make_plan
from cnctl.commands.train.previews import ValidationSet
from cnctl.commands.train.record import RunRecord, describe_run, read_run
from cnctl.commands.train.request import TrainRequest
from cnctl.commands.train.resuming import (
    check_data_unchanged,
    complete_request,
    note_changed_bits,
)
from cnctl.commands.train.run_settings import (
    check_locked,
    check_settings,
    check_start,
    resolve_settings,
)
from cnctl.commands.train.splits import open_training_data, split_data
from cnctl.data import Dataset, Selection, TrainingPairs
from cnctl.data.buckets import bucket_sizes
from cnctl.data.urls import is_url
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.detector import Detector
from cnctl.models.base import Base
from cnctl.models.network import Network
from cnctl.models.quantize import quantize_base
from cnctl.plugin import Condition
from cnctl.settings import GenerateSettings, TrainSettings, resolve
from cnctl.tensorfiles.base_update_file import has_base_update
from cnctl.training.checkpoints import Checkpoint
from cnctl.training.encoding_cache import EncodingCache


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All that a run needs, in memory."""

    condition: Condition
    base: Base
    network: Network
    settings: TrainSettings
    examples: Selection
    validation: ValidationSet
    cache: EncodingCache | None
    plan: TrainPlan
    record: RunRecord


def prepare(
    request: TrainRequest,
    checkpoint: Checkpoint | None,
    *,
    dry: bool = False,
    on_event: OnEvent = ignore,
) -> Setup:
    """Load and check everything. Raises CnctlError where the checkpoint's run was another one.

    dry: only for a plan; the base has no weights, and there is no validation set.
    """
    note = notes(on_event)
    started = read_run(checkpoint) if checkpoint else None
    asked, settings = complete_request(request, started)
    condition = find_condition(asked.condition)
    data = named_data(asked.data)
    whole = open_training_data(data, condition, columns=asked.columns, note=note)
    _check_start_weights(asked, condition, checkpoint, note=note)
    outline = open_base(
        asked.base, device=asked.device, dtype=asked.dtype, weights=False, note=note
    )
    asked_settings = settings or resolve_settings(condition, outline, asked.settings)
    chosen = check_settings(asked_settings, outline)
    if asked.init_from and checkpoint is None:
        check_start(chosen)
    if asked.quantize:
        check_locked(asked.quantize, chosen)
    splits = split_data(data, whole, condition, chosen, columns=asked.columns)
    dataset, train, held = splits.dataset, splits.train, splits.held
    record = describe_run(asked, outline, chosen, dataset)
    if started is not None:
        check_data_unchanged(record, started)
        note_changed_bits(record, started, note=note)
    if checkpoint is not None and checkpoint.step >= chosen.steps:
        reached = f"step {checkpoint.step} of {chosen.steps} is reached"
        note(f"{reached}: nothing is left to train; a larger --steps continues the run")
    cut = describe_cut(dataset, outline, is_remote=is_url(str(asked.data)))
    if cut and not dry:  # which the plan says again, once weights are read
        note(f"prompts: {cut}")
    pairs = _pairs(dataset, condition, chosen, outline)
    if not held and chosen.held_out:
        note("too few examples to hold any out: fidelity is measured on training examples")
    examples = Selection(pairs, tuple(train))
    tried = held or train[: chosen.held_out] if chosen.preview_every else []
    missing = find_missing(pairs.detect_again, chosen.resolution) if tried else ""
    fidelity = describe_fidelity(condition, chosen, examples=len(tried), missing=missing)
    base = outline if dry else _open_base(asked)
    measured = [] if dry else tried
    validation = _validation_set(pairs, measured, condition, base, chosen, missing=missing)
    if measured and not validation.hints:
        note("every hint held out is blank: no previews are made")
    network = _open_network(asked, condition, base, chosen)
    if network.replaces_base:
        base = replace(base, denoiser=network)  # the locked one is not used then
    plan = make_plan(
        asked,
        condition,
        replace(base, quantized=asked.quantize or ""),
        network,
        chosen,
        dataset,
        examples=examples,
        held_out=splits.source,
        fidelity=fidelity,
        cut=cut,
    )
    if asked.quantize and not dry:  # not before the network was copied from it
        base = quantize_base(base, asked.quantize, low_memory=False)
    return Setup(
        condition=condition,
        base=base,
        network=network,
        settings=chosen,
        examples=examples,
        validation=validation,
        cache=EncodingCache(Path(asked.cache), base) if asked.cache else None,
        plan=plan,
        record=record,
    )


def _check_start_weights(
    asked: TrainRequest,
    condition: Condition,
    checkpoint: Checkpoint | None,
    *,
    note: Callable[[str], None],
) -> None:
    """Raise CnctlError where the weights of --init-from do not fit the base; none is read."""
    if asked.config and not asked.init_from:
        raise CnctlError("--config is for the weights of --init-from", hint="leave it out")
    if asked.init_from:
        with _needed_to_resume(asked.init_from, checkpoint):
            check_controls(asked.base, [_start(asked, condition)], note=note)


def _open_base(asked: TrainRequest) -> Base:
    """The locked base; in the host's memory where it is to be quantized."""
    return open_base(
        asked.base,
        device=asked.device,
        dtype=asked.dtype,
        low_memory=asked.quantize is not None,
    )


def _pairs(
    dataset: Dataset, condition: Condition, settings: TrainSettings, base: Base
) -> TrainingPairs:
    if settings.flip and condition.flip is None and dataset.ready_hints:
        raise CnctlError(
            f"hints of {condition.name} cannot be mirrored",
            hint="leave out --flip, or the hints, which cnctl then detects in mirrored images",
        )
    side = settings.resolution
    # A worker is a fork, which must not touch the parent's CUDA.
    detector = Detector(condition, device="cpu" if settings.workers else str(base.device))
    return TrainingPairs(
        dataset=dataset,
        sizes=bucket_sizes(side, factor=base.size_multiple) if settings.buckets else [(side, side)],
        hint_channels=condition.stored_channels,
        detect=detector,
        from_maps=detector.from_maps if condition.from_maps else None,
        augment=detector.augment if condition.augment else None,
        nearest=bool(condition.palette),
        flip=settings.flip,
        mirror=condition.flip,
        random_crop=settings.random_crop,
    )


def _open_network(
    asked: TrainRequest, condition: Condition, base: Base, settings: TrainSettings
) -> Network:
    """The network to train; a checkpoint, where there is one, replaces its weights later.

    The form of a ControlNet to start from, and how it reads hints, are not in a checkpoint.
    """
    if asked.init_from:
        return _open_earlier(_start(asked, condition), base, settings)
    return base.family.build_network(
        base,
        method=settings.method,
        hint_channels=condition.hint_channels,
        hint_encoder=settings.hint_encoder,
        hint_start=settings.hint_start,
        layers=settings.layers,
        rank=settings.lora,
        seed=settings.seed,
        condition=condition.name,
    )


@contextmanager
def _needed_to_resume(start: str, checkpoint: Checkpoint | None) -> Iterator[None]:
    """Say why a run that is resumed needs the weights that it started from."""
    try:
        yield
    except MissingError as error:
        if checkpoint is None:
            raise
        raise MissingError(
            f"this run started from {start}, which gives the form of its ControlNet: {error}",
            hint="restore it, or start a new run from this one's weights with --init-from",
        ) from error


def _start(asked: TrainRequest, condition: Condition) -> NamedControl:
    """The ControlNet of `--init-from`."""
    return NamedControl(condition, asked.init_from, Path(asked.config) if asked.config else None)


def _open_earlier(start: NamedControl, base: Base, settings: TrainSettings) -> Network:
    """The network that `--init-from` names."""
    condition, weights, config = start
    if settings.lora:
        raise CnctlError(
            "a Control-LoRA starts from the base", hint="leave out --init-from, or --lora"
        )
    if has_base_update(locate_control(condition, base, weights=weights)):
        raise CnctlError(
            f"{weights} was trained together with its base",
            hint="--init-from takes a ControlNet that was trained with a locked base",
        )
    network = open_control(condition, base, weights=weights, config=config, dtype=torch.float32)
    if network.untrainable:
        raise CnctlError(
            f"{weights} is {network.untrainable}, which cannot be trained further",
            hint="--init-from takes a ControlNet for one kind of hint, as cnctl train makes them",
        )
    if network.method != settings.method:
        raise CnctlError(
            f"{weights} was trained with another method",
            hint=f"train it with --method {network.method}",
        )
    return network.requires_grad_(True)


def _validation_set(
    pairs: TrainingPairs,
    held: Sequence[int],
    condition: Condition,
    base: Base,
    settings: TrainSettings,
    *,
    missing: str,
) -> ValidationSet:
    """Examples to measure with, square; one whose hint is dead cannot be obeyed."""
    pairs = replace(pairs, sizes=[(settings.resolution, settings.resolution)])
    examples = [pairs.load(index) for index in held]
    living = [example for example in examples if np.ptp(example.hint) > 0]
    of_base = {"resolution": base.resolution} | dict(base.defaults)
    guided = resolve(GenerateSettings, of_base, asdict(condition.generate), flags={})
    return ValidationSet(
        hints=[example.hint for example in living],
        prompts=[example.prompt for example in living],
        detect=pairs.detect_again,
        metric=condition.metric,
        steps=settings.preview_steps,
        guidance_scale=guided.guidance_scale,
        scheduler=guided.scheduler,
        batch_size=settings.batch_size,
        missing=missing,
    )
