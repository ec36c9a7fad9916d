"""The hints of an evaluation, and the pictures that should obey them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cnctl.commands.generate.record import ControlRecord, ImageRecord, find_record
from cnctl.commands.generate.replay import find_beside
from cnctl.data import Dataset, TrainingPairs, open_dataset
from cnctl.data.annotated import note_other_condition
from cnctl.data.folder import FolderDataset, Row, pack_rows
from cnctl.data.open import is_dataset
from cnctl.data.problems import refuse_fatal, summarize
from cnctl.data.scenes import SceneDataset
from cnctl.data.urls import without_credentials
from cnctl.errors import CnctlError
from cnctl.hints.detector import Detector, HintReader
from cnctl.hints.outputs import find_photographs
from cnctl.images import (
    encode_hint,
    find_images,
    fit_pair,
    hint_suffix,
    read_image,
    read_size,
    shown,
    write_same,
)
from cnctl.plugin import Condition, OptionValue

ASPECT = 1.05
"""Ratio of aspect ratios that are taken for one: sides are rounded to multiples of 8."""
Options = Mapping[str, OptionValue]
Detect = Callable[[np.ndarray, Options], np.ndarray | None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A hint that pictures should obey.

    id: unique, and valid as a file name. number: of the example that it is made from. whole: height
    and width of the example's image, of which the hint shows a part; None where that is not known.
    """

    id: str
    title: str
    hint: Path
    prompt: str
    number: int = 0
    whole: tuple[int, int] | None = None
    options: Options = field(default_factory=dict)
    """The detector's, for finding the hint again."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A picture that was generated from a case's hint. case: its id."""

    case: str
    seed: int | None
    path: Path


@dataclass(frozen=True, kw_only=True)
class Cases:
    """The cases, and the detector that finds their hints again.

    photograph: RGB uint8 (H, W, 3), the image that a case's hint was detected in; None where hints
    come without images. side: of the square hints, to which outputs are cut too; None where they
    are read whole. failed: example that gave no case -> why. empty: the count of empty hints.
    """

    cases: Sequence[Case]
    detect: Detect
    photograph: Callable[[Case], np.ndarray] | None = None
    side: int | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    empty: int = 0


def open_examples(
    data: str,
    condition: Condition,
    *,
    columns: str | None,
    ready: bool,
    side: int,
    note: Callable[[str], None],
) -> Dataset:
    """Open what `cnctl train --data` takes, or a folder of photographs, or (ready) one of hints.

    Scenes are ones that training has not seen.
    """
    folder = Path(data)
    if folder.is_dir() and not columns and not is_dataset(folder):
        images = find_images([data]) if ready else find_photographs([data], note)
        found = [image.path for image in images]
        rows = (Row(path, path if ready else None, "") for path in found)
        return FolderDataset(folder, pack_rows(rows, folder), HintReader(condition))
    if ready:
        name = shown(without_credentials(data))
        raise CnctlError(
            f"--hint is for a folder of hints, and {name} is not one", hint="leave it out"
        )
    dataset = open_dataset(
        data, columns=columns, read_hint=HintReader(condition), size=side, note=note
    )
    refuse_fatal(dataset.problems)
    note_other_condition(data, condition.name, columns=columns, note=note)
    for line in summarize(dataset.problems):
        note(line)
    if isinstance(dataset, SceneDataset):
        from cnctl.tiny.scenes import HELD_OUT

        return replace(dataset, first=HELD_OUT)
    return dataset


