"""Write images and hints; each file appears whole or not at all."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from cnctl.errors import CnctlError, OutputError, OutputExists, reading, shown, writing
from cnctl.system.atomic import atomic_file, temporary_name
from cnctl.system.rename import NameTaken

FAST = {"compress_level": 1, "compress_type": zlib.Z_RLE}
"""Level of the PNG of hints, whose flat areas do not become smaller at higher levels."""


def write_image(
    path: str | Path,
    image: np.ndarray,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as PNG, JPEG or WEBP, by suffix; or
    uint16 (H, W, 1) as PNG.

    metadata: PNG text by key; in JPEG and WEBP the text "parameters" (or all as JSON) becomes
    the EXIF user comment. Raises OutputError as `write_file` does.
    """
    write_file(path, encode_image(image, Path(path).suffix, metadata or {}), overwrite=overwrite)


def encode_image(image: np.ndarray, suffix: str, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes that `write_image` writes for a file of this suffix."""
    return _encode(image, _save_settings(suffix, metadata))


def write_hint(
    path: str | Path,
    hint: np.ndarray,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write uint8 (H, W, C), or uint16 whose channels are equal, without loss.

    The suffix must be `hint_suffix(C)`.
    """
    suffix = hint_suffix(hint.shape[2])
    if Path(path).suffix.lower() != suffix:
        raise CnctlError(
            f"a hint of {hint.shape[2]} channels is stored as {suffix}, not as {shown(path)}",
            hint=f"name it {shown(Path(path).with_suffix(suffix))}; other formats change the hint",
        )
    write_file(path, encode_hint(hint, metadata or {}), overwrite=overwrite)


def encode_hint(hint: np.ndarray, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes that `write_hint` writes: PNG for 1, 3 or 4 channels, else .npz.

    Three equal channels are stored as one, which every reader repeats.
    """
    if hint_suffix(hint.shape[2]) != ".png":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, hint=hint, metadata=np.array(json.dumps(dict(metadata))))
        return buffer.getvalue()
    first = hint[:, :, :1]
    is_grey = hint.shape[2] == 1 or (hint.shape[2] == 3 and _has_equal_channels(hint))
    stored = np.ascontiguousarray(first) if is_grey else hint
    if metadata:
        return _encode(stored, {**_save_settings(".png", metadata), **FAST})
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    picture = stored if is_grey else cv2.cvtColor(stored, codes[hint.shape[2]])
    return cv2.imencode(".png", picture)[1].tobytes()  # a third of Pillow's time; takes no text


def _has_equal_channels(hint: np.ndarray) -> bool:
    first, *others = cv2.split(hint)  # comparing the interleaved ones takes ten times as long
    return all(np.array_equal(first, other) for other in others)


def hint_suffix(channels: int) -> str:
    """Return the suffix of a lossless hint file with this many channels."""
    return ".png" if channels in (1, 3, 4) else ".npz"


def write_file(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file whole or not at all, and create the folders above it.

    Raises OutputExists when it exists and `overwrite` is false, also where another process has
    written it meanwhile; OutputError when it cannot be written. Whatever is raised, a signal's
    exception too, no partial file is left.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    with writing(path):
        try:
            with atomic_file(path, overwrite=overwrite) as file:
                file.write(data)
        except NameTaken:
            raise _exists(path) from None


def write_same(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file as `write_file` does, or leave it where it has this very content.

    For what an interrupted run may have written before. Raises OutputExists where it has another.
    """
    try:
        write_file(path, data, overwrite=overwrite)
    except OutputExists:
        with reading(path):
            if Path(path).read_bytes() == data:
                return
        raise


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise OutputError if `write_file` would refuse this path, before any work is done."""
    path = Path(path)
    with writing(path):
        if path.exists() and not path.is_file():
            raise OutputError(f"{shown(path)} is not a regular file", hint="choose another -o")
        if path.exists() and not overwrite:
            raise _exists(path)


def check_folder(folder: str | Path) -> None:
    """Raise OutputError if this folder, which need not exist yet, cannot be written to."""
    folder = Path(folder)
    with writing(folder):
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        probe = existing / temporary_name()
        probe.touch(exist_ok=False)
        probe.unlink()


def _exists(path: Path) -> OutputExists:
    return OutputExists(f"{shown(path)} exists already", hint="--overwrite replaces it")


def _encode(image: np.ndarray, settings: Mapping[str, Any]) -> bytes:
    picture = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    buffer = io.BytesIO()
    picture.save(buffer, **settings)
    return buffer.getvalue()


def _save_settings(suffix: str, metadata: Mapping[str, str]) -> dict:
    match suffix.lower():
        case ".png":
            return {"format": "PNG", "pnginfo": _png_texts(metadata)}
        case ".jpg" | ".jpeg":
            return {"format": "JPEG", "quality": 95, "exif": _user_comment(metadata)}
        case ".webp":
            return {"format": "WEBP", "quality": 95, "exif": _user_comment(metadata)}
    raise CnctlError(
        f"images are not written as {suffix or 'a file without suffix'}",
        hint="use .png, .jpg or .webp",
    )


def _png_texts(metadata: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, text in metadata.items():
        info.add_text(key, _encodable(text))
    return info


def _user_comment(metadata: Mapping[str, str]) -> Image.Exif:
    exif = Image.Exif()
    if metadata:
        text = metadata.get("parameters") or json.dumps(dict(metadata))
        comment = b"UNICODE\0" + _encodable(text).encode("utf-16-be")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif


def _encodable(text: str) -> str:
    r"""The text with lone surrogates, which stand for a file name's bytes that are not UTF-8, as
    \udcff: this is how JSON writes them, so a name in a record is read back as it was.
    """
    return text.encode("utf-8", "backslashreplace").decode()
