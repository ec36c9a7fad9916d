"""Run a condition's detector, and check its input and output."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cnctl.errors import CnctlError, DeviceError, MissingError, describe_error, shown
from cnctl.hints.files import open_detector
from cnctl.images import read_hint, read_values
from cnctl.plugin import BatchDetector, Condition, Detection, Option, OptionValue
from cnctl.system.isolation import isolated

Size = tuple[int, int]
"""Height and width."""

TRUE = {"true", "yes", "1", "on"}
FALSE = {"false", "no", "0", "off"}


def load_detector(
    condition: Condition, *, device: str = "cpu", commercial: bool | None = None
) -> Callable[..., np.ndarray | None]:
    """The condition's detector behind a check of its contract.

    Returns detect(image, **options) -> hint | None. image: upright RGB uint8 (H, W, 3), never
    changed. hint: a new uint8 (H, W, stored_channels). None: nothing found. Options not given take
    their defaults. Whatever the plugin raises becomes a CnctlError that names it.
    commercial: refuse weights not licensed for commercial use; None asks CNCTL_COMMERCIAL.
    """
    find = load_detections(condition, device=device, commercial=commercial)

    def detect(image: np.ndarray, **options: OptionValue) -> np.ndarray | None:
        found = find(image, **options)
        return None if found is None else found.hint

    return detect


def load_detections(
    condition: Condition, *, device: str = "cpu", commercial: bool | None = None
) -> LoadedDetector:
    """As `load_detector`, with the data that a hint was drawn from beside each hint."""
    with _blame(condition, "could not be loaded"):
        raw = open_detector(condition, device, commercial=commercial)
    return LoadedDetector(condition, raw)


@dataclass(frozen=True)
class LoadedDetector:
    """A plugin's detector, behind the check of its contract that `load_detector` describes."""

    condition: Condition
    raw: Callable[..., Any]

    @property
    def takes_many(self) -> bool:
        """Whether the detector takes several images in one call."""
        return isinstance(self.raw, BatchDetector)

    def __call__(self, image: np.ndarray, **options: OptionValue) -> Detection | None:
        """The hint of one image and its data; None where nothing is found."""
        return self.batch([image], **options)[0]

    def batch(self, images: Sequence[np.ndarray], **options: OptionValue) -> list[Detection | None]:
        """The hint of each of these images of one size and its data."""
        for image in images:
            _check_image(self.condition, image)
        complete = check_options(self.condition, options)
        with _blame(self.condition, "failed on this image"):
            if isinstance(self.raw, BatchDetector) and len(images) > 1:
                found = list(self.raw.batch(np.stack(images), **complete))
            else:
                found = [self.raw(image.copy(), **complete) for image in images]
        if len(found) != len(images):
            raise CnctlError(
                f"condition {self.condition.name!r} returned {len(found)} hints for "
                f"{len(images)} images",
                hint="this is a bug of the plugin: report it to its authors",
            )
        size = images[0].shape[:2]
        return [f if f is None else check_detection(self.condition, f, size=size) for f in found]


def draw_hint(condition: Condition, data: Mapping[str, Any]) -> np.ndarray:
    """The hint that these data describe, uint8 (H, W, stored_channels)."""
    if condition.draw is None:
        raise CnctlError(f"{condition.name} cannot draw a hint from data", hint="give it an image")
    whose = "check the file; `cnctl annotate --json` shows what such data look like"
    with _blame(condition, "could not draw these data", hint=whose):
        hint = condition.draw(data)
    return check_hint(condition, hint, size=np.shape(hint)[:2])


def read_ready(condition: Condition, source: Path | bytes) -> np.ndarray:
    """The hint in a file, (H, W, stored_channels): a picture, or .npz; the condition's ground
    truth; or drawn from JSON, as a pose editor writes it. bytes: of a picture or an .npz.
    """
    name = source.name if isinstance(source, Path) else _picture_name(source)
    if condition.ground_truth and name.endswith(condition.ground_truth.ending):
        found = _from_ground_truth(condition, source, check_options(condition, {}), sizes=None)
        if found is not None:
            return found.hint
    if isinstance(source, Path) and source.suffix.lower() == ".json":
        return draw_hint(condition, _read_json(source))
    return read_hint(source, channels=condition.stored_channels)


