"""cnctl annotate"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cnctl.cli import flags
from cnctl.cli.complete import complete_condition
from cnctl.cli.declared import Given, declares
from cnctl.cli.page import emit_page
from cnctl.cli.report import Advance, emit, emit_json, note, progress
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.errors import CnctlError, SomeInputsFailed, counted
from cnctl.settings import AnnotateSettings

if TYPE_CHECKING:
    from cnctl.commands.annotate.curate import Event as CurateEvent
    from cnctl.commands.annotate.result import AnnotateResult
    from cnctl.commands.annotate.run import Event

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Images, folders (with subfolders), lists, tar files, data sets, videos, or - for "
        "an image on stdin.",
    ),
]
Conditions = Annotated[
    list[str],
    typer.Option(
        "--cond",
        metavar="NAME[,NAME...]",
        help="Conditions; cnctl conditions lists them.",
        autocompletion=complete_condition,
    ),
]


PANELS = {
    "Input": "inputs cond resolution options ground_truth paths columns every largest sample",
    "Output": "out compared overwrite dry_run json quiet",
    "Data set": "dataset prompt seed shards shard_range images caption captioner held_out subsets "
    "rules keep_all",
    "Machine": "device batch_size workers image_timeout engine commercial",
}


@declares(AnnotateSettings, AnnotateRequest, panels=PANELS)
def annotate(
    cond: Conditions,
    inputs: Inputs = None,
    *,
    given: Given,
    dry_run: flags.DryRun = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make hints from images.

    A stopped run continues when it is repeated; an image that fails is reported and left out.

    cnctl annotate --cond canny photos -o hints
    """
    conditions = [name.strip() for names in cond for name in names.split(",") if name.strip()]
    asked = given[AnnotateRequest] | given[AnnotateSettings]
    request = AnnotateRequest(conditions=conditions, inputs=inputs or [], **asked)
    to_stdout = request.out == "-"
    if to_stdout and json:
        raise CnctlError("-o - and --json both write to stdout", hint="name a file with -o")
    if request.dataset:
        return _curate(request, dry_run=dry_run, json=json, quiet=quiet)
    if dry_run:
        return _plan(request, json=json)
    from cnctl.commands.annotate.run import annotate as run

    with progress("annotating", quiet=quiet) as advance:
        result = run(
            request, on_event=_Display(advance, paths=not (json or to_stdout), quiet=quiet)
        )
    _report(result, json=json, quiet=quiet)


def _plan(request: AnnotateRequest, *, json: bool) -> None:
    from cnctl.commands.annotate.dry_run import plan_annotation

    plan = plan_annotation(request)
    if json:
        emit_json({"plan": plan.as_dict()})
    else:
        emit_page(plan.lines())
    for error in plan.errors:
        note(f"cnctl: {error}")
    if plan.errors:
        raise SomeInputsFailed("not all inputs can be used")


def _plan_dataset(request: AnnotateRequest, *, json: bool, quiet: bool) -> None:
    from cnctl.commands.annotate.dataset_plan import plan_dataset

    plan = plan_dataset(request, note=partial(note, quiet=quiet))
    if json:
        emit_json({"plan": plan.as_dict()})
    else:
        emit_page(plan.lines())


def _curate(request: AnnotateRequest, *, dry_run: bool, json: bool, quiet: bool) -> None:
    if dry_run:
        return _plan_dataset(request, json=json, quiet=quiet)
    from cnctl.commands.annotate.curate import curate
    from cnctl.commands.shared.events import Note

    with progress("annotating", quiet=quiet) as advance:

        def show(event: CurateEvent) -> None:
            if isinstance(event, Note):
                note(f"cnctl: {event.text}", quiet=quiet)
            else:
                advance(100 * event.seen // event.total, event.line())

        found = curate(request, on_event=show)
    if json:
        emit_json(found.as_dict())
    else:
        emit(found.lines())
    for text in found.notes():
        note(text, quiet=quiet)
    if found.failed:
        total = found.made.tally.rows
        raise SomeInputsFailed(f"{found.failed} of {total} inputs failed; records/ says why")
    if not found.made.tally.done:
        raise SomeInputsFailed("no input is in the data set; records/ says why")


def _report(result: AnnotateResult, *, json: bool, quiet: bool) -> None:
    if json:
        emit_json(result.as_dict())
    if result.skipped:
        verb, them = ("exists", "it") if result.skipped == 1 else ("exist", "them")
        what = f"{counted(result.skipped, 'hint')} {verb} already"
        note(f"{what}; --overwrite replaces {them}", quiet=quiet)
    failed = [
        *(f"condition {failure.condition}" for failure in result.failed_conditions),
        *([f"{len(result.failed)} of {result.images} images"] if result.failed else []),
    ]
    if failed:
        raise SomeInputsFailed(f"{' and '.join(failed)} failed")


@dataclass(frozen=True)
class _Display:
    """Prints the events of a run. paths: print each file to stdout when it is written."""

    advance: Advance
    paths: bool
    quiet: bool

    def __call__(self, event: Event) -> None:
        from cnctl.commands.shared.events import FailedCondition, FailedImage, Note, Stage

        match event:
            case Note(text):
                note(text, quiet=self.quiet)
            case Stage(_, done, total):
                self.advance(100 * done // total, event.count)
            case FailedImage(error=error) | FailedCondition(error=error):
                note(f"cnctl: {error}")
            case _ if self.paths:
                emit([event.path])
