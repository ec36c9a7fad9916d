"""cnctl convert"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnctl.cli.report import Advance, emit, emit_json, note, progress
from cnctl.errors import CnctlError

if TYPE_CHECKING:
    from cnctl.jobs.written import ConvertResult, Progress

MEGABYTE = 1_000_000


def convert(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SRC...",
            show_default=False,
            help="A diffusers folder, a .safetensors, .pth or .ckpt, a run, or a hub id. "
            "Several are averaged.",
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="DST", show_default=False, help="A folder, or a file that ends in .safetensors."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORM",
            help="diffusers, original (control_model. before each key), bare (no prefix), "
            "control-lora. [original for a file, diffusers for a folder]",
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float16, bfloat16, float32. [the source's own]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="config.json to take the number of heads from, if SRC has none."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Base that completes a difference file or a Control-LoRA, or that a full "
            "checkpoint began from: what its U-Net learnt along is kept in a folder as DST."
        ),
    ] = None,
    from_base: Annotated[
        str | None, typer.Option(help="Base that SRC was trained on, with --to-base.")
    ] = None,
    to_base: Annotated[
        str | None, typer.Option(help="Base that DST is to fit: adds what differs to the copy.")
    ] = None,
    shares: Annotated[
        str | None, typer.Option(metavar="0.7,0.3", help="Of each SRC in the average. [alike]")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Of --to control-lora, which needs --base. [128]")
    ] = None,
    init_from_base: Annotated[
        str | None,
        typer.Option(metavar="BASE", help="Instead of SRC: an untrained ControlNet for a base."),
    ] = None,
    hint_channels: Annotated[
        int | None, typer.Option(help="Of an untrained ControlNet. [3]")
    ] = None,
    hint_encoder: Annotated[
        str | None, typer.Option(help="Of an untrained ControlNet: released, paper. [released]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of an untrained hint encoder. [0]")] = None,
    condition: Annotated[
        str, typer.Option("--cond", help="Written down, if SRC does not say its own.")
    ] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Run both on random input and compare.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")] = False,
) -> None:
    """Write a ControlNet in another form, for webui, ComfyUI or diffusers, or for another base.

    Files from strangers are safe to convert: nothing in them is run.

    cnctl convert runs/canny canny.safetensors
    """
    if target is None or bool(sources) == bool(init_from_base):
        raise CnctlError("nothing to convert", hint="give SRC and DST, or --init-from-base and DST")
    with _bar(quiet=quiet) as advance:
        if init_from_base:
            _refuse("SRC", base, from_base, to_base, shares, rank, verify)
            from cnctl.jobs.add_control import add_control

            result = add_control(
                init_from_base,
                target,
                to=to,
                dtype=dtype,
                config=config,
                hint_channels=3 if hint_channels is None else hint_channels,
                hint_encoder=hint_encoder or "released",
                seed=seed or 0,
                condition=condition,
                overwrite=overwrite,
                progress=advance,
            )
        else:
            _refuse("--init-from-base", hint_channels, hint_encoder, seed)
            from cnctl.jobs.convert import convert as run

            result = run(
                sources or [],
                target,
                to=to,
                dtype=dtype,
                config=config,
                base=base,
                from_base=from_base,
                to_base=to_base,
                shares=_numbers(shares),
                rank=rank,
                condition=condition,
                verify=verify,
                overwrite=overwrite,
                progress=advance,
            )
    _report(result, json=json, quiet=quiet)


def _refuse(needed: str, *given: object) -> None:
    if any(value not in (None, False) for value in given):
        raise CnctlError(f"one of these options goes with {needed}", hint="see cnctl convert -h")


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise CnctlError(f"--shares {text!r} are no numbers", hint="like 0.7,0.3") from error


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Progress]:
    """Progress in megabytes, for files that take a while."""
    with ExitStack() as stack:
        bars: list[Advance] = []

        def advance(done: int, total: int) -> None:
            if total < 100 * MEGABYTE:
                return
            if not bars:
                bar = progress("megabytes", total // MEGABYTE, quiet=quiet)
                bars.append(stack.enter_context(bar))
            bars[0](done // MEGABYTE)

        yield advance


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
