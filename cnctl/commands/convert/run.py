"""`cnctl convert`: the same weights in another form, on another base, or joined with others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnctl.commands.convert.progress import OnEvent
from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.sources import find_source
from cnctl.commands.shared.events import ignore

if TYPE_CHECKING:
    from cnctl.commands.convert.output import ConvertResult


def convert(request: ConvertRequest, *, on_event: OnEvent = ignore) -> ConvertResult:
    """Write a ControlNet in another form; the target appears whole or not at all.

    on_event is called with bytes done and in all, by several threads, one at a time.
    Raises CnctlError when a source is not a whole ControlNet, OutputError when the target exists.
    """
    given = request.sources
    paths = [find_source(one) for one in ([given] if isinstance(given, str | Path) else given)]
    from cnctl.commands.convert.conversion import convert_files  # imports torch: seconds

    return convert_files(paths, request, on_event=on_event)
