"""How the program finds its commands, and how help is laid out.

A command's module is imported when the command is asked for, so that help, completion and other
commands do not wait for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from inspect import cleandoc
from typing import Any

import typer
import typer.core
import typer.main

from cnctl.cli.usage_errors import describe_repeated, refuse_empty, refuse_files_as_flags

COMMANDS = {
    "annotate": "Make hints from images.",
    "train": "Train a ControlNet on pairs of image and hint.",
    "generate": "Make images that show the prompt in the layout of the hint.",
    "convert": "Write a ControlNet in another form, or for another base.",
    "evaluate": "Measure how well images obey their hints.",
    "conditions": "List the installed conditions, describe one, write one.",
    "models": "List bases, ControlNets and detectors; fetch or remove one.",
    "info": "Describe a file of weights or an image.",
    "doctor": "Check this machine and installation.",
}
"""What help says of each; a test compares it with the command's own first line."""
PAGES = {
    "annotate": "annotate.md",
    "train": "training.md",
    "generate": "generate.md",
    "convert": "convert.md",
    "evaluate": "evaluate.md",
    "conditions": "conditions/index.md",
    "models": "models.md",
    "info": "convert.md",
    "doctor": "install.md",
}
"""The page of each in docs/."""
OPTIONS = "Options"
EXAMPLE = 'cnctl generate --cond canny photo.jpg -p "a cat"'
EXIT_CODES = "0 ok, 1 bug, 2 bad input, 3 some inputs failed, 4 missing, 5 device, 6 output."


class ClosedPipe(BaseException):
    """Whoever read our output is gone. No OSError: at one, Typer would end the process with 1."""


class Command(typer.core.TyperCommand):
    """Help in panels: the text, the flags under the names of their panels, the examples last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _check_words(self, ctx, args)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Without the braces that Typer puts around an argument that is required."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        _write_text(formatter, _split(self.help)[0])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_panels(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self, formatter)


class Commands(typer.core.TyperGroup):
    """A command that has commands, such as `cnctl models`."""

    command_class = Command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _check_words(self, ctx, args)
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        _write_text(formatter, _split(self.help)[0])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_panels(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self, formatter)


class Program(typer.core.TyperGroup):
    """`cnctl` itself. Leaves a closed pipe to `main`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": None})
        self.commands: MutableMapping[str, Any] = _Loaded()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        switches: list[Any] = self.get_params(ctx)
        for switch in switches:
            if switch.default is None and switch.type_descriptor.annotation is bool:
                # Typer reads None by pydantic, whose import takes longer than all else.
                switch.default = False
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ClosedPipe from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section(_title("Commands")):
            formatter.write_dl([*COMMANDS.items()])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section(_title("Example")):
            formatter.write_text(EXAMPLE)
        formatter.write_paragraph()
        formatter.write_text(f"Exit codes: {EXIT_CODES}")
        formatter.write_paragraph()
        formatter.write_text("Documentation: docs/index.md")


class _Loaded(dict[str, Any]):
    """The commands by name, in the order of COMMANDS; imported when they are looked up."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(COMMANDS))

    def __getitem__(self, name: str) -> Any:
        if super().__getitem__(name) is None:
            self[name] = _load(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in COMMANDS else default


def _load(name: str) -> Any:
    module = import_module(f"cnctl.cli.{name}")
    own = typer.Typer(rich_markup_mode=None, add_completion=False)
    if name == "models":
        own = module.app
    else:
        own.command(cls=Command)(getattr(module, name))
    command = typer.main.get_command(own)
    command.name = name
    return command


def _check_words(command: Any, ctx: Any, args: list[str]) -> None:
    """Refuse words that would be misread; report values that have no effect."""
    if ctx.resilient_parsing:  # a shell completes what is not yet whole
        return
    refuse_files_as_flags(args, [flag for one in command.params for flag in one.opts])
    values, _, given = command.make_parser(ctx).parse_args([*args])
    refuse_empty(given, values)
    if lines := describe_repeated(given):
        from cnctl.cli.report import note

        note("\n".join(lines), quiet=any(parameter.name == "quiet" for parameter in given))


def _split(help: str | None) -> tuple[str, str]:
    """The text, and the examples that end it: the paragraphs from the first command on."""
    paragraphs = cleandoc(help or "").replace("\b\n", "").split("\n\n")
    at = next((n for n, text in enumerate(paragraphs) if text.startswith("cnctl ")), None)
    return "\n\n".join(paragraphs[:at]), "\n".join(paragraphs[at:]) if at is not None else ""


def _write_text(formatter: Any, text: str) -> None:
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(text)


def _write_panels(command: Any, ctx: Any, formatter: Any) -> None:
    for title, rows in _panels(command, ctx):
        with formatter.section(_title(title)):
            formatter.write_dl(rows)


def _panels(command: Any, ctx: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Title and rows of each panel; what is in none comes last."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if record := _record(parameter, ctx):
            title = getattr(parameter, "rich_help_panel", None) or OPTIONS
            found.setdefault(title, []).append(record)
    rest = found.pop(OPTIONS, [])
    yield from found.items()
    yield "More" if found else OPTIONS, rest


def _record(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """What help says of a parameter; the name of an argument says enough of its type."""
    record = parameter.get_help_record(ctx)
    if record and parameter.param_type_name == "argument":
        return record[0].split(" <")[0], record[1]
    return record


def _write_examples(command: Any, formatter: Any) -> None:
    examples = _split(command.help)[1]
    page = PAGES.get(command.name or "")
    if examples:
        with formatter.section(_title("Example" if "\n" not in examples else "Examples")):
            formatter.write_text("\b\n" + examples)
    if page:
        formatter.write_paragraph()
        formatter.write_text(f"Documentation: docs/{page}")


def _title(text: str) -> str:
    """Bold on a terminal."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stdout.isatty() else f"\x1b[1m{text}\x1b[0m"
