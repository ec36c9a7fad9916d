"""cnctl generate --jobs -"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cnctl.cli.generate_display import GenerateDisplay
from cnctl.cli.report import emit, emit_json_line, note, progress
from cnctl.errors import CnctlError, SomeInputsFailed
from cnctl.system.standard_streams import was_closed

if TYPE_CHECKING:
    from cnctl.commands.generate.job_stream import JobResult
    from cnctl.commands.generate.request import GenerateRequest


def run_jobs(request: GenerateRequest, *, json: bool, quiet: bool) -> None:
    """Do the jobs of standard input, and print what came of each before the next is read."""
    from cnctl.commands.generate.job_stream import generate_jobs

    _check(request)
    bad = done = 0
    with progress("loading", quiet=quiet, text="PyTorch and diffusers") as advance:
        display = GenerateDisplay(advance, preview=False, quiet=quiet)
        lines = iter(sys.stdin.buffer.readline, b"")
        for result in generate_jobs(request, lines, on_event=display):
            _print(result, json=json)
            done += 1
            bad += bool(result.error or result.failed)
    if bad:
        raise SomeInputsFailed(f"{bad} of {done} jobs failed")


def _check(request: GenerateRequest) -> None:
    if was_closed("stdin"):
        raise CnctlError("standard input is closed", hint="pipe jobs in, or name a file")
    if request.images:
        raise CnctlError("--jobs names images itself", hint="leave out others")


def _print(result: JobResult, *, json: bool) -> None:
    if json:
        emit_json_line(result.as_dict())
    else:
        emit(image.path for image in result.images)
        if result.error:
            job, hint = f"job {result.number}", result.error.hint
            text = f"{result.error}" if job in str(result.error) else f"{job}: {result.error}"
            note(f"cnctl: {text}; {hint}" if hint else f"cnctl: {text}")
    sys.stdout.flush()  # whoever sent the job waits for it
