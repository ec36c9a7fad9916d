"""Errors that a user can fix: one sentence, what to do next, and the exit code."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class CnctlError(Exception):
    """Bad input. The command line prints the sentence and the hint, never a traceback.

    message: one sentence that names the thing at fault. hint: what to do next, or "".
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SomeInputsFailed(CnctlError):
    """Some inputs of a batch failed; the others are done, and each failure was reported."""

    exit_code = 3


class MissingError(CnctlError):
    """Weights, an optional package is not installed, or the network cannot be reached."""

    exit_code = 4


class DeviceError(CnctlError):
    """The device is absent, or its memory is too small."""

    exit_code = 5


class OutputError(CnctlError):
    """The output could not be written: it exists, is read-only, or the disk is full."""

    exit_code = 6


class OutputExists(OutputError):
    """Something has the name of the output already, perhaps since a moment ago."""


class ReportedByOtherRank(CnctlError):
    """Another process of this run has failed and reports it; this one only ends with its code."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def writing(path: str | Path, *, hint: str = "") -> Iterator[None]:
    """Raise OutputError that names the path and the reason where the block raises OSError."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error, hint=hint) from error


def write_error(path: str | Path, error: OSError, *, hint: str = "") -> OutputError:
    """Return the error that says why the path cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    usual = "free some space, then run the same command again" if full else "choose another -o"
    why = "the disk is full" if full else reason(error)
    return OutputError(f"{shown(path)} cannot be written: {why}", hint=hint or usual)


@contextmanager
def reading(path: str | Path, *, hint: str = "") -> Iterator[None]:
    """Raise CnctlError that names the path and the reason where it cannot be read as UTF-8."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise CnctlError(f"{shown(path)} cannot be read: {reason(error)}", hint=hint) from error


def reason(error: Exception) -> str:
    """What the system says of an error, in words that can stand inside a sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def shown(path: str | Path) -> str:
    """Return a file name for one line of a terminal: control characters and bad bytes escaped."""
    text = os.fspath(path)
    with suppress(UnicodeEncodeError):  # what Python left undecoded may be UTF-8, as with LC_ALL=C
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """Return any text as one line for a terminal: blanks joined, control characters escaped."""
    return shown(" ".join(text.split()))


def counted(number: int, noun: str) -> str:
    """Return "1 image", or "3 images"."""
    return f"{number} {noun}" + "s" * (number != 1)


def describe_error(error: BaseException) -> str:
    """Return the kind of an exception and what it says, in one line."""
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
