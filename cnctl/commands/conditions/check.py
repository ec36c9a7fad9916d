"""Test a condition against its contract, for `cnctl conditions check` and plugins' own tests."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from cnctl.commands.conditions.isolation import run_isolated, seed_globals
from cnctl.errors import CnctlError, MissingError, describe_error
from cnctl.hints.contract import check_detection, describe_value
from cnctl.hints.files import open_detector
from cnctl.hints.metrics import METRICS, score
from cnctl.hints.options import check_options, parse_options
from cnctl.hints.run import hint_from_maps
from cnctl.plugin import BatchDetector, Condition, Metric, Option, OptionValue
from cnctl.registry import find_entry, load_entry, look_at, misfit
from cnctl.system.isolation import restored_process
from cnctl.tiny.scenes import exact_maps, render_scene

HEAVY = {
    *("PIL", "accelerate", "controlnet_aux", "cv2", "diffusers", "jax", "matplotlib", "mediapipe"),
    *("numpy", "onnxruntime", "pandas", "peft", "scipy", "skimage", "sklearn", "tensorflow"),
    *("torch", "torchvision", "transformers", "ultralytics"),
}
"""Packages that a plugin's module must not import before its `load_detector` runs."""

STRANGE_ARGUMENTS = ["cnctl", "--no-such-flag", "no-such-word"]

Detect = Callable[..., Any]


def check_plugin(name: str, *, image: np.ndarray | None = None) -> list[str]:
    """What is wrong with an installed plugin, one line each; [] where it meets the contract.

    Beyond `check_condition`, its module is imported in a fresh process to see what that loads.
    Raises MissingError where nothing is wrong but that weights or a package are not installed.
    image: RGB uint8 (H, W, 3) to detect on, for detectors that find nothing in a drawn scene.
    """
    entry = find_entry(name)
    try:
        look_at(entry)
        condition = load_entry(entry)
    except CnctlError as error:
        return [str(error)]
    problems, missing = _check(condition, image=image)
    problems = [*_check_import(entry.module), *problems]
    if missing and not problems:
        raise missing
    return [*problems, *([str(missing)] if missing else [])]


def check_condition(condition: Condition, *, image: np.ndarray | None = None) -> list[str]:
    """What is wrong with a condition, one line each; [] where it meets the contract.

    For a plugin's own tests: `assert check_condition(blur) == []`. The detector is loaded three
    times, on the CPU; global state that it might disturb is put back.
    """
    problems, missing = _check(condition, image=image)
    return problems + ([f"load_detector raises {describe_error(missing)}"] if missing else [])


def _check(
    condition: Condition, *, image: np.ndarray | None
) -> tuple[list[str], MissingError | None]:
    """What is wrong, and what the detector could not be checked without."""
    if misfit(condition):
        return [f"it {misfit(condition)}"], None
    missing = None
    with restored_process():
        sys.argv[:] = STRANGE_ARGUMENTS[:1]
        problems = [*_check_fields(condition), *_check_training(condition)]
        problems += _check_from_maps(condition)
        try:
            problems += _check_detector(condition, image=image)
        except MissingError as error:
            missing = error
    return list(dict.fromkeys(problems)), missing


