"""Read image files upright and in sRGB, or refuse them by name.

Whatever a file holds, a reader here returns plain uint8 arrays or raises one CnctlError that names
the file and says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import struct
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from cnctl.errors import CnctlError, shown
from cnctl.images.bits import eight_bits

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 8192 * 8192
"""Refused before decoding: an 86 kB PNG can hold 88 million pixels."""
MAX_BYTES = 512 * 2**20

# Pillow reports oddities in a file through its loggers; what matters is raised.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_image(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image file, or the bytes of one -> RGB uint8 (H, W, 3) in sRGB, upright.

    EXIF orientation is applied, alpha is laid over white, an embedded ICC profile is applied
    (CMYK without one is converted plainly), 16 bits are scaled to 8, the first frame of an
    animation is taken. A broken profile or EXIF block is ignored, as browsers do.
    """
    data, name = _read_bytes(source)
    with _decoded(data, name, max_pixels) as image:
        return _flatten(_to_srgb(_eight_bits(image, name)), background=255)


def read_hint(source: str | Path | bytes, *, channels: int) -> np.ndarray:
    """A hint file, or the bytes of one -> uint8 (H, W, channels): a picture, or .npz with "hint".

    Grey of 16 bits becomes uint16, in full. Grey repeats over the channels; grey stored as colour
    serves one channel. Four channels are colours and alpha; else what is transparent becomes 0, the
    value of "nothing here". Colours are taken as they are stored.
    """
    data, name = _read_bytes(source)
    hint = _read_npz(data, name) if data[:2] == b"PK" else _read_picture(data, name, channels)
    return _with_channels(hint, channels, name)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts that `write_image` and `write_hint` put into a file; {} where there are none."""
    data, name = _read_bytes(path)
    if data[:2] == b"PK":
        with _open_npz(data, name) as arrays:
            return json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
    with _opened(data, name) as image:
        texts = {str(key): value for key, value in image.info.items()}
    return {key: value for key, value in texts.items() if isinstance(value, str)}


def read_size(source: str | Path | bytes) -> tuple[int, int]:
    """(height, width) of an image as `read_image` would give it; no more than its header is read.

    Damage behind the header does not show here.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with _without_warnings(), Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            return (width, height) if _is_on_its_side(image) else (height, width)
    except Exception as error:
        data, name = _read_bytes(source)
        raise _refusal(data, name, error) from error


def _is_on_its_side(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return False  # Pillow itself tells the size that it will have
    with contextlib.suppress(Exception):  # a broken EXIF block is no reason to refuse
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) >= 5)
    return False


