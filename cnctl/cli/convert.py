"""cnctl convert"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnctl.cli import flags
from cnctl.cli.complete import complete_base, complete_condition
from cnctl.cli.declared import Given, declares
from cnctl.cli.report import Advance, emit, emit_json, note, progress, silence
from cnctl.commands.convert.request import ConvertRequest, InitRequest
from cnctl.errors import CnctlError
from cnctl.settings.declaration import Flag

if TYPE_CHECKING:
    from cnctl.commands.convert.output import ConvertResult
    from cnctl.commands.shared.events import Stage

MEGABYTE = 1_000_000
SHARED = {"to", "dtype", "config", "condition"}
"""Flags that an untrained ControlNet takes too."""
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SRC",
        show_default=False,
        help="A diffusers folder, a .safetensors, .pth or .ckpt, a run, or a hub id. "
        "Several are averaged.",
    ),
]
Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="DST", show_default=False, help="A folder, or a file that ends in .safetensors."
    ),
]


COMPLETE = {
    "base": complete_base,
    "from_base": complete_base,
    "to_base": complete_base,
    "init_from_base": complete_base,
    "condition": complete_condition,
}
PANELS = {
    "Input": "sources base config shares",
    "Output": "target to dtype rank condition verify overwrite json quiet",
    "Another base": "from_base to_base",
    "Untrained ControlNet": "init_from_base hint_channels hint_encoder seed",
}
UNTRAINED: Mapping[type, Sequence[str]] = {InitRequest: ("hint_channels", "hint_encoder", "seed")}


@declares(ConvertRequest, part=UNTRAINED, panels=PANELS, complete=COMPLETE)
def convert(
    sources: Sources = None,
    target: Target = None,
    *,
    given: Given,
    shares: Annotated[
        str | None,
        Flag("Weight of each SRC in the average.", metavar="0.7,0.3", default="equal"),
    ] = None,
    init_from_base: Annotated[
        str | None,
        Flag("Make an untrained ControlNet for a base; no SRC.", metavar="BASE"),
    ] = None,
    overwrite: flags.Overwrite = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Write a ControlNet in another form, or for another base.

    The forms are those of the web interfaces, ComfyUI and diffusers. Files from strangers are safe
    to convert: nothing in them is run.

    cnctl convert runs/canny canny.safetensors
    """
    if target is None or bool(sources) == bool(init_from_base):
        raise CnctlError("nothing to convert", hint="give SRC and DST, or --init-from-base and DST")
    asked, untrained = given[ConvertRequest], given[InitRequest]
    if init_from_base:
        _refuse("SRC", *(value for name, value in asked.items() if name not in SHARED), shares)
        request = InitRequest(
            base=init_from_base, target=target, overwrite=overwrite, **asked, **untrained
        )
        result = _init(request, quiet=quiet)
    else:
        _refuse("--init-from-base", *untrained.values())
        result = _convert(
            ConvertRequest(
                sources=sources or [],
                target=target,
                shares=_numbers(shares),
                overwrite=overwrite,
                **asked,
            ),
            quiet=quiet,
        )
    _report(result, json=json, quiet=quiet)


def _init(request: InitRequest, *, quiet: bool) -> ConvertResult:
    from cnctl.commands.convert.init_from_base import init_from_base

    with _bar(quiet=quiet) as on_event:
        return init_from_base(request, on_event=on_event)


def _convert(request: ConvertRequest, *, quiet: bool) -> ConvertResult:
    from cnctl.commands.convert.run import convert

    with _bar(quiet=quiet) as on_event:
        return convert(request, on_event=on_event)


def _refuse(needed: str, *given: object) -> None:
    if any(value not in (None, False) for value in given):
        raise CnctlError(f"one of these options needs {needed}", hint="see cnctl convert -h")


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise CnctlError(f"--shares {text!r} are not numbers", hint="such as 0.7,0.3") from error


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[Stage], None]]:
    """Progress in percent, for files that take a while."""
    with ExitStack() as stack:
        bars: list[Advance] = []

        def advance(event: Stage) -> None:
            if event.total < 100 * MEGABYTE:
                return
            if not bars:
                bars.append(stack.enter_context(progress("converting", quiet=quiet)))
            bars[0](100 * event.done // event.total, f"{event.total / 1e9:.1f} GB in all")

        try:
            yield advance
        finally:
            bars.append(silence)  # what is still being hashed after an error opens no bar


def _report(result: ConvertResult, *, json: bool, quiet: bool) -> None:
    for text in result.notes:
        note(text, quiet=quiet)
    if result.error is not None:
        note(f"share of the difference that is lost: {100 * result.error:.3g} %", quiet=quiet)
    if result.difference is not None:
        share = f" ({result.relative_difference:.2g} of the largest)" if result.difference else ""
        note(f"largest difference of the residuals: {result.difference:.3g}{share}", quiet=quiet)
    if json:
        emit_json(result.as_dict())
    else:
        emit([result.path])
