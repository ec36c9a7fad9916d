"""Frozen dataclasses as JSON, and back with every type checked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def to_json(value: Any) -> Any:
    """The dicts, lists and scalars that `json.dumps` takes; a field at its default is left out."""
    if is_dataclass(value):
        own = {field: getattr(value, field.name) for field in fields(value)}
        return {field.name: to_json(v) for field, v in own.items() if v != field.default}
    if isinstance(value, Mapping):
        return {name: to_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    return value


def from_json(kind: Any, value: Any, name: str = "the document") -> Any:
    """A value of the type `kind`: a dataclass, a mapping, a tuple, a union or a scalar.

    Raises ValueError, whose one sentence names the part that is missing, unknown or mistyped.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _read_object(kind, _checked(dict, value, name), name)
    if origin is tuple:
        values = _checked(list, value, name)
        kinds = [inner[0]] * len(values) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(values):
            raise ValueError(f"{name!r} does not have {len(kinds)} items")
        return tuple(from_json(k, v, name) for k, v in zip(kinds, values, strict=True))
    if origin in (Union, UnionType):
        return _read_union([one for one in inner if one is not NoneType], value, name)
    if origin is not None:  # a mapping
        return {k: from_json(inner[1], v, k) for k, v in _checked(dict, value, name).items()}
    return _checked(kind, value, name)


def _read_object(kind: Any, document: Mapping[str, Any], name: str) -> Any:
    types = get_type_hints(kind)
    needed = {f.name for f in fields(kind) if f.default is MISSING}
    for lacking in sorted(needed - document.keys()):
        raise ValueError(f"{name!r} lacks {lacking!r}")
    for unknown in sorted(document.keys() - types.keys()):
        raise ValueError(f"{name!r} has an unknown {unknown!r}")
    return kind(**{key: from_json(types[key], value, key) for key, value in document.items()})


def _read_union(kinds: list[Any], value: Any, name: str) -> Any:
    for kind in kinds[:-1]:
        with suppress(ValueError):
            return from_json(kind, value, name)
    return from_json(kinds[-1], value, name)


def _checked(kind: type, value: Any, name: str) -> Any:
    """The value if it is of this type; a whole number is a float too, a truth value no number."""
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        raise ValueError(f"{name!r} is {value!r:.40}, which is not of type {kind.__name__}")
    return value
