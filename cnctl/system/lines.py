"""Text files: UTF-8, with or without a byte order mark, whose lines end at "\\n" alone."""

from __future__ import annotations

from pathlib import Path

from cnctl.errors import CnctlError, reading, shown

MARK = b"\xef\xbb\xbf"


def read_lines(path: str | Path) -> list[str]:
    """Return the lines of a file; CnctlError that names the file, and a line that is not UTF-8.

    U+2028, U+0085 and other characters at which `str.splitlines` cuts are part of a line.
    """
    with reading(path):
        data = Path(path).read_bytes()
    return split_lines(decode(data, path))


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, which end at "\\n" or "\\r\\n"."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def decode(data: bytes, name: str | Path) -> str:
    """Return UTF-8 text without its byte order mark; CnctlError names the line that is not."""
    try:
        return data.removeprefix(MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CnctlError(
            f"{shown(name)}, line {line}, is not UTF-8 text", hint="save it as UTF-8"
        ) from error


def as_text(text: str, name: str) -> str:
    """Return text of the command line or of JSON; CnctlError where UTF-8 cannot hold it.

    Bytes that Python has not decoded, as another encoding is set, are read as UTF-8.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise CnctlError(f"{name} is not UTF-8 text", hint="write it in UTF-8") from error


def is_utf8(text: str) -> bool:
    """Whether the text has no lone surrogate, which stands for a byte that could not be decoded."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
