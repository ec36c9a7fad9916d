"""The options of a condition's detector: read from text, checked, and described in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real

import numpy as np

from cnctl.errors import CnctlError
from cnctl.plugin import Condition, Option, OptionValue

TRUE = {"true", "yes", "1", "on"}
FALSE = {"false", "no", "0", "off"}


def parse_options(condition: Condition, assignments: Sequence[str]) -> dict[str, OptionValue]:
    """["radius=4", ...] -> {"radius": 4, ...}, checked; options not named are left out."""
    parsed: dict[str, OptionValue] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise CnctlError(
                f"{condition.name}: option {assignment!r} has no value",
                hint=f"write it as {name or 'name'}=value",
            )
        option = _known_option(condition, name)
        parsed[name] = _checked_value(condition, name, value=_from_text(option, text))
    return parsed


def check_options(
    condition: Condition, options: Mapping[str, OptionValue]
) -> dict[str, OptionValue]:
    """All options of the condition: these, checked, over its defaults."""
    defaults = {name: option.default for name, option in condition.options.items()}
    given = {name: _checked_value(condition, name, value=value) for name, value in options.items()}
    return defaults | given


def describe_range(option: Option) -> str:
    """The values that an option accepts: "1 to 255", "one of a, b"; "" without a limit."""
    if option.required:
        return "required"
    if option.choices:
        return "one of " + ", ".join(map(str, option.choices))
    if option.minimum is not None and option.maximum is not None:
        return f"{option.minimum:g} to {option.maximum:g}"
    if option.minimum is not None:
        return f"at least {option.minimum:g}"
    return "" if option.maximum is None else f"at most {option.maximum:g}"


def _known_option(condition: Condition, name: str) -> Option:
    if name in condition.options:
        return condition.options[name]
    known = ", ".join(condition.options)
    near = get_close_matches(name, condition.options, n=1)
    guess = f"; nearest is {near[0]!r}" if near else ""
    raise CnctlError(
        f"{condition.name} has no option {name!r}{guess}",
        hint=f"its options: {known}" if known else f"{condition.name} takes no options",
    )


def _from_text(option: Option, text: str) -> OptionValue:
    """The text as the option's type, or the text itself where it does not read as one."""
    kind = type(option.default)
    if kind is bool:
        return {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text


def _checked_value(condition: Condition, name: str, *, value: object) -> OptionValue:
    option = _known_option(condition, name)
    typed = _as_type(type(option.default), value)
    if typed is None:
        wanted = "true or false" if isinstance(option.default, bool) else _kind(option.default)
        raise _bad_value(condition, name, value=value, wanted=wanted)
    if not _is_in_range(option, typed):
        raise _bad_value(condition, name, value=value, wanted=_must_be(option))
    return typed


def _must_be(option: Option) -> str:
    between = option.minimum is not None and option.maximum is not None
    return describe_range(option) + ", ends included" * between


def _is_in_range(option: Option, value: OptionValue) -> bool:
    if option.choices and value not in option.choices:
        return False
    if isinstance(value, bool | str):
        return True
    low = -math.inf if option.minimum is None else option.minimum
    high = math.inf if option.maximum is None else option.maximum
    return low <= value <= high


def _as_type(kind: type, value: object) -> OptionValue | None:
    """The value as this very type, also from numpy's; None where it is of another type."""
    if kind is bool or isinstance(value, bool | np.bool_):
        return bool(value) if kind is bool and isinstance(value, bool | np.bool_) else None
    if kind is int and isinstance(value, Integral):
        return int(value)
    if kind is float and isinstance(value, Real) and math.isfinite(value):
        return float(value)
    return value if kind is str and isinstance(value, str) else None


def _kind(default: OptionValue) -> str:
    return {int: "a whole number", float: "a number"}.get(type(default), "text")


def _bad_value(condition: Condition, name: str, *, value: object, wanted: str) -> CnctlError:
    default = condition.options[name].default
    return CnctlError(
        f"{condition.name}: option {name} is {value!r}; it must be {wanted}",
        hint=f"the default is {name}={default}",
    )
