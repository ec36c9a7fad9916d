"""The examples of a run: those to train on, and those that are held out to measure with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cnctl.commands.shared.events import ignore
from cnctl.data import Dataset, open_dataset, take_part
from cnctl.data.annotated import note_other_condition
from cnctl.data.folder import FolderDataset
from cnctl.data.held_out import find_held_out, join
from cnctl.data.problems import refuse_fatal
from cnctl.data.scenes import SceneDataset
from cnctl.errors import CnctlError, shown
from cnctl.hints.detector import HintReader
from cnctl.plugin import Condition
from cnctl.settings import TrainSettings
from cnctl.training.batch_sampler import draw_held_out, hold_out


@dataclass(frozen=True, kw_only=True)
class Splits:
    """train, held: indices of the data set. source: where those held out come from, if not from
    the examples that are given.
    """

    dataset: Dataset
    train: Sequence[int]
    held: Sequence[int]
    source: str = ""


def open_training_data(
    data: str, condition: Condition, *, columns: str | None, note: Callable[[str], None]
) -> Dataset:
    """The data set, with hints as this condition reads them.

    CnctlError where what lists the examples has something wrong with it that stops training.
    """
    dataset = open_dataset(data, columns=columns, read_hint=HintReader(condition), note=note)
    refuse_fatal(dataset.problems)
    note_other_condition(data, condition.name, columns=columns, note=note)
    return dataset


def split_data(
    data: str,
    whole: Dataset,
    condition: Condition,
    settings: TrainSettings,
    *,
    columns: str | None,
) -> Splits:
    """The part of the data that is asked for, and examples of its split `validation`, or else of
    the part itself, that are held out. CnctlError where files are missing.
    """
    dataset = _asked_part(data, whole, settings)
    split = find_held_out(data) if settings.held_out else None
    if split is None:
        train, held = hold_out(len(dataset), wanted=settings.held_out, seed=settings.seed)
        return Splits(dataset=dataset, train=train, held=held)
    others = open_training_data(str(split), condition, columns=columns, note=ignore)
    held = draw_held_out(len(others), wanted=settings.held_out, seed=settings.seed)
    joined = join(dataset, others, held)
    _check_files(data, joined)
    return Splits(
        dataset=joined,
        train=range(len(dataset)),
        held=range(len(dataset), len(dataset) + len(held)),
        source=f"{len(others)} in {shown(split)}",
    )


def _asked_part(data: str, whole: Dataset, settings: TrainSettings) -> Dataset:
    """The part of the data that is asked for; CnctlError where files of it are missing."""
    if isinstance(whole, SceneDataset):
        whole = replace(whole, size=settings.resolution)
    part = {"largest": settings.largest or None, "sample": settings.sample or None}
    dataset = take_part(whole, **part, seed=settings.seed)
    _check_files(data, dataset)
    return dataset


def _check_files(data: str, dataset: Dataset) -> None:
    if isinstance(dataset, FolderDataset) and (missing := dataset.missing()):
        raise CnctlError(
            f"{data}: {len(missing)} of its files are missing, the first is {missing[0]}",
            hint="--check lists them all",
        )
