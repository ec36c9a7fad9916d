"""cnctl conditions: list them, describe one, write a new one, test one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnctl.cli.complete import complete_condition
from cnctl.cli.page import emit_page
from cnctl.cli.report import emit, emit_json, note
from cnctl.cli.tables import draw_table, emit_tabs, on_terminal
from cnctl.commands.shared.known_controls import known_weights
from cnctl.errors import CnctlError, MissingError, one_line, shown

if TYPE_CHECKING:
    from cnctl.plugin import Condition, Option, OptionValue, WeightFile, Weights
    from cnctl.registry import Entry

GROUPS = {
    "Ready": ("ready",),
    "Weights of the detector are missing: cnctl models pull NAME": ("missing", "partly"),
    "The detector needs an option: cnctl conditions NAME lists it": ("option",),
}


def conditions(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="A condition, or `new NAME`, or `check NAME...`.",
            show_default=False,
            autocompletion=complete_condition,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="With `new`: the folder for the package.")
    ] = Path(),
    image: Annotated[
        Path | None, typer.Option(help="With `check`: a picture with much to detect.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the installed conditions, describe one, write one.

    \b
    cnctl conditions               one line each
    cnctl conditions canny         all about one: options, training, weights
    cnctl conditions new NAME      write the package of a new condition
    cnctl conditions check NAME    test an installed one against the contract
    """
    match words or []:
        case []:
            _list(json=json)
        case ["new", name]:
            _new(name, out, json=json)
        case ["check", *names] if names:
            _check(names, image, json=json)
        case [name] if name not in ("new", "check"):
            _show(name, json=json)
        case _:
            raise CnctlError(
                f"`cnctl conditions {' '.join(words or [])}` is not understood",
                hint="use no argument, NAME, `new NAME` or `check NAME...`",
            )


def _list(*, json: bool) -> None:
    from cnctl.registry import list_conditions

    entries = list_conditions()
    if json:
        emit_json({"conditions": [_document(entry) for entry in entries]})
    else:
        _print_rows(entries)
    for entry in entries:
        if entry.problem:
            note(f"cnctl: {entry.problem}")
    if not entries:
        note("no condition is installed, or CNCTL_PLUGINS leaves them out")


def _print_rows(entries: Sequence[Entry]) -> None:
    loaded = [(entry, entry.condition) for entry in entries if entry.condition]
    if on_terminal():
        _draw(loaded)
    else:
        emit_tabs(_row(entry, condition) for entry, condition in loaded)


def _draw(loaded: Sequence[tuple[Entry, Condition]]) -> None:
    """A table of what can be used at once, and tables of what needs something first."""
    from cnctl.registry import OWN_DISTRIBUTION

    own = {entry.distribution for entry, _ in loaded} <= {OWN_DISTRIBUTION}
    columns = ("name", "summary", "ControlNets>", "licence", "" if own else "provider")
    states = [_state(condition) for _, condition in loaded]
    for title, of in GROUPS.items():
        pairs = [pair for pair, state in zip(loaded, states, strict=True) if state in of]
        if pairs:
            rows = [(True, _cells(entry, condition, own)) for entry, condition in pairs]
            draw_table(title, columns, rows)
            emit([""])
    emit_page(["ControlNets: installed / known. More about one: cnctl conditions NAME"])


def _cells(entry: Entry, condition: Condition, own: bool) -> tuple[str, ...]:
    licence = condition.licence.strip() or "not stated"
    weights = known_weights(condition)
    installed = sum(_is_installed(known) for known in weights)
    provider = "" if own else entry.provider
    return (entry.name, entry.summary, f"{installed}/{len(weights)}", licence, provider)


def _is_installed(known: Weights) -> bool:
    from cnctl.commands.shared.cached import find_installed

    return find_installed(known) is not None


def _show(name: str, *, json: bool) -> None:
    from cnctl.registry import find_entry, look_at

    entry = look_at(find_entry(name))
    assert entry.condition
    if json:
        emit_json({"conditions": [_document(entry)]})
    else:
        emit_page(map(shown, _describe(entry, entry.condition)))


def _new(name: str, folder: Path, *, json: bool) -> None:
    from cnctl.commands.conditions.new import new_condition

    package = new_condition(name, folder=folder)
    if json:
        emit_json({"path": package})
    else:
        emit([package])
        note(f"next: pip install {_as_argument(package)} && cnctl conditions check {name}")


def _as_argument(folder: Path) -> str:
    """A folder as pip takes it: a bare name would be a package of an index."""
    import os
    import shlex

    return shlex.quote(str(folder) if folder.is_absolute() else os.path.join(".", folder))


