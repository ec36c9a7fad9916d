"""`cnctl evaluate`: how well images obey their hints, and with which of several ControlNets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cnctl.commands.evaluate.cases import (
    Cases,
    count_other_aspects,
    make_cases,
    open_examples,
)
from cnctl.commands.evaluate.check import check_request, weights_of_sets
from cnctl.commands.evaluate.report import write_pages
from cnctl.commands.evaluate.request import EvaluateRequest
from cnctl.commands.evaluate.result import Evaluation
from cnctl.commands.evaluate.scores import add_distances, open_meters, score_set
from cnctl.commands.evaluate.sets import (
    HINTS,
    OnEvent,
    Sets,
    generate_sets,
    match_sets,
    read_sets,
)
from cnctl.commands.generate.prompts import DEFAULT_PROMPT, default_prompt
from cnctl.commands.shared.events import Loading, Note, Stage, ignore
from cnctl.commands.shared.weights import NamedControl, check_controls, open_base
from cnctl.data.urls import without_credentials
from cnctl.errors import CnctlError
from cnctl.hints.detector import Detector
from cnctl.hints.metrics import find_metric
from cnctl.hints.options import check_options, parse_options
from cnctl.images import find_images, read_size
from cnctl.models.device import pick_device
from cnctl.models.quantize import check_library
from cnctl.plugin import Condition
from cnctl.registry import get_condition
from cnctl.training.checkpoints import lock_folder

ENOUGH = 10
"""Hints below which an interval says little."""
ENOUGH_FOR_FID = 2048
"""Features; a covariance of fewer pictures is singular."""


def evaluate(request: EvaluateRequest, *, on_event: OnEvent = ignore) -> Evaluation:
    """Measure how well pictures obey their hints, and write what was found into `request.out`.

    Fidelity is the condition's own metric between each hint and the hint detected again. Its mean
    has a bootstrap interval over hints; sets are compared hint by hint. Writes evaluation.json,
    plot.svg and report.html beside hints and images. An example that cannot be read is recorded in
    the result and left out. Raises OutputError where the folder has another evaluation's files, or
    another run uses it.
    """
    condition = get_condition(request.condition)
    options = check_options(condition, parse_options(condition, request.options))
    check_request(request)
    with lock_folder(Path(request.out)):
        return _measure(request, condition, options, on_event)


def _measure(
    request: EvaluateRequest,
    condition: Condition,
    options: Mapping[str, Any],
    on_event: OnEvent,
) -> Evaluation:
    device = pick_device(request.device)
    meters = open_meters(request.metrics, clip_model=request.clip_model, device=device)
    detector, on_event = Detector(condition, device=str(device)), _without_repeats(on_event)
    if request.data is None:
        cases, sets = read_sets(request, detector)
    else:
        cases, base = _cases(request, detector, options, on_event)
        if request.outputs:
            cases, sets = match_sets(request, cases)
        else:
            sets = generate_sets(request, cases.cases, base, on_event)
    for text in _warnings(request, cases, sets):
        on_event(Note(text))
    scored = [
        score_set(name, outputs, cases, condition, meters, on_event=on_event)
        for name, outputs in sets.items()
    ]
    found = Evaluation(
        condition=condition.name,
        metric=find_metric(condition.metric),
        cases=cases.cases,
        sets=add_distances(scored, cases, meters),
        folder=Path(request.out),
        failed=cases.failed,
    )
    write_pages(found, cases, channels=condition.stored_channels)
    return found


def _cases(
    request: EvaluateRequest,
    detector: Detector,
    options: Mapping[str, Any],
    on_event: OnEvent,
) -> tuple[Cases, str]:
    """The cases of a data set, and the name of the base that generates their images."""
    assert request.data is not None
    note = partial(_note, on_event)
    condition = detector.condition
    base, side, prompt = "", request.settings.get("resolution"), DEFAULT_PROMPT
    if request.outputs:
        side = side or min(read_size(find_images(request.outputs)[0].path))
    else:
        opened = open_base(
            request.base, device=request.device, dtype=request.dtype, weights=False, note=note
        )
        # Before the first one's images are made.
        if request.quantize:
            check_library(request.quantize)
        named = [
            NamedControl(condition, weights, Path(config) if config else None)
            for weights, config in weights_of_sets(request)
            if weights
        ]
        check_controls(request.base, named)
        base, side = opened.name, side or opened.resolution
        prompt = default_prompt(opened.defaults)
    cases = make_cases(
        open_examples(
            request.data,
            condition,
            columns=request.columns,
            ready=request.ready_hint,
            side=side,
            note=note,
        ),
        detector,
        options=options,
        prompt=prompt if request.prompt is None else request.prompt,
        side=side,
        folder=Path(request.out) / HINTS,
        overwrite=request.overwrite,
    )
    if not cases.cases:
        why = next(iter(cases.failed.values()), "every hint is empty")
        data = without_credentials(request.data)
        raise CnctlError(f"--data {data} gives no hint: {why}", hint="try other options")
    return cases, base


def _note(on_event: OnEvent, text: str) -> None:
    on_event(Note(text))


def _warnings(request: EvaluateRequest, cases: Cases, sets: Sets) -> Iterator[str]:
    if cases.empty:
        yield f"{cases.empty} hints are empty and left out: nothing can obey them"
    if request.data is not None and request.outputs:
        for name, outputs in sets.items():
            if count := count_other_aspects(outputs, cases):
                yield (
                    f"{count} of {len(outputs)} images of {name} have another aspect ratio than "
                    "their examples; they are cut to the square in their middle"
                )
    if len(cases.cases) < ENOUGH:
        yield f"an interval over fewer than {ENOUGH} hints says little; take more"
    if "fid" in request.metrics and len(cases.cases) < ENOUGH_FOR_FID:
        yield f"FID of fewer than {ENOUGH_FOR_FID} pictures is biased upwards; compare KID"


def _without_repeats(on_event: OnEvent) -> OnEvent:
    """The callback without notes that it has been called with before."""
    reported: set[Note] = set()

    def report(event: Note | Loading | Stage) -> None:
        if isinstance(event, Note):
            if event in reported:
                return
            reported.add(event)
        on_event(event)

    return report
