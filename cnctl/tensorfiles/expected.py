"""Hold the tensors of a file to the names, shapes and dtypes that are expected of it."""

from __future__ import annotations

from collections.abc import Mapping

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import Shape, TensorSpec

FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


def check(shapes: Mapping[str, Shape], expected: Mapping[str, Shape]) -> None:
    """Hold a file's tensors to the expected ones; the error names those that differ."""
    missing = [name for name in expected if name not in shapes]
    extra = [name for name in shapes if name not in expected]
    misshapen = [
        f"{name} is {list(shapes[name])}, not {list(expected[name])}"
        for name in expected
        if name in shapes and tuple(shapes[name]) != tuple(expected[name])
    ]
    for what, names in (("missing", missing), ("unknown", extra), ("misshapen", misshapen)):
        if names:
            raise CnctlError(
                f"{len(names)} tensor{'s' * (len(names) > 1)} {what}: {first_few(names)}",
                hint="nothing was converted; get a complete file, or report what made this one",
            )


def check_dtypes(tensors: Mapping[str, TensorSpec]) -> None:
    """CnctlError names a tensor that holds no floating numbers."""
    for name, spec in tensors.items():
        if spec.dtype not in FLOATS:
            raise CnctlError(
                f"{name} has dtype {spec.dtype}, not a floating one",
                hint="quantised files are not read; get the original weights",
            )


def first_few(names: list[str], count: int = 5) -> str:
    """Names for an error line: a few, printable, none of them endless."""
    shown = ", ".join(name.encode("unicode_escape").decode()[:120] for name in names[:count])
    return shown + (", ..." if len(names) > count else "")