def _check(names: list[str], image: Path | None, *, json: bool) -> None:
    from cnctl.commands.conditions.check import check_plugin
    from cnctl.images import read_image

    picture = None if image is None else read_image(image)
    problems: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            problems[name] = check_plugin(name, image=picture)
        except MissingError as error:
            problems[name], missing[name] = [], "; ".join(filter(None, [str(error), error.hint]))
    if json:
        rows = [
            {"name": name, "problems": problems[name], "missing": missing.get(name, "")}
            for name in problems
        ]
        emit_json({"conditions": rows})
    for name, found in problems.items():
        if not json:
            emit(f"{name}: {one_line(problem)}" for problem in found)
        if name in missing:
            note(f"cnctl: {missing[name]}; without it the detector of {name} is not checked")
        elif not found:
            note(f"{name} meets the contract")
    if any(problems.values()):
        raise typer.Exit(2)
    if missing:
        raise typer.Exit(MissingError.exit_code)


def _row(entry: Entry, condition: Condition) -> tuple[str, ...]:
    families = ", ".join(dict.fromkeys(one.family for one in known_weights(condition)))
    licence = condition.licence.strip() or "not stated"
    cells = (entry.name, entry.summary, licence, _state(condition), families or "none")
    return (*cells, entry.provider)


def _state(condition: Condition) -> str:
    """Whether the detector can run: "ready"; "missing" or "partly", where all or some of its
    files are not installed; "option", where one must be given.
    """
    installed = [_path(file) is not None for file in condition.files.values()]
    if not all(installed):
        return "partly" if any(installed) else "missing"
    needs_option = any(option.required for option in condition.options.values())
    return "option" if needs_option else "ready"


def _path(file: WeightFile) -> Path | None:
    from cnctl.hints.files import find_file

    try:
        return find_file(file)
    except CnctlError:  # it is another file than was published
        return None


def _describe(entry: Entry, condition: Condition) -> Iterator[str]:
    """All about one condition, as lines of text."""
    yield f"{condition.name}: {condition.summary}"
    yield ""
    yield f"provider       {entry.provider} ({entry.value})"
    yield f"licence        {condition.licence or 'not stated'}"
    yield f"hint channels  {condition.hint_channels}"
    metric = condition.metric
    yield f"fidelity       {metric if isinstance(metric, str) else metric.name}"
    yield f"base           {condition.base}"
    yield from _section("detector", [_file_line(file) for file in condition.files.values()])
    yield from _section(
        "options", _columns([_option_cells(n, o) for n, o in condition.options.items()])
    )
    yield from _section("training", list(_training_lines(condition)))
    generate = condition.generate
    yield from _section(
        "generation",
        [
            f"steps {generate.steps}, guidance scale {generate.guidance_scale:g}, "
            f"control scale {generate.control_scale:g}"
        ],
    )
    weights = _columns([_weights_cells(known) for known in known_weights(condition)])
    none = f"no released ControlNet reads these hints: cnctl train --cond {condition.name}"
    yield from _section("ControlNets", weights or [none])
    yield from _section("references", list(condition.references))
    palette = [(label, str(rgb)) for label, rgb in condition.palette.items()]
    yield from _section("palette", _columns(palette))


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def _weights_cells(known: Weights) -> tuple[str, ...]:
    from cnctl.models.published import listed_name

    return (
        listed_name(known),
        known.family,
        " ".join(filter(None, [known.licence, known.revision])),
    )


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The cells below each other, two blanks apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]


def _file_line(file: WeightFile) -> str:
    from cnctl.hints.files import describe

    terms = "" if file.commercial else "; not for commercial use"
    return f"{describe(file)}  {_path(file) or 'missing'}{terms}"


def _option_cells(name: str, option: Option) -> tuple[str, ...]:
    from cnctl.hints.options import describe_range

    return (f"{name}={_text(option.default)}", describe_range(option), option.help)


def _text(value: OptionValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _training_lines(condition: Condition) -> Iterator[str]:
    train = condition.train
    if train.recipe:
        yield train.recipe
    if train.start_from:
        yield (
            f"the paper starts from the ControlNet for {train.start_from}: "
            "cnctl train --init-from WEIGHTS does so"
        )
    if condition.training_options:
        yield "options are drawn at random for each image"
    if condition.augment:
        yield "hints are changed at random while training"
    yield (
        f"learning rate {train.learning_rate:g}, prompt dropout {train.prompt_dropout:g}, "
        f"resolution {train.resolution}"
    )


def _document(entry: Entry) -> dict[str, Any]:
    """The entry as JSON; what only a loaded condition knows is left out where it did not load."""
    from dataclasses import asdict

    about: dict[str, Any] = {
        "name": entry.name,
        "summary": entry.summary,
        "provider": entry.provider,
        "distribution": entry.distribution,
        "version": entry.version,
        "value": entry.value,
        "problem": entry.problem,
    }
    condition = entry.condition
    if condition is None:
        return about
    metric = condition.metric
    return about | {
        "licence": condition.licence,
        "files": {key: asdict(f) | {"path": _path(f)} for key, f in condition.files.items()},
        "options": {name: asdict(option) for name, option in condition.options.items()},
        "hint_channels": condition.hint_channels,
        "masked": condition.masked,
        "palette": dict(condition.palette),
        "train": asdict(condition.train),
        "generate": asdict(condition.generate),
        "metric": metric if isinstance(metric, str) else metric.name,
        "base": condition.base,
        "weights": [asdict(weights) for weights in known_weights(condition)],
        "references": list(condition.references),
    }
