"""What a file is, in words, that no image could be read from."""

from __future__ import annotations

import contextlib
import re
import struct

from cnctl.errors import CnctlError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


def describe_damage(data: bytes, name: str, error: Exception) -> CnctlError:
    """Return what this file is, given that no image could be read from it."""
    if not data:
        return CnctlError(f"{name} is empty (0 bytes)")
    if data.startswith(b"version https://git-lfs"):
        return CnctlError(f"{name} is a git-lfs pointer, not the image", hint="run `git lfs pull`")
    kind = _kind(data)
    if kind not in FORMATS:
        wanted = f"give one of {', '.join(FORMATS)}"
        return CnctlError(f"{name} is {kind}, not an image in a supported format", hint=wanted)
    text = " ".join(str(error).split())
    cut_short = isinstance(error, EOFError) or re.search("truncated|unexpected end", text, re.I)
    if cut_short or _webp_is_short(data):
        return CnctlError(
            f"{name} is truncated: the {kind} data ends too early ({len(data)} bytes)"
        )
    return CnctlError(f"{name} is damaged: its {kind} data cannot be decoded ({_brief(text)})")


_SIGNATURES = (
    (b"\x89PNG", "PNG"), (b"\xff\xd8", "JPEG"), (b"BM", "BMP"), (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"),
)  # fmt: skip
_FOREIGN = (
    (b"%PDF", "a PDF document"), (b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "a gzip archive"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"), (b"8BPS", "a Photoshop document"),
    (b"\x93NUMPY", "a NumPy array"),
)  # fmt: skip


def _kind(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return "an AVIF or HEIC image or a video"
    for start, kind in (*_SIGNATURES, *_FOREIGN):
        if data.startswith(start):
            return kind
    head = data[:1024]
    if re.match(rb"\s*(<!doctype html|<html)", head, re.I):
        return "an HTML page"
    return "a file of unknown format" if b"\0" in head or not _is_text(head) else "a text file"


def _is_text(head: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        head[:-3].decode("utf-8")  # the cut may lie inside a character
        return True
    return False


def _webp_is_short(data: bytes) -> bool:
    """Pillow says only "could not create decoder object"; the RIFF header knows the length."""
    if _kind(data) != "WEBP":
        return False
    return len(data) < struct.unpack("<I", data[4:8])[0] + 8


def _brief(text: str) -> str:
    return "its header is invalid" if "cannot identify" in text else text[:120]
