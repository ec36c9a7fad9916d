"""Image files: find, read upright and in sRGB, fit, write whole or not at all.

The only module that touches image files. Whatever a file holds, a reader here returns plain
uint8 arrays or raises one CnctlError that names the file and says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import itertools
import json
import logging
import os
import re
import secrets
import struct
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from cnctl.errors import CnctlError, OutputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_PIXELS = 8192 * 8192
"""Refused before decoding: an 86 kB PNG can hold 88 million pixels."""
MAX_BYTES = 512 * 2**20

Resize = Literal["stretch", "crop", "fill"]

# Pillow reports oddities in a file through its loggers; what matters is raised.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class ImageFile:
    """One input. `relative` is where it lies below the folder that was asked for."""

    path: Path
    relative: Path


def find_images(inputs: Iterable[str | Path]) -> list[ImageFile]:
    """The image files among files, folders and quoted globs, each path once, in natural order.

    Folders are searched to the bottom; hidden names and links to folders are passed over, as
    `find` and git do, so a link loop is harmless. A file named outright is taken whatever its
    suffix. Raises CnctlError for a missing input or a folder without images.
    """
    found = [image for item in inputs for image in _find_below(str(item))]
    unique = {os.path.abspath(image.path): image for image in reversed(found)}
    return [image for image in found if unique.pop(os.path.abspath(image.path), None)]


def read_image(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image file, or the bytes of one -> RGB uint8 (H, W, 3) in sRGB, upright.

    EXIF orientation is applied, alpha is laid over white, an embedded ICC profile is applied
    (CMYK without one is converted plainly), 16 bits are scaled to 8, the first frame of an
    animation is taken. A broken profile or EXIF block is ignored, as browsers do.
    """
    data, name = _read_bytes(source)
    with _decoded(data, name, max_pixels) as image:
        return _flatten(_to_srgb(_eight_bits(image, name)), background=255)


def read_hint(path: str | Path, *, channels: int) -> np.ndarray:
    """A hint file -> uint8 (H, W, channels): a picture, or an .npz with the array "hint".

    Grey repeats over the channels; grey stored as colour serves one channel. What is
    transparent becomes 0, the value of "nothing here". Colours are taken as they are stored.
    """
    data, name = _read_bytes(path)
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


def working_size(height: int, width: int, *, resolution: int, multiple: int = 8) -> tuple[int, int]:
    """(height, width) with the short side at `resolution`, the aspect kept, and each side rounded
    to a multiple. Raises CnctlError where that is too large to work on (a sliver may be).
    """
    scale = resolution / min(height, width)
    rows, columns = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    if rows * columns > MAX_PIXELS:
        raise CnctlError(
            f"a {width} x {height} image would become {columns} x {rows} at resolution "
            f"{resolution}; the limit is {MAX_PIXELS / 1e6:.0f} million pixels",
            hint="crop it, or choose a smaller --resolution",
        )
    return rows, columns


def fit_image(
    image: np.ndarray, *, size: tuple[int, int], resize: Resize = "stretch", nearest: bool = False
) -> np.ndarray:
    """(H, W, C) or (H, W) -> the same dtype and channels at `size` = (height, width).

    "stretch" changes the aspect, "crop" keeps it and cuts what stands over at both ends,
    "fill" keeps it and surrounds the image with 0. `nearest` invents no values (palettes).
    """
    if resize == "stretch":
        return _resize(image, size, nearest)
    height, width = image.shape[:2]
    scales = size[0] / height, size[1] / width
    scale = max(scales) if resize == "crop" else min(scales)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    return _center(_resize(image, inner, nearest), size)


def fit_hint(
    hint: np.ndarray, *, size: tuple[int, int], resize: Resize = "stretch", palette: bool = False
) -> np.ndarray:
    """`fit_image` for a hint, uint8 (H, W, C): a palette keeps its colours, and a hint of 0 and 255
    alone stays one. A line of one pixel that is shrunk would else fade to grey, and a network that
    was trained on white lines does not see it.
    """
    fitted = fit_image(hint, size=size, resize=resize, nearest=palette)
    if palette or not np.isin(hint, (0, 255)).all():
        return fitted
    scale = min(1.0, size[0] / hint.shape[0], size[1] / hint.shape[1])
    return np.where(fitted >= 255 * scale / 2, np.uint8(255), np.uint8(0))


def write_image(
    path: str | Path,
    image: np.ndarray,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as PNG, JPEG or WEBP, by suffix.

    metadata: PNG text by key; in JPEG and WEBP the text "parameters" (or all as JSON) becomes
    the EXIF user comment. Raises OutputError as `write_file` does.
    """
    write_file(path, encode_image(image, Path(path).suffix, metadata or {}), overwrite=overwrite)


def encode_image(image: np.ndarray, suffix: str, metadata: Mapping[str, str]) -> bytes:
    """The bytes that `write_image` writes for a file of this suffix."""
    settings = _save_settings(suffix, metadata)
    picture = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    buffer = io.BytesIO()
    picture.save(buffer, **settings)
    return buffer.getvalue()


def write_hint(
    path: str | Path,
    hint: np.ndarray,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write uint8 (H, W, C) without loss; the suffix must be `hint_suffix(C)`."""
    suffix = hint_suffix(hint.shape[2])
    if Path(path).suffix.lower() != suffix:
        raise CnctlError(
            f"a hint of {hint.shape[2]} channels is stored as {suffix}, not as {shown(path)}",
            hint=f"name it {shown(Path(path).with_suffix(suffix))}; other formats change the hint",
        )
    write_file(path, encode_hint(hint, metadata or {}), overwrite=overwrite)


def encode_hint(hint: np.ndarray, metadata: Mapping[str, str]) -> bytes:
    """The bytes that `write_hint` writes: PNG, or .npz where PNG has no such channel count."""
    if hint_suffix(hint.shape[2]) == ".png":
        return encode_image(hint, ".png", metadata)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, hint=hint, metadata=np.array(json.dumps(dict(metadata))))
    return buffer.getvalue()


