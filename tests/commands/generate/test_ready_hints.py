"""What is said of ready hints that can hardly be of their condition."""

from pathlib import Path

import numpy as np
import pytest

from cnctl.commands.generate.ready_hints import unlikely_hint
from cnctl.images import read_hint
from cnctl.registry import get_condition

EXAMPLES = Path(__file__).parents[3] / "examples"
SAID = {
    "canny": "has colours, and hints of canny are grey",
    "depth": "has colours, and hints of depth are grey",
    "ade20k": "has colours that ade20k does not use",
    "coco-stuff": "has colours that coco-stuff does not use",
    "tile": "",
    "openpose": "",
}


@pytest.mark.parametrize("name", SAID)
def test_a_photograph_is_said_where_it_cannot_be_a_hint(name: str) -> None:
    photograph = read_hint(EXAMPLES / "images" / "cat.jpg", channels=3)
    said = unlikely_hint(get_condition(name), photograph)
    assert SAID[name] in said
    assert bool(said) == bool(SAID[name])


@pytest.mark.parametrize(
    "hint", ["canny-cat", "depth-house", "ade20k-boat", "coco-stuff-tree", "scribble-fish"]
)
def test_nothing_is_said_of_hints(hint: str) -> None:
    name = hint.rpartition("-")[0]
    picture = read_hint(EXAMPLES / "hints" / f"{hint}.png", channels=3)
    assert unlikely_hint(get_condition(name), picture) == ""


def test_black_lines_on_white_are_said() -> None:
    drawing = np.full((64, 64, 3), 255, np.uint8)
    drawing[30:34] = 0
    assert "the hint is mostly white" in unlikely_hint(get_condition("canny"), drawing)
