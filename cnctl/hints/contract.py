"""What a condition's functions take and return, and whose fault it is where they do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from cnctl.errors import CnctlError, DeviceError, MissingError, describe_error
from cnctl.plugin import Condition, Detection
from cnctl.system.isolation import isolated


def describe_value(value: object) -> str:
    """A value in words: "uint8 (64, 96, 3)" for an array, else "a list" and the like."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}"


def check_image(condition: Condition, image: object) -> None:
    """Raise CnctlError unless the image is RGB uint8 (H, W, 3) and not empty."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or not _is_rgb(image.shape):
        raise CnctlError(
            f"{condition.name}: the image must be RGB uint8 (H, W, 3), not {describe_value(image)}",
            hint="cnctl.images.read_image gives one",
        )


def check_hint(condition: Condition, hint: Any, *, size: tuple[int, ...]) -> np.ndarray:
    """The hint as a new uint8 (H, W, stored_channels), or CnctlError that says what is wrong.

    Grey of 16 bits, uint16, stays what it is.
    """
    channels = condition.stored_channels
    allowed = (channels,) if condition.masked else (1, channels)
    wanted = " or ".join(map(str, sorted(set(allowed)))) + " channel" + "s" * (channels > 1)
    as_3d = hint[..., None] if isinstance(hint, np.ndarray) and hint.ndim == 2 else hint
    if (
        not isinstance(as_3d, np.ndarray)
        or as_3d.ndim != 3
        or as_3d.dtype not in ((np.uint8, np.uint16) if as_3d.shape[2] == 1 else (np.uint8,))
        or as_3d.shape[:2] != size
        or as_3d.shape[2] not in allowed
    ):
        raise CnctlError(
            f"condition {condition.name!r} returned {describe_value(hint)}; "
            f"it must be uint8 {size} with {wanted}",
            hint="this is a bug of the plugin: report it to its authors",
        )
    if as_3d.shape[2] == channels:
        return np.array(as_3d, order="C")  # a copy: the plugin may reuse its buffer
    return cv2.merge([as_3d] * channels)  # a tenth of the time of np.repeat


def check_detection(condition: Condition, found: Any, *, size: tuple[int, ...]) -> Detection:
    """The detector's result, checked: its hint by `check_hint`, and its data for JSON."""
    if not isinstance(found, Detection):
        return Detection(hint=check_hint(condition, found, size=size))
    try:
        data = json.loads(json.dumps(dict(found.data), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CnctlError(
            f"condition {condition.name!r} returned data that JSON cannot hold: {error}",
            hint="this is a bug of the plugin: report it to its authors",
        ) from error
    return Detection(hint=check_hint(condition, found.hint, size=size), data=data)


@contextmanager
def blame(condition: Condition, what: str, *, hint: str = "") -> Iterator[None]:
    """Turn what a plugin raises into a CnctlError, and keep it from changing the process.

    hint: what to do where the plugin is most likely not at fault. A plugin may raise CnctlError
    itself.
    """
    try:
        with isolated():
            yield
    except CnctlError:
        raise
    except (Exception, SystemExit) as error:
        raise _error_class(error)(
            f"condition {condition.name!r} {what}: {describe_error(error)}",
            hint=hint or f"`cnctl conditions check {condition.name}` tests the plugin",
        ) from error


def _error_class(error: BaseException) -> type[CnctlError]:
    if isinstance(error, ModuleNotFoundError):
        return MissingError
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return DeviceError  # torch's own error, recognised by name so that torch need not be loaded
    return CnctlError


def _is_rgb(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] == 3 and min(shape) > 0
