import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from cnctl_conditions.openpifpaf import openpifpaf, read_predictions
from cnctl_conditions.openpose import openpose
from PIL import Image

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.run import annotate
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.ready import draw_hint, read_ready
from cnctl.hints.run import load_detections, load_detector
from cnctl.images import read_hint

COCO = [
    *[(50, 20), (54, 15), (46, 15), (59, 18), (41, 18), (62, 36), (38, 36), (68, 52), (32, 52)],
    *[(72, 66), (28, 66), (57, 70), (43, 70), (59, 92), (41, 92), (60, 112), (40, 112)],
]
"""Nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right."""

PROGRAM = """#!{python}
import json, sys
from pathlib import Path
module, picture, flag, folder = sys.argv[2:]
assert sys.argv[1:3] == ["-m", "openpifpaf.predict"] and flag == "--json-output"
assert Path(picture).read_bytes().startswith(b"\\x89PNG")
Path(folder, Path(picture).name + ".predictions.json").write_text({predictions!r})
"""
"""Answers as `python -m openpifpaf.predict` does; OpenPifPaf itself cannot be installed here."""


def annotation(hidden=()):
    flat = []
    for number, (x, y) in enumerate(COCO):
        flat += (0.0, -3.0, 0.0) if number in hidden else (x, y, 0.8)
    return {"keypoints": flat, "bbox": [28, 15, 44, 97], "score": 0.9, "category_id": 1}


def program(folder, predictions):
    path = folder / "python"
    text = PROGRAM.format(python=sys.executable, predictions=json.dumps(predictions))
    path.write_text(text.replace("module, ", "_, "))
    path.chmod(0o755)
    return str(path)


def test_predictions_are_drawn_as_openpose_draws_them(tmp_path):
    image = np.zeros((128, 100, 3), np.uint8)
    found = load_detections(openpifpaf)(image, python=program(tmp_path, [annotation()]))
    hint = found.hint
    assert tuple(hint[20, 50]) == (255, 0, 0)  # nose
    assert tuple(hint[36, 50]) == (255, 85, 0)  # neck, half-way between the shoulders
    assert tuple(hint[36, 38]) == (255, 170, 0)  # right shoulder
    assert tuple(hint[112, 60]) == (85, 0, 255)  # left ankle
    assert (draw_hint(openpifpaf, found.data) == hint).all()


def test_a_hidden_joint_is_not_drawn():
    """OpenPifPaf writes it as (0, -3, 0)."""
    (person,) = read_predictions([annotation(hidden=[15])])
    assert person[13] is None
    assert sum(point is not None for point in person) == 17


def test_nobody_is_none_and_the_papers_rule_holds(tmp_path):
    image = np.zeros((128, 100, 3), np.uint8)
    detect = load_detector(openpifpaf)
    assert detect(image, python=program(tmp_path, [])) is None
    few = program(tmp_path, [annotation(hidden=range(4, 17))])
    assert detect(image, python=few) is not None
    assert detect(image, python=few, min_keypoints=0.3) is None


def test_without_an_interpreter_one_line_says_what_to_do(tmp_path):
    detect = load_detector(openpifpaf)
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(MissingError, match="a separate Python") as error:
        detect(image)
    assert "--option python=" in error.value.hint
    with pytest.raises(MissingError, match="openpifpaf"):
        detect(image, python=str(tmp_path / "nothing"))
    with pytest.raises(MissingError, match=r"No module named .openpifpaf"):
        detect(image, python=sys.executable)


@pytest.mark.parametrize("wrong", [{}, [1], [{"keypoints": [1, 2, 3]}]])
def test_other_json_is_refused(wrong):
    with pytest.raises(CnctlError, match="OpenPifPaf"):
        read_predictions(wrong)


def test_the_recipe_is_the_papers():
    """Section 3.5: 80k pairs, the 30 % rule, 400 GPU-hours on RTX 3090TI, SD 2.1."""
    for fact in ("80k", "30 %", "400 RTX 3090TI"):
        assert fact in openpifpaf.train.recipe
    assert openpifpaf.base == "stabilityai/stable-diffusion-2-1"
    assert openpifpaf.weights == openpose.weights, "the drawing is openpose's"


def test_the_picture_reaches_it_in_its_colours(tmp_path):
    seen = tmp_path / "seen.png"
    script = tmp_path / "python"
    copy = f"import shutil, sys; shutil.copy(sys.argv[3], {str(seen)!r}); sys.exit(3)"
    script.write_text(f"#!{sys.executable}\n{copy}\n")
    script.chmod(0o755)
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0] = 200
    with pytest.raises(MissingError, match="exit code 3"):
        load_detector(openpifpaf)(image, python=str(script))
    assert (cv2.imread(str(seen))[..., ::-1] == image).all()
    assert Path(seen).exists()


def test_predictions_beside_pictures_are_read_at_the_size_that_is_wanted(tmp_path):
    """As `openpifpaf.predict --json-output` names them; sticks are as thick as ever."""
    (tmp_path / "people").mkdir()
    (tmp_path / "told").mkdir()
    Image.new("RGB", (200, 256), "grey").save(tmp_path / "people/a.jpg")
    larger = [{**annotation(), "keypoints": [2 * v if i % 3 < 2 else v
               for i, v in enumerate(annotation()["keypoints"])]}]  # fmt: skip
    (tmp_path / "told/a.jpg.predictions.json").write_text(json.dumps(larger))
    Image.new("RGB", (64, 64)).save(tmp_path / "people/b.png")
    (tmp_path / "told/b.png.predictions.json").write_text("[]")
    result = annotate(
        AnnotateRequest(
            conditions="openpifpaf",
            inputs=[tmp_path / "people"],
            out=tmp_path / "out",
            resolution=96,
            ground_truth=tmp_path / "told",
        )
    )
    (made,) = result.hints
    hint = read_hint(made.path, channels=3)
    width = 96
    assert tuple(hint[round(20 * hint.shape[0] / 128), round(50 * width / 100)]) == (255, 0, 0)
    assert (draw_hint(openpifpaf, made.data) == hint).all()
    assert "nobody in it shows enough points" in result.failed[0].error


def test_predictions_alone_do_not_say_how_large_the_picture_was(tmp_path):
    path = tmp_path / "a.jpg.predictions.json"
    path.write_text(json.dumps([annotation()]))
    with pytest.raises(CnctlError, match="do not say how large their picture is"):
        read_ready(openpifpaf, path)
    editor = load_detections(openpifpaf)(
        np.zeros((128, 100, 3), np.uint8), python=program(tmp_path, [annotation()])
    )
    path.write_text(json.dumps(dict(editor.data)))
    assert (read_ready(openpifpaf, path) == editor.hint).all()
