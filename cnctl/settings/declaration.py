"""One declaration per setting: its type, default, help and range, in the annotation of its field.

    max_grad_norm: Annotated[float, Flag("Clip the gradient to this norm."), at_least(0)] = 0.0

The flag, the environment variable, the key of `cnctl.toml`, the check and the reference pages are
made from it. This module imports the standard library only.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from cnctl.errors import CnctlError


@dataclass(frozen=True)
class Flag:
    """What the command line says of a setting."""

    help: str
    names: tuple[str, ...] = ()
    """("--out", "-o"); () for the name of the field."""
    metavar: str | None = None
    default: str = "{}"
    """The default as help shows it; {} is the field's own, "" shows none."""
    variable: str | None = None
    """Environment variable that the command line reads for it."""
    repeat: bool = False
    """Whether it may be given several times, although the setting is one value."""
    former: str = ""
    """The setting's former name, which is accepted too."""


@dataclass(frozen=True)
class Limit:
    """What a value must be, in words, and whether one is."""

    must: str
    allows: Callable[[Any], bool]
    metavar: str | None = None
    """What help shows for a value, where that says enough."""
    symbols: str = ""
    """What help shows otherwise."""


def at_least(bound: float) -> Limit:
    return Limit(f"at least {bound:g}", lambda value: value >= bound, symbols=f"x>={bound:g}")


def at_most(bound: float) -> Limit:
    return Limit(f"at most {bound:g}", lambda value: value <= bound, symbols=f"x<={bound:g}")


def more_than(bound: float) -> Limit:
    return Limit(f"more than {bound:g}", lambda value: value > bound, symbols=f"x>{bound:g}")


def less_than(bound: float) -> Limit:
    words = "2^63" if bound == 2**63 else f"{bound:g}"
    return Limit(f"less than {words}", lambda value: value < bound, symbols=f"x<{words}")


def one_of(*choices: str) -> Limit:
    words = f"{', '.join(choices[:-1])} or {choices[-1]}"
    return Limit(words, lambda value: value in choices, metavar="|".join(choices))


def matches(pattern: str, words: str, *, metavar: str) -> Limit:
    """The whole value matches a regular expression, which `words` explain."""
    return Limit(words, lambda value: re.fullmatch(pattern, value) is not None, metavar=metavar)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One declared field of settings or of a request."""

    name: str
    type: type
    """Type of one value: bool, int, float, str or Path."""
    is_list: bool
    default: Any
    """`dataclasses.MISSING` where a value is required."""
    flag: Flag
    limits: tuple[Limit, ...]

    @property
    def option(self) -> str:
        """The flag as a person types it."""
        return self.flag.names[0] if self.flag.names else f"--{self.name.replace('_', '-')}"

    @property
    def former_option(self) -> str:
        """The flag under the setting's former name; "" without one."""
        return self.flag.former and f"--{self.flag.former.replace('_', '-')}"

    @property
    def must(self) -> str:
        """What a value must be, in words; "" for anything."""
        return " and ".join(limit.must for limit in self.limits)

    @property
    def metavar(self) -> str | None:
        """What help shows for a value; None for its type."""
        return self.flag.metavar or next((x.metavar for x in self.limits if x.metavar), None)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, where it is a choice; () else."""
        words = (self.metavar or "").split("|")
        is_choice = len(words) > 1 and self.type is str
        return tuple(word for word in words if word.islower()) if is_choice else ()

    @property
    def shown_default(self) -> str:
        """The default in words; "" where there is none to show."""
        is_none = self.default is None or self.default is False or self.default is MISSING
        own = "" if is_none or self.default in ("", (), []) else _plain(self.default)
        return self.flag.default.format(own)

    def check(self, value: Any, name: str) -> None:
        """Raise CnctlError that calls the setting `name` where a value is out of its range."""
        is_infinite = isinstance(value, float) and not math.isfinite(value)
        if is_infinite or not all(limit.allows(value) for limit in self.limits):
            raise out_of_range(name, value, self.must or "a finite number")


def out_of_range(name: str, value: Any, must: str) -> CnctlError:
    """The error that calls a setting `name` and says what its value must be."""
    return CnctlError(f"{name} is {value}; it must be {must}")


class Declared:
    """Settings or a request, checked by its declarations: one that exists is within its ranges."""

    def __post_init__(self) -> None:
        for name, setting in declarations(type(self)).items():
            value = getattr(self, name)
            if value is not None and not setting.is_list:
                setting.check(value, setting.option)


def declarations(kind: type) -> dict[str, Setting]:
    """The declared fields of a dataclass, by name and in order; fields without a Flag are not."""
    return _declarations(kind)


def with_current_names(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of settings of this kind, with former names replaced by current ones."""
    current = {s.flag.former: name for name, s in declarations(kind).items() if s.flag.former}
    return {current.get(name, name): value for name, value in values.items()}


@cache
def _declarations(kind: type) -> dict[str, Setting]:
    hints = get_type_hints(kind, include_extras=True)
    found = ((field.name, hints[field.name], field.default) for field in fields(kind))
    return {s.name: s for each in found if (s := declaration(*each)) is not None}


def declaration(name: str, annotation: Any, default: Any) -> Setting | None:
    """What an annotation declares, or None where it has no Flag."""
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    flag = next((mark for mark in marks if isinstance(mark, Flag)), None)
    if flag is None:
        return None
    of, is_list = _value_type(get_args(annotation)[0])
    limits = tuple(mark for mark in marks if isinstance(mark, Limit))
    return Setting(
        name=name,
        type=of,
        is_list=is_list,
        default=default,
        flag=flag,
        limits=limits,
    )


def _value_type(annotation: Any) -> tuple[type, bool]:
    """The first type of a union, and whether it is a sequence of them."""
    if get_origin(annotation) in (Union, types.UnionType):
        return _value_type(get_args(annotation)[0])
    if get_origin(annotation) in (list, tuple, Sequence):
        return _value_type(get_args(annotation)[0])[0], True
    return annotation, False


def _plain(value: object) -> str:
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