IMPORT_PROBE = """
import importlib, json, sys
module, path, arguments = json.loads(sys.stdin.read())
sys.path[:], sys.argv[:] = path, arguments
import cnctl.plugin
before = set(sys.modules)
importlib.import_module(module)
print()
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def _check_import(module: str) -> Iterator[str]:
    question = json.dumps([module, sys.path, STRANGE_ARGUMENTS])
    probe = subprocess.run(
        [sys.executable, "-c", IMPORT_PROBE],
        input=question,
        capture_output=True,
        text=True,
        check=False,
    )
    printed, _, loaded = probe.stdout.rstrip("\n").rpartition("\n")
    if probe.returncode or not loaded.startswith("["):
        reason = (probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"])[-1]
        yield f"{module} cannot be imported in a separate process: {reason}"
        return
    if printed.strip():
        yield f"{module} prints to stdout when it is imported"
    heavy = sorted(HEAVY & set(json.loads(loaded)))
    if heavy:
        yield f"{module} imports {', '.join(heavy)} at the top; import inside load_detector"


def _check_fields(condition: Condition) -> Iterator[str]:
    if not condition.summary.strip() or len(condition.summary.splitlines()) != 1:
        yield "summary must be one line of text"
    for name, option in condition.options.items():
        yield from _check_option(condition, name, option=option)
    if not isinstance(condition.metric, Metric) and condition.metric not in METRICS:
        yield f"metric {condition.metric!r} is neither a Metric nor one of {', '.join(METRICS)}"


def _check_option(condition: Condition, name: str, *, option: Option) -> Iterator[str]:
    if not name.isidentifier():
        yield f"option {name!r} cannot be a keyword argument of detect"
    if not isinstance(option.default, bool | int | float | str):
        kind = type(option.default).__name__
        yield f"option {name}: its default is a {kind}; it must be bool, int, float or str"
        return
    for value in (option.default, *option.choices):
        try:
            back = parse_options(condition, [f"{name}={value}"])[name]
        except CnctlError as error:
            yield f"option {name}={value} is refused by its own declaration: {error}"
            continue
        if back != value or type(back) is not type(value):
            yield f"option {name}={value!r} comes back from the command line as {back!r}"


def _check_training(condition: Condition) -> Iterator[str]:
    if condition.training_options is not None:
        yield from _check_drawn_options(condition, condition.training_options)
    if condition.augment is not None:
        yield from _check_augment(condition, condition.augment)
    if condition.flip is not None:
        yield from _check_flip(condition, condition.flip)


def _check_from_maps(condition: Condition) -> list[str]:
    """Give it what the embedded base's renderer knows of a scene with a person."""
    if condition.from_maps is None:
        return []
    maps = exact_maps(render_scene(0, size=64, show="person"))
    try:
        hint_from_maps(condition, maps)
    except CnctlError as error:
        return [f"from_maps: {error}"]
    return []


def _check_drawn_options(condition: Condition, draw: Callable[..., Any]) -> Iterator[str]:
    for seed in range(20):
        try:
            options, again = draw(np.random.default_rng(seed)), draw(np.random.default_rng(seed))
            check_options(condition, options)
        except Exception as error:
            yield f"training_options: {describe_error(error)}"
            return
        if options != again:
            yield "training_options must draw from the generator it is given, and nowhere else"
            return


def _check_flip(condition: Condition, flip: Callable[..., Any]) -> Iterator[str]:
    hint = np.random.default_rng(0).integers(0, 256, (8, 12, condition.stored_channels), np.uint8)
    untouched = hint.copy()
    try:
        flipped = flip(hint)
        back = flip(np.array(flipped))
    except Exception as error:
        yield f"flip: {describe_error(error)}"
        return
    if not np.array_equal(hint, untouched):
        yield "flip changes the hint it is given; it must return a new one"
    if np.shape(flipped) != hint.shape or getattr(flipped, "dtype", None) != np.uint8:
        yield f"flip must return uint8 of the hint's own shape, not {describe_value(flipped)}"
    elif not np.array_equal(back, hint):
        yield "flip applied twice must give the hint back"


def _check_augment(condition: Condition, augment: Callable[..., Any]) -> Iterator[str]:
    hint = np.resize(_picture(64, 96), (64, 96, condition.stored_channels))
    untouched = hint.copy()
    try:
        changed = augment(hint, np.random.default_rng(0))
        again = augment(untouched.copy(), np.random.default_rng(0))
    except Exception as error:
        yield f"augment: {describe_error(error)}"
        return
    if not np.array_equal(hint, untouched):
        yield "augment changes the hint it is given; it must return a new one"
    if getattr(changed, "dtype", None) != np.uint8 or changed.shape != hint.shape:
        yield f"augment must return uint8 of the hint's own shape, not {describe_value(changed)}"
    elif not np.array_equal(changed, again):
        yield "augment must draw from the generator it is given, and nowhere else"


def _check_detector(condition: Condition, *, image: np.ndarray | None) -> list[str]:
    detect, problems = run_isolated("load_detector", lambda: open_detector(condition, "cpu"))
    if not callable(detect):
        return problems or [f"load_detector must return a function, not {describe_value(detect)}"]
    found = []
    for picture in [_picture(64, 96), _picture(61, 43)] if image is None else [image]:
        hint, faults = _detect(condition, detect, picture=picture)
        problems += faults
        found += [] if hint is None else [(picture, hint)]
    if problems or not found:
        nothing = "detect found nothing, so no hint was checked; give a better picture with --image"
        return problems or [nothing]
    picture, hint = found[0]
    problems += _check_determinism(condition, detect, picture=picture)
    if not problems:
        problems += _check_isolation(condition, picture=picture, hint=hint)
    problems += _check_batch(condition, detect, picture=picture)
    problems += _check_limits(condition, detect, picture=picture)
    return problems + _check_score(condition, hint=hint)


