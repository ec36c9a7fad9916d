"""Commands whose flags are the declared fields of settings and requests.

    @declares(TrainRequest, TrainSettings)
    def train(cond: flags.Condition, given: Given, *, dry_run: Annotated[bool, Flag("...")] = False)

Typer sees one parameter for each declared field where `given` stands; the command gets them as
`given[TrainSettings]`: those that a person has given, by name. The command's own parameters may be
declared in the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from cnctl.settings.declaration import Setting, declaration, declarations

Command = Callable[..., None]
Given = Mapping[type, dict[str, Any]]
"""Values by kind and name, of the flags that were given."""


def declares(*kinds: type, part: Mapping[type, Sequence[str]] = {}) -> Callable[[Command], Command]:
    """Give a command the flags of these kinds, and of the kinds in `part` those named."""
    groups = {kind: declarations(kind) for kind in kinds}
    for kind, names in part.items():
        groups[kind] = {name: declarations(kind)[name] for name in names}

    def decorate(command: Command) -> Command:
        own = dict(inspect.signature(command, eval_str=True).parameters)

        @wraps(command)
        def run(**values: Any) -> None:
            for group in (_declared(own), *groups.values()):
                _check(group, values)
            given = {kind: _given(group, values) for kind, group in groups.items()}
            command(given=given, **{name: values[name] for name in own if name in values})

        parameters = _in_order([*_runs(own, groups)])
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _declared(own: Mapping[str, inspect.Parameter]) -> dict[str, Setting]:
    settings = (declaration(each.name, each.annotation, each.default) for each in own.values())
    return {setting.name: setting for setting in settings if setting is not None}


def _check(group: Mapping[str, Setting], values: Mapping[str, Any]) -> None:
    for name in _given(group, values):
        for value in values[name] if isinstance(values[name], list) else [values[name]]:
            group[name].check(value, group[name].option)


def _given(group: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in group if values[name] not in (None, [])}


@dataclass
class _Run:
    """Parameters that follow each other, after another one or where they stand."""

    after: str
    parameters: list[inspect.Parameter]


def _runs(
    own: Mapping[str, inspect.Parameter], groups: Mapping[type, Mapping[str, Setting]]
) -> Iterator[_Run]:
    names = {*own, *(name for group in groups.values() for name in group)}
    for parameter in own.values():
        if parameter.name == "given":
            for kind, group in groups.items():
                yield from _runs_of(group, names, is_settings=hasattr(kind, "SECTION"))
        else:
            yield _own_run(parameter)


def _runs_of(group: Mapping[str, Setting], names: set[str], *, is_settings: bool) -> Iterator[_Run]:
    run = _Run("", [])
    for setting in group.values():
        if setting.after in names:
            yield run
            run = _Run(setting.after, [])
        run.parameters.append(_parameter(setting, default=None, has_negation=is_settings))
    yield run


def _own_run(parameter: inspect.Parameter) -> _Run:
    setting = declaration(parameter.name, parameter.annotation, parameter.default)
    if setting is None:  # in Typer's own words
        return _Run("", [parameter.replace(kind=parameter.KEYWORD_ONLY)])
    return _Run(setting.after, [_parameter(setting, default=setting.default)])


def _in_order(runs: list[_Run]) -> list[inspect.Parameter]:
    ordered: list[inspect.Parameter] = []
    while runs:
        names = [parameter.name for parameter in ordered]
        run = next(run for run in runs if not run.after or run.after in names)
        at = names.index(run.after) + 1 if run.after else len(names)
        ordered[at:at] = run.parameters
        runs.remove(run)
    return ordered


def _parameter(setting: Setting, *, default: Any, has_negation: bool = False) -> inspect.Parameter:
    is_list = setting.is_list or setting.flag.repeat
    value: Any = list[setting.type] if is_list else setting.type  # type: ignore[name-defined]
    option = typer.Option(
        *_flag_names(setting, has_negation=has_negation),
        help=_help(setting),
        metavar=setting.metavar,
        envvar=setting.flag.variable,
        show_default=False,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[value | None, option],
    )


def _flag_names(setting: Setting, *, has_negation: bool) -> tuple[str, ...]:
    """The names that Typer is given; with none, it adds its negation to a switch."""
    if setting.flag.names:
        return setting.flag.names
    if setting.former_option:
        return setting.option, setting.former_option
    return () if has_negation or setting.type is not bool else (setting.option,)


def _help(setting: Setting) -> str:
    default = setting.shown_default and f"default: {setting.shown_default}"
    range_ = ", ".join(limit.symbols for limit in setting.limits if limit.symbols)
    notes = "; ".join(filter(None, (default, range_)))
    return setting.flag.help + (f"  [{notes}]" if notes else "")
