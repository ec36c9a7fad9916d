"""`cnctl train`: pairs of image and hint to a ControlNet, with checkpoints, previews and a log."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnctl.commands.shared.bases import read_base_defaults
from cnctl.commands.shared.events import Stage, ignore, notes
from cnctl.commands.train.check import check_names, find_condition, named_data
from cnctl.commands.train.request import TrainRequest
from cnctl.data import DataReport, check_dataset, open_dataset, take_part
from cnctl.data.annotated import note_other_condition
from cnctl.data.held_out import find_held_out, join
from cnctl.errors import MissingError, shown
from cnctl.hints.detector import Detector, HintReader
from cnctl.models.short_prompts import is_short
from cnctl.plugin import Condition

if TYPE_CHECKING:
    from cnctl.commands.train.events import OnCheck, OnEvent
    from cnctl.commands.train.plan import TrainPlan
    from cnctl.commands.train.session import TrainResult
    from cnctl.models.base import Base


def train(
    request: TrainRequest,
    out: str | Path,
    *,
    resume: bool = False,
    on_event: OnEvent = ignore,
) -> TrainResult:
    """Train a ControlNet for a condition; afterwards `out` serves as weights for generate.

    out: a new folder, or with `resume` that of a run to resume; condition, data and base are then
    those that it was started with. SIGINT and SIGTERM save after the current step, and are raised
    again. Where the environment says that several processes train together (torchrun), each of
    them calls this with the same arguments, and the first writes.
    """
    begin, out = time.monotonic(), Path(out)
    check_names(request, out, resume=resume)
    from cnctl.commands.train.start import run_training  # imports torch, which takes seconds

    run = run_training(request, out, resume=resume, on_event=on_event)
    return run.result(seconds=time.monotonic() - begin)


def plan_training(
    request: TrainRequest,
    out: str | Path,
    *,
    resume: bool = False,
    on_event: OnEvent = ignore,
) -> TrainPlan:
    """The plan of what `train` would do with the same arguments; nothing is written."""
    check_names(request, Path(out), resume=resume)
    from cnctl.commands.train.start import plan_run

    return plan_run(request, Path(out), resume=resume, on_event=on_event)


def check_data(
    condition: str | Condition | None,
    data: str | None,
    *,
    columns: str | None = None,
    base: str | None = None,
    resolution: int | None = None,
    largest: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    on_event: OnCheck = ignore,
) -> DataReport:
    """Read every example as training would, or those of a part; nothing is trained.

    base: whose text encoders are to read the prompts. largest, sample and seed are those of
    `cnctl.data.take_part`.
    """
    known, place = find_condition(condition), named_data(data)
    resolution = resolution or read_base_defaults(base).get("resolution") or known.train.resolution
    note, read_hint = notes(on_event), HintReader(known)
    whole = open_dataset(place, columns=columns, read_hint=read_hint, size=resolution, note=note)
    note_other_condition(place, known.name, columns=columns, note=note)
    dataset = take_part(whole, largest=largest, sample=sample, seed=seed)
    if split := find_held_out(place):
        note(f"{shown(split)} is checked too")
        others = open_dataset(split, columns=columns, read_hint=read_hint)
        dataset = join(dataset, others, range(len(others)))
    return check_dataset(
        dataset,
        detect=Detector(known),
        resolution=resolution,
        is_cut=_cut_by(base, note),
        on_example=lambda done: on_event(Stage("checking", done, len(dataset), "examples")),
    )


def _cut_by(base: str | None, note: Callable[[str], None]) -> Callable[[str], bool]:
    """Whether training on this base cuts a prompt.

    Its tokenizers are read for the first long prompt, since most are short and importing torch
    takes seconds. A note says if the base is not installed.
    """

    @functools.cache
    def outline() -> Base | None:
        from cnctl.commands.shared.weights import open_base

        try:
            return open_base(base, device="cpu", dtype=None, weights=False)
        except MissingError as error:
            note(f"the length of prompts is not checked: {error}")
            return None

    def cuts(prompt: str) -> bool:
        known = None if is_short(prompt) else outline()
        if known is None:
            return False
        from cnctl.commands.train.long_prompts import is_cut

        return is_cut(known, prompt)

    return cuts