def _detect(
    condition: Condition,
    detect: Detect,
    *,
    picture: np.ndarray,
    options: Mapping[str, OptionValue] = MappingProxyType({}),
    step: str = "detect",
) -> tuple[np.ndarray | None, list[str]]:
    """The checked hint (None: nothing found, or at fault) and what the detector did wrong."""
    try:
        given, complete = picture.copy(), check_options(condition, options)
    except CnctlError as error:
        return None, [str(error)]
    hint, problems = run_isolated(step, lambda: detect(given, **complete))
    if not np.array_equal(given, picture):
        problems.append(f"{step} changes the image it is given; it must work on a copy")
    if hint is None:
        return None, problems
    try:
        return check_detection(condition, hint, size=picture.shape[:2]).hint, problems
    except CnctlError as error:
        return None, [*problems, f"{step}: {error}"]


def _check_determinism(condition: Condition, detect: Detect, *, picture: np.ndarray) -> list[str]:
    hints = []
    for seed in (1, 1, 2):
        seed_globals(seed)
        hints.append(_detect(condition, detect, picture=picture)[0])
    if not _same(hints[0], hints[1]):
        return ["detect gives another hint when it sees the same image again"]
    if not _same(hints[0], hints[2]):
        return ["the hint depends on the global random state"]
    return []


def _check_isolation(condition: Condition, *, picture: np.ndarray, hint: np.ndarray) -> list[str]:
    """Load and detect once more with other arguments, then in another folder."""
    problems = []
    with tempfile.TemporaryDirectory() as elsewhere:
        for what, arguments, folder in (
            ("sys.argv", STRANGE_ARGUMENTS, os.getcwd()),
            ("the working folder", sys.argv[:], elsewhere),
        ):
            with restored_process():
                sys.argv[:] = arguments
                os.chdir(folder)
                again, faults = _load_and_detect(condition, picture=picture)
            if faults:
                problems.append(f"it fails when {what} changes: {faults[0]}")
            elif not _same(again, hint):
                problems.append(f"the hint depends on {what}")
    return problems


def _load_and_detect(
    condition: Condition, *, picture: np.ndarray
) -> tuple[np.ndarray | None, list[str]]:
    detect, problems = run_isolated("load_detector", lambda: open_detector(condition, "cpu"))
    return (None, problems) if problems else _detect(condition, detect, picture=picture)


def _check_batch(condition: Condition, detect: Detect, *, picture: np.ndarray) -> list[str]:
    if not isinstance(detect, BatchDetector):
        return []
    options = check_options(condition, {})
    two = np.stack([picture, picture[::-1]])
    found, problems = run_isolated("batch", lambda: list(detect.batch(two, **options)))
    if not problems and len(found) != len(two):
        problems.append(f"batch returned {len(found)} hints for {len(two)} images")
    return problems


def _check_limits(condition: Condition, detect: Detect, *, picture: np.ndarray) -> list[str]:
    """Detect with each option at each end of what it declares."""
    problems: list[str] = []
    for name, option in condition.options.items():
        ends = [end for end in (option.minimum, option.maximum) if end is not None]
        kind = type(option.default)
        values = option.choices or tuple(kind(end) for end in ends if kind(end) == end)
        for value in (True, False) if kind is bool else values:
            step = f"detect with {name}={value}"
            problems += _detect(
                condition, detect, picture=picture, options={name: value}, step=step
            )[1]
    return problems


def _check_score(condition: Condition, *, hint: np.ndarray) -> list[str]:
    try:
        value = score(condition.metric, hint, hint)
    except Exception as error:
        return [f"metric: {describe_error(error)}"]
    return [] if math.isfinite(value) else [f"metric scores a hint against itself as {value}"]


def _picture(height: int, width: int) -> np.ndarray:
    """A drawn scene with gradients, a box, a disc and a little noise: uint8 RGB (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    scene = np.stack([255 * y / height, 255 * x / width, np.full((height, width), 96)], axis=2)
    scene[height // 8 : height // 2, width // 8 : width // 2] = (230, 40, 30)
    disc = (y - height * 0.65) ** 2 + (x - width * 0.65) ** 2 < (min(height, width) / 4) ** 2
    scene[disc] = (30, 60, 220)
    noise = np.random.default_rng(0).integers(-8, 9, scene.shape)
    return np.clip(scene + noise, 0, 255).astype(np.uint8)


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
