"""cnctl convert"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from cnctl.cli import convert_flags as own
from cnctl.cli import flags
from cnctl.cli.report import Advance, emit, emit_json, note, progress, silence
from cnctl.commands.convert.request import ConvertRequest, InitRequest
from cnctl.errors import CnctlError

if TYPE_CHECKING:
    from cnctl.commands.convert.output import ConvertResult
    from cnctl.commands.shared.events import Stage

MEGABYTE = 1_000_000


def convert(
    sources: own.Sources = None,
    target: own.Target = None,
    to: own.To = None,
    dtype: own.Dtype = None,
    config: own.Config = None,
    base: own.Base = None,
    from_base: own.FromBase = None,
    to_base: own.ToBase = None,
    shares: own.Shares = None,
    rank: own.Rank = None,
    init_from_base: own.InitFromBase = None,
    hint_channels: own.HintChannels = None,
    hint_encoder: own.HintEncoder = None,
    seed: own.Seed = None,
    condition: own.Condition = "",
    verify: own.Verify = False,
    overwrite: flags.Overwrite = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Write a ControlNet in another form, for webui, ComfyUI or diffusers, or for another base.

    Files from strangers are safe to convert: nothing in them is run.

    cnctl convert runs/canny canny.safetensors
    """
    if target is None or bool(sources) == bool(init_from_base):
        raise CnctlError("nothing to convert", hint="give SRC and DST, or --init-from-base and DST")
    shared: dict[str, Any] = {
        "target": target,
        "to": to,
        "dtype": dtype,
        "config": config,
        "condition": condition,
        "overwrite": overwrite,
    }
    if init_from_base:
        _refuse("SRC", base, from_base, to_base, shares, rank, verify)
        untrained = {"hint_channels": hint_channels, "hint_encoder": hint_encoder, "seed": seed}
        given: dict[str, Any] = {k: v for k, v in untrained.items() if v is not None}
        result = _init(InitRequest(base=init_from_base, **shared, **given), quiet=quiet)
    else:
        _refuse("--init-from-base", hint_channels, hint_encoder, seed)
        request = ConvertRequest(
            sources=sources or [],
            base=base,
            from_base=from_base,
            to_base=to_base,
            shares=_numbers(shares),
            rank=rank,
            verify=verify,
            **shared,
        )
        result = _convert(request, quiet=quiet)
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
        raise CnctlError(f"one of these options goes with {needed}", hint="see cnctl convert -h")


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
                bars.append(stack.enter_context(progress("converting", 100, quiet=quiet)))
            bars[0](100 * event.done // event.total)

        try:
            yield advance
        finally:
            bars.append(silence)  # what is still being hashed after an error opens no bar


def _report(result: ConvertResult, *, json: bool, quiet: bool) -> None:
    for text in result.notes:
        note(text, quiet=quiet)
    if result.error is not None:
        note(f"lost of what was learnt: {100 * result.error:.3g} %", quiet=quiet)
    if result.difference is not None:
        note(f"largest difference of the residuals: {result.difference:.3g}", quiet=quiet)
    if json:
        emit_json(result.as_dict())
    else:
        emit([result.path])
