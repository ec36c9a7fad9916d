"""A sound condition passes; each way to be unsound gives one line that names it."""

import os
import random
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnctl.commands.conditions.check import check_condition
from cnctl.errors import MissingError
from cnctl.plugin import BatchDetector, Condition, Metric, Option

calls = []
DONE = threading.Event()


@pytest.fixture(scope="module", autouse=True)
def _end_threads():
    yield
    DONE.set()


def sound(**changes):
    return replace(
        Condition(
            name="sample",
            summary="For these tests",
            load_detector=lambda device: lambda image, gain=1: image // 2 * gain,
            options={"gain": Option(1, minimum=0, maximum=2)},
            training_options=lambda rng: {"gain": int(rng.integers(0, 3))},
            augment=lambda hint, rng: hint + rng.integers(0, 9, hint.shape, dtype=np.uint8),
            metric="rmse",
        ),
        **changes,
    )


def detects(detect, **changes):
    return sound(load_detector=lambda device: lambda image, gain: detect(image), **changes)


def count_calls(image):
    calls.append(1)
    return np.full(image.shape, len(calls), np.uint8)


def darken(image):
    image //= 2
    return image


def print_it(image):
    print("detecting")
    return image


def write_to_descriptor(image):
    os.write(1, b"detecting\n")
    return image


def connect(image):
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", 9))
    return image


def look_up_quietly(image):
    with suppress(OSError):
        socket.getaddrinfo("example.org", 443)
    return image


def set_arguments(image):
    sys.argv[:] = ["mine"]
    return image


def change_dtype(image):
    import torch

    is_half = torch.get_default_dtype() == torch.float16
    torch.set_default_dtype(torch.float32 if is_half else torch.float16)
    return image


def leave_a_thread(image):
    threading.Thread(target=DONE.wait, name="left", daemon=True).start()
    return image


def change_folder(image):
    os.chdir("/")
    return image


def draw_globally(image):
    return image + np.random.randint(0, 9, image.shape).astype(np.uint8)


def peek_at_global_state(image):
    return np.full(image.shape, int(np.random.get_state()[1][0]) % 251, np.uint8)


def shuffle_globally(image):
    random.random()
    return image


def read_arguments(device):
    shade = len(sys.argv)
    return lambda image, gain: np.full(image.shape, shade, np.uint8)


def leave_on_arguments(device):
    if len(sys.argv) > 1:
        raise SystemExit(2)
    return lambda image, gain: image


def read_folder(device):
    shade = sum(map(ord, Path.cwd().name)) % 251
    return lambda image, gain: np.full(image.shape, shade, np.uint8)


def fail_at_zero(device):
    return lambda image, gain: image // gain if gain else 1 / 0