def read_values(source: str | Path | bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """The numbers of a file as they are stored: a data set's own map, which is no picture.

    .npy: its array. An image: (H, W) or (H, W, C) of its samples, unscaled, uint8 or uint16; where
    it has a palette, its indices, and with them the palette's colours, uint8 (256, 3).
    """
    data, name = _read_bytes(source)
    if data.startswith(b"\x93NUMPY"):
        return _read_npy(data, name), None
    with _decoded(data, name, MAX_PIXELS) as image:
        values = np.array(image)
        stored = image.getpalette("RGB") if image.mode == "P" else None
    if stored is None:
        return values.astype(np.uint8) if values.dtype == bool else values, None
    colours = np.zeros((256, 3), np.uint8)  # an index may lie behind the palette's end
    colours[: len(stored) // 3] = np.array(stored, np.uint8).reshape(-1, 3)
    return values, colours


def _read_npy(data: bytes, name: str) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a header may be anything
        raise CnctlError(f"{name} is damaged: {str(error)[:120]}") from error


def _read_bytes(source: str | Path | bytes) -> tuple[bytes, str]:
    """All bytes first: what is sniffed, checked and decoded is then one and the same content."""
    if isinstance(source, bytes):
        data, name = source, "standard input"
    else:
        name = shown(source)
        try:
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise _unreadable(name, error) from error
    if len(data) > MAX_BYTES:
        raise CnctlError(f"{name} is larger than {MAX_BYTES >> 20} MiB", hint="scale it down first")
    return data, name


def _unreadable(name: str, error: OSError | ValueError) -> CnctlError:
    if isinstance(error, FileNotFoundError):
        return CnctlError(f"{name}: no such file", hint="check the name")
    if isinstance(error, IsADirectoryError):
        return CnctlError(f"{name} is a folder; one image file is meant here")
    return CnctlError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}")


@contextlib.contextmanager
def _decoded(data: bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """The first frame, upright, in whatever mode the file has."""
    with _opened(data, name) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _too_large(name, f"{width} x {height} pixels", max_pixels)
        with _silent_libtiff() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        with contextlib.suppress(Exception):  # a broken EXIF block is no reason to refuse
            ImageOps.exif_transpose(image, in_place=True)
        yield image


@contextlib.contextmanager
def _silent_libtiff() -> Iterator[None]:
    """Keep libtiff quiet: it writes straight to file descriptor 2, between our own lines."""
    with _stderr_lock:
        try:
            kept = os.dup(2)
        except OSError:  # there is no stderr to protect
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


@contextlib.contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Pillow's image over these bytes; everything that it raises becomes a CnctlError.

    Fuzzing finds OSError, ValueError, SyntaxError, RuntimeError, KeyError, struct.error and more
    in its readers, hence `except Exception`.
    """
    try:
        with _without_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except CnctlError:
        raise
    except Exception as error:
        raise _refusal(data, name, error) from error


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _refusal(data: bytes, name: str, error: Exception) -> CnctlError:
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(name, "too many pixels", MAX_PIXELS)
    return _damaged(data, name, error)


def _too_large(name: str, size: str, max_pixels: int) -> CnctlError:
    limit = f"{max_pixels / 1e6:.0f} million"
    return CnctlError(f"{name} has {size}; the limit is {limit}", hint="scale it down first")


_SIGNATURES = (
    (b"\x89PNG", "PNG"), (b"\xff\xd8", "JPEG"), (b"BM", "BMP"), (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"),
)  # fmt: skip
_FOREIGN = (
    (b"%PDF", "a PDF document"), (b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "a gzip archive"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"), (b"8BPS", "a Photoshop document"),
    (b"\x93NUMPY", "a NumPy array"),
)  # fmt: skip


def _damaged(data: bytes, name: str, error: Exception) -> CnctlError:
    """What this file is, given that no image could be read from it."""
    if not data:
        return CnctlError(f"{name} is empty (0 bytes)")
    if data.startswith(b"version https://git-lfs"):
        return CnctlError(f"{name} is a git-lfs pointer, not the image", hint="run `git lfs pull`")
    kind = _kind(data)
    if kind not in FORMATS:
        wanted = f"give one of {', '.join(FORMATS)}"
        return CnctlError(f"{name} is {kind}, not an image that can be read here", hint=wanted)
    reason = " ".join(str(error).split())
    cut_short = isinstance(error, EOFError) or re.search("truncated|unexpected end", reason, re.I)
    if cut_short or _webp_is_short(data):
        return CnctlError(
            f"{name} is truncated: the {kind} data ends too early ({len(data)} bytes)"
        )
    return CnctlError(f"{name} is damaged: its {kind} data cannot be decoded ({_brief(reason)})")


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


def _brief(reason: str) -> str:
    return "its header makes no sense" if "cannot identify" in reason else reason[:120]


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """16-bit grey is scaled: Pillow's own conversion clips it, and 99 % turns white."""
    if image.mode.startswith("I;16"):
        scaled = Image.fromarray(eight_bits(np.asarray(image, np.uint16)))
        scaled.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
        return scaled
    if image.mode in ("I", "F"):
        raise CnctlError(
            f"{name} holds 32-bit numbers, for which no black and white are defined",
            hint="store it with 8 or 16 bits per channel",
        )
    return image


def _to_srgb(image: Image.Image) -> Image.Image:
    """RGB or RGBA in sRGB."""
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    colours = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
    converted = _apply_profile(colours, image.info.get("icc_profile")) or colours.convert("RGB")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _apply_profile(image: Image.Image, icc: bytes | None) -> Image.Image | None:
    """`image` in sRGB, or None where there is nothing to apply or the profile is broken."""
    if not icc:
        return None
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        profile = ImageCms.getOpenProfile(io.BytesIO(icc))
        if image.mode == "RGB" and _is_srgb(profile):
            return None  # an exact copy: a transform would move values by one
        return ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    return None


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    description = ImageCms.getProfileDescription(profile).lower()
    return "srgb" in description and "linear" not in description


def _flatten(image: Image.Image, *, background: int) -> np.ndarray:
    """RGB uint8 (H, W, 3), what is transparent blended with the background."""
    if image.mode != "RGBA":
        return np.array(image)
    below = Image.new("RGBA", image.size, (background, background, background, 255))
    return np.array(Image.alpha_composite(below, image).convert("RGB"))


def _read_picture(data: bytes, name: str, channels: int) -> np.ndarray:
    with _decoded(data, name, MAX_PIXELS) as image:
        if image.mode.startswith("I;16") and channels != 4:
            return np.asarray(image, np.uint16)[:, :, None]
        image = _eight_bits(image, name)
        if channels == 4:
            return np.array(image.convert("RGBA"))
        if image.mode == "L" and not image.has_transparency_data:
            return np.array(image)[:, :, None]
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return _flatten(image.convert(mode), background=0)


@contextlib.contextmanager
def _open_npz(data: bytes, name: str) -> Iterator[Mapping[str, np.ndarray]]:
    try:
        size = sum(item.file_size for item in zipfile.ZipFile(io.BytesIO(data)).infolist())
        if size > MAX_BYTES:
            raise CnctlError(f"{name} unpacks to more than {MAX_BYTES >> 20} MiB")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            yield arrays
    except CnctlError:
        raise
    except Exception as error:  # zipfile and numpy raise as many kinds as Pillow does
        raise CnctlError(f"{name} is damaged: {str(error)[:120]}") from error


def _read_npz(data: bytes, name: str) -> np.ndarray:
    with _open_npz(data, name) as arrays:
        hint = arrays.get("hint")
    if hint is None or hint.dtype not in (np.uint8, np.uint16) or hint.ndim != 3 or not hint.size:
        raise CnctlError(f'{name} holds no hint: the array "hint", uint8 (height, width, channels)')
    return hint


def _with_channels(hint: np.ndarray, channels: int, name: str) -> np.ndarray:
    stored = hint.shape[2]
    if stored == channels:
        return hint
    if stored == 1:
        return np.repeat(hint, channels, axis=2)
    if channels == 1 and (hint == hint[:, :, :1]).all():
        return hint[:, :, :1].copy()
    raise CnctlError(
        f"{name} has {stored} channels; a hint of this condition has {channels}",
        hint="make the hint with `cnctl annotate`",
    )
