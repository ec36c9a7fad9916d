"""Read image files upright and in sRGB.

Whatever a file holds, a function here returns arrays or raises one CnctlError that names the file
and what is wrong with it.
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

from cnctl.errors import CnctlError, reason, shown
from cnctl.images.bits import eight_bits

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 8192 * 8192
"""Refused before decoding: an 86 kB PNG can hold 88 million pixels."""
MAX_BYTES = 512 * 2**20

# Pillow reports oddities in a file through its loggers; what matters is raised.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_image(
    source: str | Path | bytes, *, name: str = "", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Return an image file, or the bytes of one, as RGB uint8 (H, W, 3) in sRGB, upright.

    EXIF orientation is applied, alpha is blended with white, an embedded ICC profile is applied
    (CMYK without one is converted plainly), 16 bits are scaled to 8, and of an
    animation the first frame is read. A broken profile or EXIF block is ignored, as browsers do.
    name: what messages call bytes.
    """
    data, found = _read_bytes(source)
    name = name or found
    with _decoded(data, name, max_pixels) as image:
        return _flatten(_to_srgb(_eight_bits(image, name)), background=255)


def count_frames(data: bytes, name: str) -> int:
    """Return how many frames, or pages, an image has; the first is read."""
    with _opened(data, name) as image:
        # The further frames of a photograph (MPO) are previews of it.
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def describe_frames(data: bytes, name: str) -> str:
    """Say in one line that of several frames the first is read; "" for an image with one."""
    frames = count_frames(data, name)
    return f"{name} has {frames} frames; the first is read" if frames > 1 else ""


def read_hint(source: str | Path | bytes, *, channels: int) -> np.ndarray:
    """Return a hint file, or the bytes of one, as uint8 (H, W, channels).

    The file is an image, or .npz with the array "hint".
    Grey of 16 bits is returned as uint16. Grey is repeated over the channels; grey that is stored
    as colour serves one channel. Four channels are colours and alpha; otherwise transparent pixels
    are 0, the value of "nothing here". Colours are not converted.
    """
    data, name = _read_bytes(source)
    hint = _read_npz(data, name) if data[:2] == b"PK" else _read_picture(data, name, channels)
    return _with_channels(hint, channels, name)


def read_hint_as_stored(path: str | Path | bytes) -> np.ndarray:
    """Return a hint file, or the bytes of one, as stored, (H, W, C): a picture as RGB uint8."""
    data, name = _read_bytes(path)
    return _read_npz(data, name) if data[:2] == b"PK" else read_image(data, name=name)


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file; CnctlError where it cannot be read or is too large."""
    return _read_bytes(path)[0]


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts that `write_image` and `write_hint` wrote into a file; {} if none."""
    data, name = _read_bytes(path)
    if data[:2] == b"PK":
        with _open_npz(data, name) as arrays:
            return json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
    with _opened(data, name) as image:
        texts = {str(key): value for key, value in image.info.items()}
    return {key: value for key, value in texts.items() if isinstance(value, str)}


def read_size(source: str | Path | bytes) -> tuple[int, int]:
    """Return (height, width) of an image as `read_image` returns it, from its header alone.

    Damage after the header is not detected.
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
        return False  # Pillow applies the orientation to `size` itself
    with contextlib.suppress(Exception):  # a broken EXIF block is ignored
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) >= 5)
    return False


def copied_suffix(data: bytes) -> str:
    """Return ".jpg", ".png" or ".webp" for a file that every reader shows as `read_image` does; ""
    for another format, or an image that only its EXIF orientation turns upright.
    """
    with _opened(data, "an image") as image:
        suffix = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}.get(str(image.format), "")
        with contextlib.suppress(Exception):  # a broken EXIF block is ignored
            if image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1):
                return ""
    return suffix


def read_values(source: str | Path | bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values of a file as they are stored: a map of a data set, not a picture.

    Of an .npy file its array; of an image its samples (H, W) or (H, W, C), unscaled, uint8 or
    uint16; of an image with a palette its indices, and with them the palette, uint8 (256, 3).
    """
    data, name = _read_bytes(source)
    if data.startswith(b"\x93NUMPY"):
        return _read_npy(data, name), None
    with _decoded(data, name, MAX_PIXELS) as image:
        values = np.array(image)
        stored = image.getpalette("RGB") if image.mode == "P" else None
    if stored is None:
        return values.astype(np.uint8) if values.dtype == bool else values, None
    colours = np.zeros((256, 3), np.uint8)  # an index may be beyond the palette's end
    colours[: len(stored) // 3] = np.array(stored, np.uint8).reshape(-1, 3)
    return values, colours


def _read_npy(data: bytes, name: str) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a header may be anything
        raise CnctlError(f"{name} is damaged: {str(error)[:120]}") from error


def _read_bytes(source: str | Path | bytes) -> tuple[bytes, str]:
    """Return the content and its name; it is read once, so what is checked is what is decoded."""
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
        return CnctlError(f"{name} is a folder, not an image file")
    return CnctlError(f"{name} cannot be read: {reason(error)}")


@contextlib.contextmanager
def _decoded(data: bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Yield the first frame, upright, in the mode that the file has."""
    with _opened(data, name) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _too_large(name, f"{width} x {height} pixels", max_pixels)
        with _silent_libtiff() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        with contextlib.suppress(Exception):  # a broken EXIF block is ignored
            ImageOps.exif_transpose(image, in_place=True)
        yield image


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


@contextlib.contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Yield Pillow's image of these bytes; everything that it raises becomes a CnctlError.

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


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Scale 16-bit grey: Pillow's own conversion clips it, and 99 % turns white."""
    if image.mode.startswith("I;16"):
        scaled = Image.fromarray(eight_bits(np.asarray(image, np.uint16)))
        scaled.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
        return scaled
    if image.mode in ("I", "F"):
        raise CnctlError(
            f"{name} has 32-bit samples, which have no defined black and white",
            hint="store it with 8 or 16 bits per channel",
        )
    return image


def _to_srgb(image: Image.Image) -> Image.Image:
    """Return RGB or RGBA in sRGB."""
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    colours = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
    converted = _apply_profile(colours, image.info.get("icc_profile")) or colours
    if converted.mode != "RGB":  # else it would be copied
        converted = converted.convert("RGB")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _apply_profile(image: Image.Image, icc: bytes | None) -> Image.Image | None:
    """Return `image` in sRGB, or None where the profile is absent, broken or already sRGB."""
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
    """Return RGB uint8 (H, W, 3), blended with the background where it is transparent."""
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
        raise CnctlError(f'{name} has no hint: the array "hint", uint8 (height, width, channels)')
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
