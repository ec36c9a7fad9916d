"""Read hints, the maps of data sets and the texts in a file as they are stored."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cnctl.errors import CnctlError
from cnctl.images.opening import MAX_BYTES, MAX_PIXELS, decoded, opened, read_named
from cnctl.images.read import flatten, read_image, to_eight_bits


def read_hint(source: str | Path | bytes, *, channels: int) -> np.ndarray:
    """Return a hint file, or the bytes of one, as uint8 (H, W, channels).

    The file is an image, or .npz with the array "hint".
    Grey of 16 bits is returned as uint16. Grey is repeated over the channels; grey that is stored
    as colour serves one channel. Four channels are colours and alpha; otherwise transparent pixels
    are 0, the value of "nothing here". Colours are not converted.
    """
    data, name = read_named(source)
    hint = _read_npz(data, name) if data[:2] == b"PK" else _read_picture(data, name, channels)
    return _with_channels(hint, channels, name)


def read_hint_as_stored(path: str | Path | bytes) -> np.ndarray:
    """Return a hint file, or the bytes of one, as stored, (H, W, C): a picture as RGB uint8."""
    data, name = read_named(path)
    return _read_npz(data, name) if data[:2] == b"PK" else read_image(data, name=name)


def read_values(source: str | Path | bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values of a file as they are stored: a map of a data set, not a picture.

    Of an .npy file its array; of an image its samples (H, W) or (H, W, C), unscaled, uint8 or
    uint16; of an image with a palette its indices, and with them the palette, uint8 (256, 3).
    """
    data, name = read_named(source)
    if data.startswith(b"\x93NUMPY"):
        return _read_npy(data, name), None
    with decoded(data, name, MAX_PIXELS) as image:
        values = np.array(image)
        stored = image.getpalette("RGB") if image.mode == "P" else None
    if stored is None:
        return values.astype(np.uint8) if values.dtype == bool else values, None
    colours = np.zeros((256, 3), np.uint8)  # an index may be beyond the palette's end
    colours[: len(stored) // 3] = np.array(stored, np.uint8).reshape(-1, 3)
    return values, colours


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts that `write_image` and `write_hint` wrote into a file; {} if none."""
    data, name = read_named(path)
    if data[:2] == b"PK":
        with _open_npz(data, name) as arrays:
            return json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
    with opened(data, name) as image:
        texts = {str(key): value for key, value in image.info.items()}
    return {key: value for key, value in texts.items() if isinstance(value, str)}


def _read_picture(data: bytes, name: str, channels: int) -> np.ndarray:
    with decoded(data, name, MAX_PIXELS) as image:
        if image.mode.startswith("I;16") and channels != 4:
            return np.asarray(image, np.uint16)[:, :, None]
        image = to_eight_bits(image, name)
        if channels == 4:
            return np.array(image.convert("RGBA"))
        if image.mode == "L" and not image.has_transparency_data:
            return np.array(image)[:, :, None]
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return np.array(flatten(image.convert(mode), background=0))


def _read_npy(data: bytes, name: str) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a header may be anything
        raise CnctlError(f"{name} is damaged: {str(error)[:120]}") from error


def _read_npz(data: bytes, name: str) -> np.ndarray:
    with _open_npz(data, name) as arrays:
        hint = arrays.get("hint")
    if hint is None or hint.dtype not in (np.uint8, np.uint16) or hint.ndim != 3 or not hint.size:
        raise CnctlError(f'{name} has no hint: the array "hint", uint8 (height, width, channels)')
    return hint


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
    except Exception as error:  # zipfile and numpy raise many kinds of error, as Pillow does
        raise CnctlError(f"{name} is damaged: {str(error)[:120]}") from error


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
