"""What is said of ready hints that can hardly be of their condition."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.run import annotate
from cnctl.commands.generate.plan import plan_run
from cnctl.commands.generate.ready_hints import note_unlikely_hints, unlikely_hint
from cnctl.commands.generate.request import GenerateRequest
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


def test_hints_that_annotate_wrote_are_known_by_their_record(tmp_path: Path) -> None:
    photo = EXAMPLES / "images" / "bird.png"
    shutil.copy(photo, tmp_path / "bird.png")
    annotate(AnnotateRequest(conditions="tile", inputs=[photo], out=tmp_path, resolution=64))
    hint, told = tmp_path / "bird-tile.png", []
    for name in ("tile", "canny"):
        control = SimpleNamespace(ready=True, condition=get_condition(name))
        note_unlikely_hints([control], [read_hint(hint, channels=3)], [hint], told.append)
    assert told == [f"{hint}: a hint of tile, read as one of canny"]

    request = GenerateRequest(["canny"], [tmp_path], "a bird", base="tiny")
    assert plan_run(request, told.append).images == [tmp_path / "bird.png"]
    assert told[1].startswith("1 hint that annotate wrote: not read as images")
    ready = replace(request, ready_hint=True)
    assert len(plan_run(ready, told.append).images) == 2
