"""cnctl models: list them, fetch one, remove one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cnctl.cli import flags
from cnctl.cli.complete import complete_base, complete_condition, complete_model
from cnctl.cli.group import Command, Commands
from cnctl.cli.page import emit_page
from cnctl.cli.report import emit, emit_json, note
from cnctl.cli.tables import draw_table, emit_tabs, on_terminal
from cnctl.errors import CnctlError

if TYPE_CHECKING:
    from cnctl.commands.models.model import Model

app = typer.Typer(cls=Commands, rich_markup_mode=None, add_completion=False)

Family = Annotated[
    str,
    typer.Option(
        help="Only what is for this family, such as sdxl or flux.",
        show_default=False,
        autocompletion=complete_base,
    ),
]
Condition = Annotated[
    str,
    typer.Option(
        "--cond",
        metavar="NAME",
        help="Only what is for this condition.",
        show_default=False,
        autocompletion=complete_condition,
    ),
]
Installed = Annotated[bool, typer.Option("--installed", help="Only what is installed.")]


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    family: Family = "",
    cond: Condition = "",
    installed: Installed = False,
    json: flags.Json = False,
) -> None:
    """List bases, ControlNets and detectors; fetch or remove one.

    \b
    cnctl models --family sdxl --cond canny    the ControlNets for canny on SDXL
    cnctl models pull sd15                     fetch one
    cnctl models remove sd15                   remove it
    """
    if context.invoked_subcommand is None:
        return show(family=family, cond=cond, installed=installed, json=json)
    if family or cond or installed or json:
        raise CnctlError(
            f"options go after `{context.invoked_subcommand}`, not before it",
            hint=f"see cnctl models {context.invoked_subcommand} --help",
        )


@app.command("list", cls=Command)
def show(
    *,
    family: Family = "",
    cond: Condition = "",
    installed: Installed = False,
    json: flags.Json = False,
) -> None:
    """List models, as `cnctl models` alone does."""
    from dataclasses import asdict

    from cnctl.commands.models.disk import size_on_disk
    from cnctl.commands.models.listing import list_models

    found = list_models(family=family, condition=cond, installed=installed)
    total = size_on_disk(model.path for model in found if model.path)
    if json:
        rows = [asdict(model) | {"installed": model.installed} for model in found]
        emit_json({"models": rows, "size": total})
    elif on_terminal():
        _draw(found, total)
    else:
        emit_tabs(map(_cells, found))
    if not found:
        note("no model matches")


@app.command(cls=Command)
def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="sd15, sdxl, flux-dev, blip, clip, OWNER/MODEL, a ControlNet like v11p_canny, "
            "or a condition for its detector.",
            autocompletion=complete_model,
        ),
    ],
    json: flags.Json = False,
) -> None:
    """Fetch a model into the Hugging Face cache."""
    from cnctl.commands.models.pull import pull as run

    note(f"fetching {name} ...")
    paths = run(name)
    if json:
        emit_json({"paths": paths})
    else:
        emit(paths)


@app.command(cls=Command)
def remove(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A name that `pull` takes.", autocompletion=complete_model
        ),
    ],
    dry_run: flags.DryRun = False,
    json: flags.Json = False,
) -> None:
    """Remove a model from the Hugging Face cache."""
    from cnctl.commands.models.remove import remove as run

    removal = run(name, dry_run=dry_run)
    if json:
        emit_json({"paths": removal.paths, "size": removal.size})
    else:
        emit(removal.paths)
    freed = f"{'would free' if dry_run else 'freed'} {_size(removal.size)}"
    readers = f"; {', '.join(removal.conditions)} read it" if removal.conditions else ""
    note(freed + readers)


def _cells(model: Model) -> tuple[object, ...]:
    """The columns of a line for programs: the documentation of `cnctl models` promises them."""
    state = "installed" if model.installed else "missing"
    where = model.path or f"cnctl models pull {model.pull}"
    conditions = ",".join(model.conditions)
    about = (model.kind, model.name, model.family, conditions)
    return (*about, state, model.size or "", model.licence, where)


def _draw(found: Sequence[Model], total: int) -> None:
    for title, columns, models in _tables(found):
        rows = [(model.installed, [_cell(model, column) for column in columns]) for model in models]
        draw_table(title, columns, rows)
        emit([""])
    for model in found:
        if model.about and (model.kind == "base" or not model.installed):
            emit_page([f"{model.name}: {model.about}"])
    count = sum(model.installed for model in found)
    emit([f"{count} of {len(found)} installed" + (f", {_size(total)} on disk" if total else "")])
    if count < len(found):
        emit(["To fetch one: cnctl models pull NAME"])


def _tables(found: Sequence[Model]) -> Iterator[tuple[str, tuple[str, ...], list[Model]]]:
    """Title, columns and rows of each table: bases, ControlNets by family, detectors, others."""
    usual = ("name", "size>", "licence")
    bases = [model for model in found if model.kind == "base"]
    detectors = [model for model in found if model.kind == "detector"]
    if bases:
        yield "Bases", ("name", "family", "size>", "licence"), bases
    for family in dict.fromkeys(model.family for model in found if model.kind == "control"):
        of_family = [each for each in found if (each.kind, each.family) == ("control", family)]
        title = f"ControlNets for {family or 'a base that they do not name'}"
        yield title, ("name", "conditions", "size>", "licence"), of_family
    if detectors:
        yield "Detectors", ("conditions", "file", "size>", "licence"), detectors
    for kind, title in (("captioner", "Captioners"), ("metric", "For metrics")):
        if models := [model for model in found if model.kind == kind]:
            yield title, usual, models


def _cell(model: Model, column: str) -> str:
    match column:
        case "family":
            return model.family
        case "conditions":
            return ", ".join(model.conditions)
        case "size>":
            return _size(model.size) if model.size else ""
        case "licence":
            return model.licence or "not stated"
        case "file":
            return model.name
    return model.pull if model.kind in ("captioner", "metric") else model.name


def _size(count: int) -> str:
    """Bytes as a person reads them."""
    size, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if size < 10 and unit != "bytes" else f"{size:.0f} {unit}"
