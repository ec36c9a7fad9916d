"""Lines and key points go out as JSON beside hints, and come in as hints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.run import annotate
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.errors import CnctlError


@pytest.fixture
def house(tmp_path):
    pixels = np.full((64, 96, 3), 30, np.uint8)
    pixels[16:48, 24:72] = (220, 60, 40)
    Image.fromarray(pixels).save(tmp_path / "house.png")
    return tmp_path / "house.png"


def test_annotate_tells_the_lines_of_each_hint(house, tmp_path):
    result = annotate(
        AnnotateRequest(
            conditions="hough",
            inputs=[house],
            out=tmp_path / "out",
            options=["method=lsd"],
            resolution=64,
        )
    )
    document = json.loads(json.dumps(result.as_dict(), default=str))
    data = document["hints"][0]["data"]
    assert len(data["lines"]) == 4
    assert (data["width"], data["height"]) == (96, 64)


def test_generate_draws_a_pose_from_json_without_the_detector(
    random_base, random_controlnet, tmp_path
):
    base = tmp_path / "base"
    shutil.copytree(random_base, base)
    random_controlnet.save_pretrained(base / "controls" / "openpose")
    row = [value for i in range(18) for value in (3 * i + 4, 2 * i + 6, 1)]
    pose = {"canvas_width": 64, "canvas_height": 64, "people": [{"pose_keypoints_2d": row}]}
    (tmp_path / "pose.json").write_text(json.dumps(pose))
    spec = [ControlSpec(condition="openpose", source=tmp_path / "pose.json")]
    options = {"base": str(base), "ready_hint": True, "settings": {"steps": 1, "resolution": 64}}
    (made,) = generate(GenerateRequest(spec, out=tmp_path / "images", seed=1, **options))
    with Image.open(made.path) as image:
        assert image.size == (64, 64)


@pytest.mark.parametrize(
    ("condition", "text", "message"),
    [("canny", "{}", "cannot draw a hint from data"), ("openpose", "{", "cannot be read as JSON")],
)
def test_json_that_cannot_be_drawn_is_refused(condition, text, message, tmp_path):
    path: Path = tmp_path / "hint.json"
    path.write_text(text)
    with pytest.raises(CnctlError, match=message):
        list(
            generate(
                GenerateRequest([ControlSpec(condition=condition, source=path)], ready_hint=True)
            )
        )
