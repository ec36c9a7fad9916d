"""Commands whose flags are the declared fields of settings and requests.

    @declares(TrainRequest, TrainSettings, panels={"Output": "out dry_run json quiet"})
    def train(cond: flags.Condition, given: Given, *, dry_run: Annotated[bool, Flag("...")] = False)

Typer sees one parameter for each declared field where `given` stands; the command gets them as
`given[TrainSettings]`: those that a person has given, by name. The command's own parameters may be
declared in the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import wraps
from typing import Annotated, Any, get_args

import typer

from cnctl.settings.declaration import Setting, declaration, declarations

Command = Callable[..., None]
Complete = Callable[[str], list[str]]
"""What a shell may put in place of a word that is begun."""
Given = Mapping[type, dict[str, Any]]
"""Values by kind and name, of the flags that were given."""


def declares(
    *kinds: type,
    part: Mapping[type, Sequence[str]] = {},
    panels: Mapping[str, str] = {},
    complete: Mapping[str, Complete] = {},
) -> Callable[[Command], Command]:
    """Give a command the flags of these kinds, and of the kinds in `part` those named.

    panels: title -> names of parameters, separated by blanks, as help groups and orders them.
    complete: name of a parameter -> its completion in shells.
    """
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

        parameters = _in_panels(_parameters(own, groups), panels)
        for each in parameters:
            if each.name in complete:
                get_args(each.annotation)[1].autocompletion = complete[each.name]
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


def _in_panels(
    parameters: Iterable[inspect.Parameter], panels: Mapping[str, str]
) -> list[inspect.Parameter]:
    """The parameters in the order of the panels; those in none come last, in the panel More."""
    titles = {name: title for title, names in panels.items() for name in names.split()}
    order = {name: number for number, name in enumerate(titles)}
    sorted_ = sorted(parameters, key=lambda each: order.get(each.name, len(order)))
    return [_in_panel(each, titles.get(each.name)) for each in sorted_]


def _in_panel(parameter: inspect.Parameter, title: str | None) -> inspect.Parameter:
    of, info = get_args(parameter.annotation)
    info = copy(info)  # commands share some
    info.rich_help_panel = title
    return parameter.replace(annotation=Annotated[of, info])


def _parameters(
    own: Mapping[str, inspect.Parameter], groups: Mapping[type, Mapping[str, Setting]]
) -> Iterator[inspect.Parameter]:
    for parameter in own.values():
        if parameter.name != "given":
            yield _own_parameter(parameter)
    for kind, group in groups.items():
        for setting in group.values():
            yield _parameter(setting, default=None, has_negation=hasattr(kind, "SECTION"))


def _own_parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    setting = declaration(parameter.name, parameter.annotation, parameter.default)
    if setting is None:  # in Typer's own words
        return parameter.replace(kind=parameter.KEYWORD_ONLY)
    return _parameter(setting, default=setting.default)


def _parameter(setting: Setting, *, default: Any, has_negation: bool = False) -> inspect.Parameter:
    is_list = setting.is_list or setting.flag.repeat
    value: Any = list[setting.type] if is_list else setting.type  # type: ignore[name-defined]
    option = typer.Option(
        *_flag_names(setting, has_negation=has_negation),
        help=_help(setting),
        metavar=setting.metavar or (f"<{setting.type.__name__.lower()}>" if is_list else None),
        envvar=setting.flag.variable,
        show_default=False,
        autocompletion=_complete_choice(setting.choices) if setting.choices else None,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[value | None, option],
    )


def _complete_choice(choices: tuple[str, ...]) -> Complete:
    return lambda incomplete: [each for each in choices if each.startswith(incomplete)]


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
