"""Open image files: whatever one holds, it is opened, or one CnctlError says what is wrong."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from cnctl.errors import CnctlError, reason, shown
from cnctl.images.damage import FORMATS, describe_damage

MAX_PIXELS = 8192 * 8192
"""Refused before decoding: an 86 kB PNG can hold 88 million pixels."""
MAX_BYTES = 512 * 2**20

# Pillow reports oddities in a file through its loggers; what matters is raised.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file; CnctlError where it cannot be read or is too large."""
    return read_named(path)[0]


def read_named(source: str | Path | bytes) -> tuple[bytes, str]:
    """Return the content and its name; it is read once, so what is checked is what is decoded."""
    if isinstance(source, bytes):
        data, name = source, "standard input"
    else:
        name = shown(source)
        _refuse_named_pipe(source, name)
        try:
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise _unreadable(name, error) from error
    if len(data) > MAX_BYTES:
        raise CnctlError(f"{name} is larger than {MAX_BYTES >> 20} MiB", hint="scale it down first")
    return data, name


@contextlib.contextmanager
def decoded(data: bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Yield the first frame, upright, in the mode that the file has."""
    with opened(data, name) as image:
        load(image, name, max_pixels)
        turn_upright(image)
        yield image


def load(image: Image.Image, name: str, max_pixels: int) -> None:
    """Decode the first frame; CnctlError where it has more pixels than these."""
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(name, f"{width} x {height} pixels", max_pixels)
    with _silent_libtiff() if image.format == "TIFF" else contextlib.nullcontext():
        image.load()


def turn_upright(image: Image.Image) -> None:
    """Apply the EXIF orientation, in place."""
    with contextlib.suppress(Exception):  # a broken EXIF block is ignored
        ImageOps.exif_transpose(image, in_place=True)


@contextlib.contextmanager
def opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Yield Pillow's image of these bytes; everything that it raises becomes a CnctlError.

    Fuzzing finds OSError, ValueError, SyntaxError, RuntimeError, KeyError, struct.error and more
    in its readers, hence `except Exception`.
    """
    try:
        with without_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except CnctlError:
        raise
    except Exception as error:
        raise refusal(data, name, error) from error


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def refusal(data: bytes, name: str, error: Exception) -> CnctlError:
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(name, "too many pixels", MAX_PIXELS)
    return describe_damage(data, name, error)


def _refuse_named_pipe(path: str | Path, name: str) -> None:
    """Reading one in a folder would never end; those that a shell makes, in /dev/fd, are read."""
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISFIFO(os.stat(path).st_mode) and Path(path).parts[:2] != ("/", "dev"):
            raise CnctlError(
                f"{name} is a named pipe, not an image file", hint="write its content to a file"
            )


def _unreadable(name: str, error: OSError | ValueError) -> CnctlError:
    if isinstance(error, FileNotFoundError):
        return CnctlError(f"{name}: no such file", hint="check the name")
    if isinstance(error, IsADirectoryError):
        return CnctlError(f"{name} is a folder, not an image file")
    return CnctlError(f"{name} cannot be read: {reason(error)}")


def _too_large(name: str, size: str, max_pixels: int) -> CnctlError:
    limit = f"{max_pixels / 1e6:.0f} million"
    return CnctlError(f"{name} has {size}; the limit is {limit}", hint="scale it down first")


@contextlib.contextmanager
def _silent_libtiff() -> Iterator[None]:
    """Keep libtiff quiet: it writes straight to file descriptor 2, between our own lines."""
    with _stderr_lock:
        try:
            kept = os.dup(2)
        except OSError:  # stderr is closed
            yield
            return
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


_stderr_lock = threading.Lock()