def read_ground_truth(
    condition: Condition,
    path: Path,
    *,
    sizes: tuple[Size, Size],
    options: Mapping[str, OptionValue],
) -> Detection:
    """The hint that a data set's file states, with its data, at the file's own size.

    sizes: (height, width) of the image on disk, and of the hint that is wanted.
    """
    found = _from_ground_truth(condition, path, check_options(condition, options), sizes=sizes)
    if found is None:
        raise CnctlError(f"{shown(path)} is not ground truth of {condition.name}")
    return found


def hint_from_maps(
    condition: Condition, maps: Mapping[str, Any], **options: OptionValue
) -> np.ndarray | None:
    """The hint of a rendered picture, see `Condition.from_maps`; None where it is empty."""
    if condition.from_maps is None:
        raise CnctlError(
            f"{condition.name} does not read a renderer's maps", hint="give it an image"
        )
    with _blame(condition, "failed on these maps"):
        hint = condition.from_maps(maps, **check_options(condition, options))
    return None if hint is None else check_hint(condition, hint, size=maps["image"].shape[:2])


def draw_options(condition: Condition, rng: np.random.Generator) -> Mapping[str, OptionValue]:
    """The options that the condition draws at random for a training image; {} if it draws none."""
    if condition.training_options is None:
        return {}
    with _blame(condition, "could not draw training options"):
        return dict(condition.training_options(rng))


