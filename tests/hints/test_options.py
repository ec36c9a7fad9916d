import numpy as np
import pytest

from cnctl.errors import CnctlError
from cnctl.hints.options import describe_range, parse_options
from cnctl.hints.run import load_detector
from cnctl.plugin import Condition, Option

IMAGE = np.zeros((13, 7, 3), np.uint8)

OPTIONS = {
    "radius": Option(9, minimum=1, maximum=64),
    "weight": Option(0.5, minimum=0),
    "invert": Option(False),
    "mode": Option("soft", choices=("soft", "hard")),
}


def _condition(detect, **more):
    return Condition(name="sample", summary="", load_detector=lambda device: detect, **more)


def with_options():
    """A condition whose detector records the options that it was called with."""
    seen = {}

    def detect(image, **options):
        seen.clear()
        seen.update(options)
        return image

    return _condition(detect, options=OPTIONS), seen


def test_options_not_given_take_their_defaults():
    condition, seen = with_options()
    load_detector(condition)(IMAGE, radius=np.int64(3), weight=2)
    assert seen == {"radius": 3, "weight": 2.0, "invert": False, "mode": "soft"}
    assert [type(value) for value in seen.values()] == [int, float, bool, str]


@pytest.mark.parametrize(
    "options",
    [
        {"radius": 0},
        {"radius": 65},
        {"radius": 1.5},
        {"radius": True},
        {"radius": "9"},
        {"weight": -0.1},
        {"weight": float("nan")},
        {"weight": float("inf")},
        {"invert": 1},
        {"mode": "loud"},
        {"mode": None},
    ],
)
def test_options_out_of_type_or_range_are_refused(options):
    condition, _ = with_options()
    (name,) = options
    with pytest.raises(CnctlError, match=f"sample: option {name} is .*; it must be ") as caught:
        load_detector(condition)(IMAGE, **options)
    assert caught.value.hint == f"the default is {name}={OPTIONS[name].default}"


def test_an_unknown_option_gives_the_nearest_and_all_known():
    condition, _ = with_options()
    with pytest.raises(CnctlError, match="sample has no option 'raduis'; nearest is 'radius'") as e:
        load_detector(condition)(IMAGE, raduis=3)
    assert e.value.hint == "its options: radius, weight, invert, mode"
    with pytest.raises(CnctlError, match="has no option 'radius'") as e:
        load_detector(_condition(lambda image: image))(IMAGE, radius=3)
    assert e.value.hint == "sample takes no options"


@pytest.mark.parametrize(
    ("assignment", "parsed"),
    [
        ("radius=4", {"radius": 4}),
        (" radius = 4 ", {"radius": 4}),
        ("weight=2", {"weight": 2.0}),
        ("weight=1e-3", {"weight": 0.001}),
        ("mode=hard", {"mode": "hard"}),
        *((f"invert={word}", {"invert": True}) for word in ("true", "Yes", "1", "on")),
        *((f"invert={word}", {"invert": False}) for word in ("FALSE", "no", "0", "off")),
    ],
)
def test_text_is_read_as_the_type_of_the_default(assignment, parsed):
    result = parse_options(with_options()[0], [assignment])
    assert result == parsed
    assert [type(v) for v in result.values()] == [type(v) for v in parsed.values()]


def test_the_last_of_several_assignments_counts():
    assert parse_options(with_options()[0], ["radius=4", "radius=5"]) == {"radius": 5}
    assert parse_options(with_options()[0], []) == {}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("radius", "option 'radius' has no value"),
        ("radius=", "it must be a whole number"),
        ("radius=4.5", "radius is '4.5'; it must be a whole number"),
        ("radius=99", "radius is 99; it must be 1 to 64, ends included"),
        ("weight=nan", "it must be a number"),
        ("weight=-1", "it must be at least 0"),
        ("invert=perhaps", "it must be true or false"),
        ("mode=loud", "it must be one of soft, hard"),
        ("rad=4", "no option 'rad'; nearest is 'radius'"),
        ("=4", "no option ''"),
    ],
)
def test_text_that_does_not_fit_is_refused(assignment, words):
    with pytest.raises(CnctlError, match=words):
        parse_options(with_options()[0], [assignment])


def test_ranges_in_words():
    assert describe_range(Option(1, maximum=5)) == "at most 5"
    assert describe_range(Option(1)) == ""
