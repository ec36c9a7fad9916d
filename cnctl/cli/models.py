"""cnctl models"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cnctl.cli.report import emit, emit_json, note

if TYPE_CHECKING:
    from cnctl.commands.models import Model

app = typer.Typer(help="List the installed bases, ControlNets and detectors, or fetch one.")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the bases, ControlNets and detectors that are installed, or `pull` one."""
    if context.invoked_subcommand is None:
        show(json=json)


@app.command("list")
def show(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the bases, ControlNets and detectors that are installed, and how to get the others."""
    from dataclasses import asdict

    from cnctl.commands.models import list_models

    found = list_models()
    if json:
        emit_json({"models": [asdict(model) for model in found]})
    else:
        emit(_line(model) for model in found)


@app.command()
def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="sd15, sdxl, flux-dev, blip, clip, OWNER/MODEL, a ControlNet like v11p_canny, "
            "or a condition for its detector."
        ),
    ],
) -> None:
    """Fetch a model into the Hugging Face cache; the only command that uses the network."""
    from cnctl.commands.models import pull as run

    note(f"fetching {name} ...")
    emit(run(name))


def _line(model: Model) -> str:
    state = "installed" if model.path else "missing"
    what = {
        "base": f"base, {model.family}",
        "control": f"{model.condition} on {model.family}",
        "detector": f"detects {model.condition}",
        "captioner": "captions images",
        "metric": "CLIP score",
    }[model.kind]
    about = model.about if model.path else f"get it: {model.about}"
    licence = f" (licence: {model.licence})" if model.licence else ""
    return f"{state}  {model.name:42} {what:18} {about}{licence}".rstrip()
