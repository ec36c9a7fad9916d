import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cnctl.errors import CnctlError, DeviceError, MissingError
from cnctl.hints.run import augment_hint, draw_options, load_detections, load_detector
from cnctl.plugin import BatchDetector, Condition

IMAGE = np.random.default_rng(0).integers(0, 256, (13, 7, 3), dtype=np.uint8)


def make(detect, *, hint_channels=3, **more):
    return Condition(
        name="sample",
        summary="For these tests",
        load_detector=lambda device: detect,
        hint_channels=hint_channels,
        **more,
    )


@pytest.mark.parametrize("hint_channels", [1, 3, 6])
def test_one_channel_is_repeated_to_the_hint_channels(hint_channels):
    detect = load_detector(make(lambda image: image[..., 1], hint_channels=hint_channels))
    hint = detect(IMAGE)
    assert hint.shape == (13, 7, hint_channels)
    assert hint.dtype == np.uint8
    for channel in range(hint_channels):
        assert (hint[..., channel] == IMAGE[..., 1]).all()


def test_six_channels_keep_their_order():
    detect = load_detector(make(lambda image: np.dstack([image, 255 - image]), hint_channels=6))
    hint = detect(IMAGE)
    assert (hint[..., :3] == IMAGE).all()
    assert (hint[..., 3:] == 255 - IMAGE).all()


def test_one_hint_channel_with_its_axis():
    hint = load_detector(make(lambda image: image[..., :1], hint_channels=1))(IMAGE)
    assert (hint == IMAGE[..., :1]).all()


def test_nothing_found_is_none():
    assert load_detector(make(lambda image: None))(IMAGE) is None


def test_the_device_reaches_the_plugin():
    devices = []
    condition = Condition(name="sample", summary="", load_detector=devices.append)
    load_detector(condition, device="cuda:1")
    assert devices == ["cuda:1"]


def test_the_image_is_out_of_reach_of_the_plugin():
    buffer = np.zeros_like(IMAGE)

    def detect(image):
        image[:] = 0
        buffer[:] += 1
        return buffer

    original, run = IMAGE.copy(), load_detector(make(detect))
    first = run(IMAGE)
    run(IMAGE)
    assert (original == IMAGE).all()
    assert (first == 1).all()


@pytest.mark.parametrize(
    "image",
    [
        IMAGE.astype(np.float32),
        IMAGE[..., 0],
        IMAGE[..., :2],
        IMAGE[:0],
        IMAGE.tolist(),
        np.dstack([IMAGE, IMAGE[..., :1]]),
    ],
    ids=["float", "grey", "two channels", "empty", "list", "alpha"],
)
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(CnctlError, match=r"sample: the image must be RGB uint8 \(H, W, 3\)"):
        load_detector(make(lambda image: image))(image)


@pytest.mark.parametrize(
    ("hint", "described"),
    [
        (IMAGE / 255, r"float64 \(13, 7, 3\)"),
        (IMAGE > 3, r"bool \(13, 7, 3\)"),
        (IMAGE[:-1], r"uint8 \(12, 7, 3\)"),
        (IMAGE[..., :2], r"uint8 \(13, 7, 2\)"),
        (IMAGE[None], r"uint8 \(1, 13, 7, 3\)"),
        (IMAGE.swapaxes(0, 1), r"uint8 \(7, 13, 3\)"),
        ("edges", "a str"),
    ],
)
def test_a_hint_unlike_its_contract_is_refused(hint, described):
    with pytest.raises(CnctlError, match=f"condition 'sample' returned {described}"):
        load_detector(make(lambda image: hint))(IMAGE)


def test_grey_of_sixteen_bits_stays_what_it_is():
    grey = IMAGE[..., 0].astype(np.uint16) * 200 + 3
    hint = load_detector(make(lambda image: grey))(IMAGE)
    assert hint.dtype == np.uint16
    assert (hint == grey[..., None]).all()
    assert hint.shape == (13, 7, 3)
    with pytest.raises(CnctlError, match=r"returned uint16 \(13, 7, 3\)"):
        load_detector(make(lambda image: image.astype(np.uint16)))(IMAGE)


