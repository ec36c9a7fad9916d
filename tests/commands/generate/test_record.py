"""The record in an image is read as it was ever written, and one that cannot be is named."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnctl.commands.generate.record import ImageRecord, find_record, read_record
from cnctl.commands.generate.replay import replay
from cnctl.commands.generate.request import GenerateRequest
from cnctl.errors import CnctlError
from cnctl.images import write_hint, write_image

FIRST: dict[str, Any] = {
    "version": "0.1.0",
    "libraries": {"torch": "2.14.1", "diffusers": "0.42.1", "transformers": "5.24.0"},
    "device": "cpu",
    "dtype": "float32",
    "base": "tiny",
    "base_sha256": "fb5f",
    "family": "tiny",
    "steps": 2,
    "guidance_scale": 3.0,
    "resolution": 128,
    "resize": "stretch",
    "scheduler": "ddim",
    "emphasis": False,
    "clip_skip": 1,
    "prompt": "a cat",
    "negative_prompt": "",
    "seed": 4,
    "controls": [
        {
            "condition": "canny",
            "plugin": "cnctl 0.1.0",
            "options": {"low_threshold": 100, "high_threshold": 200},
            "source": {"name": "cat.jpg", "sha256": "262e"},
            "weights": {"name": "weights.safetensors", "sha256": "058f", "given": ""},
            "region": {"name": "mask.png", "sha256": "1f73"},
            "scale": 0.7,
            "start": 0.0,
            "end": 0.5,
            "mode": "balanced",
            "step_scales": [1.0, 0.5],
            "hint": {"name": "cat-canny-hint.png", "sha256": "64fa"},
        }
    ],
    "loras": [{"name": "style.safetensors", "sha256": "77aa", "scale": 0.8}],
    "embeddings": [{"name": "toy.pt", "sha256": "88bb", "word": "toy"}],
    "size": [128, 64],
    "edit": {"image": {"name": "cat.jpg", "sha256": "262e"}, "strength": 0.8},
    "batch": {"index": 1, "size": 2},
    "width": 128,
    "height": 64,
}
"""All that cnctl 0.1.0 wrote, before the format had a number."""


def image(folder: Path, document: Any) -> Path:
    texts = {"cnctl": json.dumps(document)}
    write_image(folder / "x.png", np.zeros((8, 8, 3), np.uint8), metadata=texts)
    write_hint(folder / "cat-canny-hint.png", np.zeros((8, 8, 3), np.uint8))
    for name in ("cat.jpg", "mask.png", "style.safetensors", "toy.pt"):
        (folder / name).touch()
    return folder / "x.png"


def test_a_record_without_a_number_is_read_and_written_with_one(tmp_path: Path) -> None:
    record = read_record(image(tmp_path, FIRST))
    assert record.controls[0].step_scales == (1.0, 0.5)
    assert record.size == (128, 64)
    assert record.settings["scheduler"] == "ddim"
    written = json.loads(json.dumps(record.to_json()))
    assert written == FIRST | {"format": 1}
    assert ImageRecord.from_json(written) == record


def test_its_request_is_made_of_it(tmp_path: Path) -> None:
    request = replay(image(tmp_path, FIRST), GenerateRequest())
    (control,) = request.controls
    assert (control.scale, control.end, control.region) == (0.7, 0.5, tmp_path / "mask.png")
    assert request.loras == [f"{tmp_path}/style.safetensors:0.8"]
    assert request.embeddings == [f"toy={tmp_path}/toy.pt"]
    assert (request.strength, request.size, request.in_batch) == (0.8, (128, 64), (1, 2))
    assert request.settings == {n: FIRST[n] for n in [*FIRST][7:14]}


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            {"format": 2, "version": "0.9"},
            "format 2, and this version of cnctl reads",
            "install cnctl 0.9",
        ),
        ({"format": "x"}, "format x, and this version of cnctl reads", "install cnctl 0.1.0"),
        (
            {"eta": 0.5},
            "with the setting 'eta', which this version of cnctl does",
            "install cnctl 0.1.0",
        ),
        ({"steps": "2"}, "is damaged: 'steps' is '2', which is not of type int", "give a PNG"),
        ({"seed": None}, "is damaged: 'seed' is None, which is not of type int", "give a PNG"),
        ({"controls": [{}]}, "is damaged: 'controls' lacks 'condition'", "give a PNG"),
        ({"batch": {"index": 0}}, "is damaged: 'batch' lacks 'size'", "give a PNG"),
    ],
)
def test_names_what_it_cannot_repeat(tmp_path: Path, change: dict, message: str, hint: str) -> None:
    path = image(tmp_path, FIRST | change)
    with pytest.raises(CnctlError, match=message) as caught:
        replay(path, GenerateRequest())
    assert path.name in str(caught.value)
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("document", [[], 3, {"options": {}}, {"controls": []}])
def test_other_metadata_is_not_a_record(tmp_path: Path, document: Any) -> None:
    assert find_record(image(tmp_path, document)) is None


def test_differences_name_the_innermost_part() -> None:
    record = ImageRecord.from_json(FIRST)
    other = deepcopy(FIRST)
    other["controls"][0]["source"]["sha256"] = "9999"
    other["steps"] = 3
    del other["loras"], other["edit"]
    found = ImageRecord.from_json(other)
    assert record.differences(record) == []
    assert record.differences(found) == ["steps", "sha256", "loras", "edit"]