def augment_hint(condition: Condition, hint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The hint after the condition's random change; what it returns is not checked."""
    assert condition.augment is not None
    with _blame(condition, "could not augment a hint"):
        return condition.augment(hint, rng)


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


def parse_options(condition: Condition, assignments: Sequence[str]) -> dict[str, OptionValue]:
    """["radius=4", ...] -> {"radius": 4, ...}, checked; options not named are left out."""
    parsed: dict[str, OptionValue] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise CnctlError(
                f"{condition.name}: option {assignment!r} has no value",
                hint=f"write it as {name or 'name'}=value",
            )
        option = _known_option(condition, name)
        parsed[name] = _checked_value(condition, name, value=_from_text(option, text))
    return parsed


def check_options(
    condition: Condition, options: Mapping[str, OptionValue]
) -> dict[str, OptionValue]:
    """All options of the condition: these, checked, over its defaults."""
    defaults = {name: option.default for name, option in condition.options.items()}
    given = {name: _checked_value(condition, name, value=value) for name, value in options.items()}
    return defaults | given


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


def describe_range(option: Option) -> str:
    """The values that an option accepts: "1 to 255", "one of a, b"; "" where there is no limit."""
    if option.choices:
        return "one of " + ", ".join(map(str, option.choices))
    if option.minimum is not None and option.maximum is not None:
        return f"{option.minimum:g} to {option.maximum:g}"
    if option.minimum is not None:
        return f"at least {option.minimum:g}"
    return "" if option.maximum is None else f"at most {option.maximum:g}"


def describe_value(value: object) -> str:
    """A value in words: "uint8 (64, 96, 3)" for an array, else "a list" and the like."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CnctlError(
            f"{shown(path)} cannot be read as JSON: {error}", hint="check the file"
        ) from error


def _picture_name(data: bytes) -> str:
    return "hint.npz" if data[:2] == b"PK" else "hint.png"


def _from_ground_truth(
    condition: Condition,
    source: Path | bytes,
    options: Mapping[str, OptionValue],
    *,
    sizes: tuple[Size, Size] | None,
) -> Detection | None:
    assert condition.ground_truth is not None
    if isinstance(source, Path) and source.suffix.lower() == ".json":
        values = _read_json(source)
    else:
        values, colours = read_values(source)
        if colours is not None and _is_painted(condition, np.unique(values), colours):
            return None
    title = "a shard's hint" if isinstance(source, bytes) else shown(source)
    with _blame(condition, f"could not read {title}"):
        found = condition.ground_truth.read(values, sizes=sizes, **options)
    if found is None:
        return None
    hint = found.hint if isinstance(found, Detection) else found
    return check_detection(condition, found, size=np.shape(hint)[:2])


def _is_painted(condition: Condition, indices: np.ndarray, colours: np.ndarray) -> bool:
    """Whether an image with a palette shows the condition's colours, as a hint that a tool has
    compressed; otherwise its indices are the values.

    A map of labels may use these colours too: each label has the colour of its number.
    """
    own = [tuple(rgb) for rgb in condition.palette.values()]
    seen = {int(index): tuple(colours[index].tolist()) for index in indices}
    in_order = all(own[index] == rgb for index, rgb in seen.items() if index < len(own))
    return not in_order and set(seen.values()) <= set(own)


def _known_option(condition: Condition, name: str) -> Option:
    if name in condition.options:
        return condition.options[name]
    known = ", ".join(condition.options)
    near = get_close_matches(name, condition.options, n=1)
    guess = f"; nearest is {near[0]!r}" if near else ""
    raise CnctlError(
        f"{condition.name} has no option {name!r}{guess}",
        hint=f"its options: {known}" if known else f"{condition.name} takes no options",
    )


def _from_text(option: Option, text: str) -> OptionValue:
    """The text as the option's type, or the text itself where it does not read as one."""
    kind = type(option.default)
    if kind is bool:
        return {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text


def _checked_value(condition: Condition, name: str, *, value: object) -> OptionValue:
    option = _known_option(condition, name)
    typed = _as_type(type(option.default), value)
    if typed is None:
        wanted = "true or false" if isinstance(option.default, bool) else _kind(option.default)
        raise _bad_value(condition, name, value=value, wanted=wanted)
    if not _is_in_range(option, typed):
        raise _bad_value(condition, name, value=value, wanted=_must_be(option))
    return typed


def _must_be(option: Option) -> str:
    between = option.minimum is not None and option.maximum is not None
    return describe_range(option) + ", ends included" * between


def _is_in_range(option: Option, value: OptionValue) -> bool:
    if option.choices and value not in option.choices:
        return False
    if isinstance(value, bool | str):
        return True
    low = -math.inf if option.minimum is None else option.minimum
    high = math.inf if option.maximum is None else option.maximum
    return low <= value <= high


def _as_type(kind: type, value: object) -> OptionValue | None:
    """The value as this very type, also from numpy's; None where it is of another type."""
    if kind is bool or isinstance(value, bool | np.bool_):
        return bool(value) if kind is bool and isinstance(value, bool | np.bool_) else None
    if kind is int and isinstance(value, Integral):
        return int(value)
    if kind is float and isinstance(value, Real) and math.isfinite(value):
        return float(value)
    return value if kind is str and isinstance(value, str) else None


def _kind(default: OptionValue) -> str:
    return {int: "a whole number", float: "a number"}.get(type(default), "text")


def _bad_value(condition: Condition, name: str, *, value: object, wanted: str) -> CnctlError:
    default = condition.options[name].default
    return CnctlError(
        f"{condition.name}: option {name} is {value!r}; it must be {wanted}",
        hint=f"the default is {name}={default}",
    )


@contextmanager
def _blame(condition: Condition, what: str, *, hint: str = "") -> Iterator[None]:
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


def _check_image(condition: Condition, image: object) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or not _is_rgb(image.shape):
        raise CnctlError(
            f"{condition.name}: the image must be RGB uint8 (H, W, 3), not {describe_value(image)}",
            hint="cnctl.images.read_image gives one",
        )


def _is_rgb(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] == 3 and min(shape) > 0