def test_three_channels_do_not_pass_for_one():
    with pytest.raises(CnctlError, match=r"with 1 channel$"):
        load_detector(make(lambda image: image, hint_channels=1))(IMAGE)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ZeroDivisionError("by\nzero"), CnctlError),
        (SystemExit(3), CnctlError),
        (ModuleNotFoundError("no mmcv"), MissingError),
        (MemoryError(), DeviceError),
        (type("OutOfMemoryError", (RuntimeError,), {})("GPU"), DeviceError),
    ],
)
@pytest.mark.parametrize("when", ["load", "detect"])
def test_what_a_plugin_raises_names_the_plugin(raised, kind, when):
    def fail(*_):
        raise raised

    def load_it(device):
        return fail if when == "detect" else fail()

    condition = Condition(name="sample", summary="", load_detector=load_it)
    with pytest.raises(CnctlError, match=f"'sample' .*{type(raised).__name__}") as caught:
        load_detector(condition)(IMAGE)
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised
    assert "\n" not in str(caught.value)


def test_an_error_meant_for_the_user_passes_unchanged():
    error = MissingError("the weights are missing", hint="fetch them")

    def load_it(device):
        raise error

    with pytest.raises(MissingError) as caught:
        load_detector(Condition(name="sample", summary="", load_detector=load_it))
    assert caught.value is error


def test_an_interrupt_passes_unchanged():
    def detect(image):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_detector(make(detect))(IMAGE)


def test_a_chatty_plugin_does_not_reach_stdout(capsys):
    def detect(image):
        print("detecting")
        return image

    load_detector(make(detect))(IMAGE)
    assert capsys.readouterr() == ("", "detecting\n")
    assert sys.stdout is not sys.stderr


def test_detectors_run_side_by_side():
    """sys.stdout is shared by all threads: none may leave it turned away."""
    detect, stdout = load_detector(make(lambda image: image // 2)), sys.stdout
    with ThreadPoolExecutor(8) as pool:
        hints = list(pool.map(detect, [IMAGE] * 64))
    assert sys.stdout is stdout
    assert all((hint == IMAGE // 2).all() for hint in hints)


def test_what_a_plugin_does_while_training_is_told_with_its_name():
    def fail(*_):
        raise KeyError("nothing\nthere")

    condition = Condition(
        name="shaky", summary="", load_detector=fail, training_options=fail, augment=fail
    )
    rng = np.random.default_rng(0)
    with pytest.raises(CnctlError, match="'shaky' could not draw training options: KeyError"):
        draw_options(condition, rng)
    with pytest.raises(CnctlError, match="'shaky' could not draw training options: TypeError"):
        draw_options(replace(condition, training_options=lambda rng: 5), rng)
    with pytest.raises(CnctlError, match="'shaky' could not augment a hint: KeyError"):
        augment_hint(condition, np.zeros((4, 4, 3), np.uint8), rng)
    assert draw_options(replace(condition, training_options=None), rng) == {}


def test_a_detector_that_takes_many_is_held_to_their_number():
    many = make(BatchDetector(lambda images: images // 2))
    found = load_detections(many).batch([IMAGE, IMAGE + 1])
    np.testing.assert_array_equal(found[1].hint, (IMAGE + 1) // 2)
    np.testing.assert_array_equal(load_detector(many)(IMAGE), IMAGE // 2)
    short = make(BatchDetector(lambda images: images[1:]))
    with pytest.raises(CnctlError, match="'sample' returned 1 hints for 2 images"):
        load_detections(short).batch([IMAGE, IMAGE])
    picky = make(BatchDetector(lambda images: [None, *images[1:]]))
    assert [found is None for found in load_detections(picky).batch([IMAGE, IMAGE])] == [
        True,
        False,
    ]


def test_a_detector_that_does_not_is_called_for_each():
    one = load_detections(make(lambda image: image // 2))
    assert not one.takes_many
    np.testing.assert_array_equal(one.batch([IMAGE, IMAGE + 1])[1].hint, (IMAGE + 1) // 2)
