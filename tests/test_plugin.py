import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

import cnctl.plugin
from cnctl.plugin import Condition, GenerateDefaults, Option, TrainDefaults, Weights


def make(**changes):
    return Condition(name="sample", summary="", load_detector=lambda device: None, **changes)


def test_the_public_api_needs_the_standard_library_only():
    code = """
import sys
import cnctl.plugin
own = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(sorted(own))
"""
    arguments = [sys.executable, "-I", "-c", code]
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    before = subprocess.run(
        [sys.executable, "-I", "-c", code.replace("import cnctl.plugin", "")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert set(eval(printed)) - set(eval(before)) == {"cnctl"}


def test_all_that_is_public_exists():
    assert all(hasattr(cnctl.plugin, name) for name in cnctl.plugin.__all__)


@pytest.mark.parametrize("name", ["", "Canny", "my edges", "-a", "a.b", "a:b", "a/b", "é"])
def test_names_that_a_command_line_would_trip_over_are_refused(name):
    with pytest.raises(ValueError, match="condition name"):
        replace(make(), name=name)


@pytest.mark.parametrize("name", ["canny", "pose-coco17", "my_edges", "3d"])
def test_good_names(name):
    assert replace(make(), name=name).name == name


def test_hint_channels_are_at_least_one():
    with pytest.raises(ValueError, match="hint_channels is 0"):
        make(hint_channels=0)


@pytest.mark.parametrize(
    "value",
    [
        make(),
        Option(1),
        TrainDefaults(),
        GenerateDefaults(),
        Weights(source="", family="", licence=""),
    ],
)
def test_values_are_frozen(value):
    with pytest.raises(FrozenInstanceError):
        value.name = "other"


def test_mappings_are_copies_that_cannot_be_changed():
    options = {"radius": Option(9)}
    condition = make(options=options, palette={"sky": (0, 0, 255)})
    options["more"] = Option(1)
    assert list(condition.options) == ["radius"]
    with pytest.raises(TypeError):
        condition.options["more"] = Option(1)
    with pytest.raises(TypeError):
        condition.palette["sky"] = (0, 0, 0)


def test_variants_are_made_with_replace():
    first = make(options={"radius": Option(9)})
    second = replace(first, name="other", hint_channels=1)
    assert (second.name, second.hint_channels) == ("other", 1)
    assert second.options == first.options
    assert first.name == "sample"


def test_defaults_are_the_papers():
    """Sections 3.3 and 4.1: rate 1e-5, half of the prompts empty; 20 steps, guidance 9.0."""
    assert make().train == TrainDefaults(learning_rate=1e-5, prompt_dropout=0.5, resolution=512)
    assert make().generate == GenerateDefaults(steps=20, guidance_scale=9.0, control_scale=1.0)