def hint_suffix(channels: int) -> str:
    """Suffix of a lossless hint file with this many channels."""
    return ".png" if channels in (1, 3, 4) else ".npz"


def write_file(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file whole or not at all, with the folders above it.

    Raises OutputError when it exists, cannot be written or the disk is full; whatever is raised
    meanwhile, a signal's exception too, nothing half written stays behind.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, data)
    except OSError as error:
        raise _output_error(path, error) from error


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise OutputError if this path is taken, so that a command can say so before it works."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"{shown(path)} is not a regular file", hint="choose another -o")
        if path.exists() and not overwrite:
            raise OutputError(f"{shown(path)} exists already", hint="--overwrite replaces it")
    except OSError as error:
        raise _output_error(path, error) from error


def check_folder(folder: str | Path) -> None:
    """Raise OutputError if nothing can be written in this folder, which need not exist yet."""
    folder = Path(folder)
    try:
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        probe = existing / _temporary_name()
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _output_error(folder, error) from error


def shown(path: str | Path) -> str:
    """A file name fit for one line of a terminal: control characters and bad bytes escaped."""
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# --- finding ------------------------------------------------------------------------------------


def _find_below(item: str) -> list[ImageFile]:
    path = Path(item)
    if path.is_dir():
        return _walk(path)
    if path.exists():
        return [ImageFile(path, Path(path.name))]
    if files := _expand(item):
        return files
    raise CnctlError(f"{shown(item)}: no such file or folder", hint="check the name")


def _expand(pattern: str) -> list[ImageFile]:
    """The files that a glob matches, relative to its part without wildcards."""
    if not glob.has_magic(pattern):
        return []
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    root = Path(*plain)
    matches = map(Path, sorted(glob.glob(pattern, recursive=True), key=_natural))
    return [ImageFile(match, match.relative_to(root)) for match in matches if match.is_file()]


def _walk(folder: Path) -> list[ImageFile]:
    found = []
    for root, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if _looks_like_image(name)]
    if not found:
        raise CnctlError(
            f"{shown(folder)} holds no images",
            hint=f"the suffixes looked for are {' '.join(sorted(SUFFIXES))}",
        )
    images = [ImageFile(path, path.relative_to(folder)) for path in found]
    return sorted(images, key=lambda image: _natural(image.relative.as_posix()))


def _refuse_folder(error: OSError) -> None:
    name = shown(error.filename)
    raise CnctlError(f"{name} cannot be listed: {error.strerror}", hint="check its rights")


def _looks_like_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _natural(text: str) -> tuple[list[tuple[str, int]], str]:
    """Sort key: frame2 before frame10."""
    parts = re.findall(r"(\D*)(\d{0,18})", text)
    return [(words.lower(), int(digits or -1)) for words, digits in parts], text


# --- reading ------------------------------------------------------------------------------------


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                yield image
    except CnctlError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "too many pixels", MAX_PIXELS) from error
    except Exception as error:
        raise _damaged(data, name, error) from error


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
        samples = np.asarray(image).astype(np.float32)
        scaled = Image.fromarray(np.round(samples / 257).astype(np.uint8))
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
        image = _eight_bits(image, name)
        if image.mode == "L" and not image.has_transparency_data:
            return np.array(image)[:, :, None]
        if channels == 4:
            return np.array(image.convert("RGBA"))
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
    if hint is None or hint.dtype != np.uint8 or hint.ndim != 3 or not hint.size:
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


# --- fitting ------------------------------------------------------------------------------------


def _resize(image: np.ndarray, size: tuple[int, int], nearest: bool) -> np.ndarray:
    if image.shape[:2] == size:
        return image.copy()
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    method = cv2.INTER_NEAREST_EXACT if nearest else smooth
    resized = cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=method)
    return resized.reshape(*size, *image.shape[2:])  # cv2 drops a single channel's axis


def _center(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut or surround with 0, evenly at both ends, to reach `size`."""
    for axis in (0, 1):
        excess = image.shape[axis] - size[axis]
        if excess > 0:
            image = np.take(image, range(excess // 2, excess // 2 + size[axis]), axis=axis)
        before = max(0, -excess) // 2
        margins = [(0, 0)] * image.ndim
        margins[axis] = (before, max(0, -excess) - before)
        image = np.pad(image, margins)
    return image


# --- writing ------------------------------------------------------------------------------------


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
        info.add_text(key, text)
    return info


def _user_comment(metadata: Mapping[str, str]) -> Image.Exif:
    exif = Image.Exif()
    if metadata:
        text = metadata.get("parameters") or json.dumps(dict(metadata))
        comment = b"UNICODE\0" + text.encode("utf-16-be")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif


def _write_whole(path: Path, data: bytes) -> None:
    # The folder is not synced: a rename that power loss undoes leaves no file at all.
    temporary = path.with_name(_temporary_name())
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary_name() -> str:
    """Hidden, so that no search for images meets it; short, so that a long name still fits."""
    return f".cnctl-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"{shown(path)} could not be written: the disk is full",
            hint="free some space, then run the same command again",
        )
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"{shown(path)} cannot be written: {reason}", hint="choose another -o")
