"""cnctl evaluate"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from cnctl.cli import flags
from cnctl.cli.complete import complete_base, complete_control, complete_scheduler
from cnctl.cli.declared import Given, declares
from cnctl.cli.report import Advance, emit, emit_json, note, progress
from cnctl.commands.evaluate.request import EvaluateRequest
from cnctl.errors import SomeInputsFailed
from cnctl.settings import GenerateSettings
from cnctl.settings.declaration import Flag

if TYPE_CHECKING:
    from cnctl.commands.shared.events import Loading, Note, Stage

SETTINGS = (
    *("steps", "guidance_scale", "guidance_start", "guidance_end", "scheduler", "resolution"),
    *("control_scale", "control_start", "control_end", "control_every"),
)
Metrics = Annotated[
    str,
    Flag("Metrics in addition to fidelity; needs cnctl[metrics].", metavar="clip,fid,kid"),
]


COMPLETE = {
    "weights": complete_control,
    "base": complete_base,
    "scheduler": complete_scheduler,
}
PANELS = {
    "Input": "cond data columns outputs ready_hint options",
    "Control": "weights configs control_scale control_start control_end control_every",
    "Sampling": "prompt negative_prompt base count seed steps guidance_scale guidance_start "
    "guidance_end scheduler resolution",
    "Metrics": "metrics clip_model",
    "Output": "out resume overwrite json quiet",
    "Machine": "device dtype batch_size low_memory quantize",
}


@declares(EvaluateRequest, part={GenerateSettings: SETTINGS}, panels=PANELS, complete=COMPLETE)
def evaluate(
    *,
    cond: Annotated[str, flags.CONDITION],
    given: Given,
    metrics: Metrics = "",
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Measure how well images obey their hints.

    Several ControlNets are compared on the same seeds.

    cnctl evaluate --cond canny --data scenes:64 --control A --control B
    """
    from cnctl.commands.evaluate.run import evaluate as run

    request = EvaluateRequest(
        **given[EvaluateRequest],
        condition=cond,
        settings=given[GenerateSettings],
        metrics=[name.strip() for name in metrics.split(",") if name.strip()],
    )
    with progress("loading", quiet=quiet, text="PyTorch and diffusers") as advance:
        found = run(request, on_event=partial(_show, advance, quiet))
    if json:
        emit_json(found.as_dict())
    else:
        emit(found.lines())
    for name, why in found.failed.items():
        note(f"cnctl: {why if name in why else f'{name}: {why}'}")
    note(f"written: {', '.join(map(str, found.pages))}", quiet=quiet)
    if failed := len(found.failed):
        raise SomeInputsFailed(f"{failed} of {failed + len(found.ordered())} examples failed")


def _show(advance: Advance, quiet: bool, event: Note | Loading | Stage) -> None:
    from cnctl.commands.shared.events import Loading, Note, Stage

    match event:
        case Note(text):
            note(text, quiet=quiet)
        case Loading():
            advance(event.percent, event.text, label="loading")
        case Stage(what, done, total):
            advance(100 * done // total, f"{what}, {event.count}", label="evaluating")