def shrink_odd_sizes(image):
    return image[: len(image) // 8 * 8]


def spoil(hint, rng):
    hint[:] = 0
    return hint


def own_draw(rng):
    calls.append(1)
    return {"gain": len(calls) % 3}


NAN = Metric(name="nan", score=lambda hint, detected: float("nan"))
FALSE_DEFAULT = {"gain": Option(5, minimum=0, maximum=2)}
FAULTS = {
    "two-line summary": (sound(summary="One\ntwo"), "summary must be one line"),
    "no summary": (sound(summary=" "), "summary must be one line"),
    "wrong type": (sound(weights=None), "it has weights of type NoneType"),
    "unknown metric": (sound(metric="taste"), "metric 'taste' is neither"),
    "metric is nan": (sound(metric=NAN), "metric scores a hint against itself as nan"),
    "default out of range": (sound(options=FALSE_DEFAULT), "option gain=5 is refused"),
    "choices unlike their default": (
        sound(options={"gain": Option(1, choices=(1, "two"))}),
        "option gain=two is refused",
    ),
    "default of no type": (sound(options={"gain": Option(None)}), "its default is a NoneType"),
    "option name": (sound(options={"a-b": Option(1)}), "option 'a-b' cannot be a keyword"),
    "option unknown to detect": (sound(options={"width": Option(1)}), "detect raises TypeError"),
    "float hint": (detects(lambda image: image / 255), "returned float64 (64, 96, 3)"),
    "odd size": (detects(shrink_odd_sizes), "returned uint8 (56, 43, 3)"),
    "channels": (detects(lambda image: image, hint_channels=6), "with 1 or 6 channels"),
    "no detector": (sound(load_detector=lambda device: None), "must return a function"),
    "load fails": (sound(load_detector=lambda device: 1 / 0), "load_detector raises ZeroDivision"),
    "finds nothing": (detects(lambda image: None), "detect found nothing"),
    "one hint of two": (
        sound(load_detector=lambda device: BatchDetector(lambda images, gain: images[:1])),
        "batch returned 1 hints for 2 images",
    ),
    "changes the image": (detects(darken), "detect changes the image"),
    "another hint each time": (detects(count_calls), "another hint when it sees the same image"),
    "global numpy state": (detects(draw_globally), "changes the global state of numpy.random"),
    "global seed": (detects(peek_at_global_state), "the hint depends on the global random state"),
    "global random state": (detects(shuffle_globally), "changes the global state of random"),
    "print": (detects(print_it), "detect writes to stdout"),
    "write": (detects(write_to_descriptor), "detect writes to stdout"),
    "connection": (detects(connect), "detect reaches for the network (('127.0.0.1', 9))"),
    "name look-up": (detects(look_up_quietly), "detect reaches for the network (example.org)"),
    "sets argv": (detects(set_arguments), "detect changes sys.argv"),
    "changes folder": (detects(change_folder), "detect changes the working folder"),
    "changes the dtype": (detects(change_dtype), "detect changes torch's default dtype"),
    "leaves a thread": (detects(leave_a_thread), "detect leaves a thread running: left"),
    "reads argv": (sound(load_detector=read_arguments), "the hint depends on sys.argv"),
    "parses argv": (sound(load_detector=leave_on_arguments), "it fails when sys.argv changes"),
    "reads folder": (sound(load_detector=read_folder), "the hint depends on the working folder"),
    "fails at a limit": (sound(load_detector=fail_at_zero), "detect with gain=0 raises ZeroDivi"),
    "draws bad options": (sound(training_options=lambda rng: {"gain": 9}), "training_options: "),
    "draws elsewhere": (sound(training_options=own_draw), "training_options must draw from"),
    "draws no options": (sound(training_options=lambda rng: 5), "training_options: "),
    "maps in other hands": (sound(from_maps=7), "it has from_maps of type int"),
    "maps of another size": (
        sound(from_maps=lambda maps, gain: maps["labels"][:9]),
        "from_maps: condition 'sample' returned uint8 (9, 64)",
    ),
    "palette": (sound(palette={"sky": (0, 300, 0)}), "it has a palette of other than"),
    "augment in place": (sound(augment=spoil), "augment changes the hint it is given"),
    "augment to float": (sound(augment=lambda h, rng: h / 2), "augment must return uint8"),
    "augment elsewhere": (sound(augment=lambda h, rng: count_calls(h)), "augment must draw from"),
}


def test_a_sound_condition_passes():
    assert check_condition(sound()) == []


@pytest.mark.parametrize("hint_channels", [1, 6])
def test_other_numbers_of_channels_pass(hint_channels):
    def detect(image):
        return np.repeat(image[..., :1], hint_channels, axis=2)

    assert check_condition(detects(detect, hint_channels=hint_channels)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("condition", "words"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_told_in_one_line(condition, words):
    problems = check_condition(condition)
    assert [problem for problem in problems if words in problem]
    assert not [problem for problem in problems if "\n" in problem]
    assert len(problems) <= 3


def test_missing_weights_are_told_as_such():
    def load_detector(device):
        raise MissingError("the weights are missing")

    problems = check_condition(sound(load_detector=load_detector))
    assert problems == ["load_detector raises MissingError: the weights are missing"]


def test_limits_between_whole_numbers_are_no_fault():
    options = {"gain": Option(1, minimum=0.5, maximum=2.5)}
    assert check_condition(sound(options=options, training_options=None)) == []


def test_a_given_image_is_used():
    image = np.zeros((21, 34, 3), np.uint8)
    condition = detects(lambda image: image if image.shape == (21, 34, 3) else None)
    assert check_condition(condition, image=image) == []


def test_the_process_is_put_back(tmp_path, monkeypatch):
    def disturb(device):
        os.chdir("/")
        sys.argv.append("more")
        np.random.seed(0)
        random.seed(0)
        return lambda image, gain: image

    monkeypatch.chdir(tmp_path)
    np.random.seed(5)
    random.seed(5)
    connect_before, arguments = socket.socket.connect, list(sys.argv)
    assert len(check_condition(sound(load_detector=disturb))) == 4
    assert Path.cwd() == tmp_path
    assert sys.argv == arguments
    assert socket.socket.connect == connect_before
    assert random.random() == random.Random(5).random()
    assert np.random.rand() == np.random.RandomState(5).rand()