def make_cases(
    dataset: Dataset,
    detector: Detector,
    *,
    options: Options,
    prompt: str,
    side: int,
    folder: Path,
    overwrite: bool,
) -> Cases:
    """A case for each example whose hint is not empty; the hints are written to the folder.

    Examples are cropped to squares of this side, as in training. prompt: for examples without one.
    Raises OutputExists where a file of the folder is another hint and `overwrite` is false.
    """
    condition = detector.condition
    pairs = TrainingPairs(
        dataset=dataset,
        sizes=[(side, side)],
        hint_channels=condition.stored_channels,
        detect=lambda image, _: detector(image, **options),
        from_maps=lambda maps, _: detector.from_maps(maps, **options),
        nearest=bool(condition.palette),
    )
    if condition.from_maps is None:
        pairs = replace(pairs, from_maps=None)
    cases, failed, empty = [], {}, 0
    for number in range(len(pairs)):
        title = dataset.name(number)
        try:
            pair = pairs.load(number)
        except CnctlError as error:
            if error.exit_code != CnctlError.exit_code:
                raise
            failed[title] = str(error)
            continue
        if np.ptp(pair.hint) == 0:
            empty += 1
            continue
        name = f"{number:05}-{_slug(title)}"
        path = folder / f"{name}{hint_suffix(condition.stored_channels)}"
        write_same(path, encode_hint(pair.hint, {}), overwrite=overwrite)
        cases.append(
            Case(
                id=name,
                title=title,
                hint=path,
                prompt=pair.prompt or prompt,
                number=number,
                whole=pair.original,
            )
        )
    return Cases(
        cases=cases,
        detect=lambda image, _: pairs.detect_again(image),
        photograph=lambda case: pairs.load(case.number).image,
        side=side,
        failed=failed,
        empty=empty,
    )


def match_outputs(folder: Path, cases: Sequence[Case]) -> tuple[list[Output], dict[str, str]]:
    """The pictures of a folder with the examples' names; example without one -> why."""
    found = {_bare(image.relative): image.path for image in find_images([folder])}
    outputs, failed = [], {}
    for case in cases:
        path = found.get(_bare(Path(case.title)))
        if path is None:
            failed[case.title] = f"{shown(folder)} holds no output for {shown(case.title)}"
        else:
            outputs.append(Output(case=case.id, seed=None, path=path))
    if not outputs:
        example = shown(cases[0].title) if cases else "an example"
        raise CnctlError(
            f"{shown(folder)} holds no output with the name of {example}",
            hint="name each output as its example",
        )
    return outputs, failed


def read_output(output: Output, cases: Cases) -> np.ndarray:
    """The picture, RGB uint8 (H, W, 3), cut as its example was cut for the hint."""
    picture = read_image(output.path)
    if cases.side is None:
        return picture
    return fit_pair(picture, None, size=(cases.side, cases.side))[0]


def count_other_aspects(outputs: Sequence[Output], cases: Cases) -> int:
    """How many outputs have neither the aspect ratio of their example nor that of its hint."""
    wholes = {case.id: case.whole for case in cases.cases}
    return sum(_has_other_aspect(output.path, wholes[output.case]) for output in outputs)


def _has_other_aspect(path: Path, whole: tuple[int, int] | None) -> bool:
    height, width = read_size(path)
    expected = [1.0] if whole is None else [1.0, whole[1] / whole[0]]
    return all(not 1 / ASPECT < width / height / ratio < ASPECT for ratio in expected)


def read_outputs(folder: Path, condition: Condition) -> tuple[list[Case], list[Output]]:
    """The cases and images of `cnctl generate` in a folder: each image names its hint."""
    cases: dict[str, Case] = {}
    outputs = []
    for path in [image.path for image in find_images([folder])]:
        control = _control(path, condition)
        if control is None:
            continue
        record, used = control
        hint = find_beside(used.hint.name, path)
        case = Case(
            id=f"{_slug(hint.stem)}-{used.hint.sha256[:8]}",
            title=hint.name,
            hint=hint,
            prompt=record.prompt,
            options=used.options,
        )
        cases.setdefault(case.id, case)
        outputs.append(Output(case=case.id, seed=record.seed, path=path))
    if not outputs:
        raise CnctlError(
            f"{shown(folder)} holds no image whose record names {condition.name}",
            hint="name with --data what they were made from, each with the name of its output",
        )
    return [*cases.values()], outputs


def _control(path: Path, condition: Condition) -> tuple[ImageRecord, ControlRecord] | None:
    """An image's record and its control by this condition; None where it lacks either."""
    record = find_record(path)
    controls = record.controls if record else ()
    found = [control for control in controls if control.condition == condition.name]
    return (record, found[0]) if record and found else None


def _slug(title: str) -> str:
    return re.sub(r"[^\w.-]+", "-", Path(title).stem)


def _bare(path: Path) -> str:
    return path.with_suffix("").as_posix()
