"""The drawing that pose ControlNets read: colours, order of limbs, JSON in and out."""

import json

import numpy as np
import pytest
from cnctl_conditions.openpose import openpose
from cnctl_conditions.shared.networks import import_network
from cnctl_conditions.shared.pose_json import to_json
from cnctl_conditions.shared.skeleton import draw_pose, enough_points, from_coco

from cnctl.errors import CnctlError
from cnctl.hints.ready import draw_hint
from cnctl.registry import get_condition

COLOURS = [
    *[(255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)],
    *[(0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)],
    *[(0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)],
]
"""Points: nose, neck, right shoulder, elbow, wrist, left ..., right hip ... (OpenPose)."""

LIMBS = {
    0: ("neck", "right shoulder"),
    1: ("neck", "left shoulder"),
    2: ("right shoulder", "right elbow"),
    3: ("right elbow", "right wrist"),
    4: ("left shoulder", "left elbow"),
    5: ("left elbow", "left wrist"),
    6: ("neck", "right hip"),
    7: ("right hip", "right knee"),
    8: ("right knee", "right ankle"),
    9: ("neck", "left hip"),
    10: ("left hip", "left knee"),
    11: ("left knee", "left ankle"),
    12: ("neck", "nose"),
    13: ("nose", "right eye"),
    14: ("right eye", "right ear"),
    15: ("nose", "left eye"),
    16: ("left eye", "left ear"),
}
NAMES = [
    *["nose", "neck", "right shoulder", "right elbow", "right wrist"],
    *["left shoulder", "left elbow", "left wrist", "right hip", "right knee", "right ankle"],
    *["left hip", "left knee", "left ankle", "right eye", "left eye", "right ear", "left ear"],
]
PLACES = {
    "nose": (100, 40),
    "neck": (100, 80),
    "right eye": (90, 25),
    "left eye": (110, 25),
    "right ear": (75, 35),
    "left ear": (125, 35),
    "right shoulder": (65, 85),
    "left shoulder": (135, 85),
    "right elbow": (45, 120),
    "left elbow": (155, 120),
    "right wrist": (30, 155),
    "left wrist": (170, 155),
    "right hip": (80, 150),
    "left hip": (120, 150),
    "right knee": (75, 190),
    "left knee": (125, 190),
    "right ankle": (70, 230),
    "left ankle": (130, 230),
}


def person(*hidden):
    return [None if name in hidden else (*PLACES[name], 0.9) for name in NAMES]


def document(people):
    return to_json(people, width=200, height=250)


def test_every_point_has_its_colour():
    hint = draw_pose(document([person()]))
    for name, colour in zip(NAMES, COLOURS, strict=True):
        x, y = PLACES[name]
        assert tuple(hint[y, x]) == colour, name


@pytest.mark.parametrize(("number", "ends"), LIMBS.items())
def test_every_limb_joins_its_points_in_its_dimmed_colour(number, ends):
    hint = draw_pose(document([person(*(set(NAMES) - set(ends)))]))
    (x0, y0), (x1, y1) = (PLACES[name] for name in ends)
    dimmed = tuple(int(0.6 * value) for value in COLOURS[number])
    assert tuple(hint[(y0 + y1) // 2, (x0 + x1) // 2]) == dimmed
    hidden = draw_pose(document([person(*(set(NAMES) - {ends[0]}))]))
    assert not hidden[(y0 + y1) // 2, (x0 + x1) // 2].any()


def test_the_drawing_is_that_of_controlnet_aux_byte_for_byte():
    draw = import_network("open_pose.util", "draw_bodypose")
    keypoint = import_network("open_pose.body", "Keypoint")
    people = [person(), person("nose", "left knee"), person(*NAMES[2:])]
    for points in people:
        theirs = [p and keypoint(x=p[0] / 200, y=p[1] / 250) for p in points]
        expected = draw(np.zeros((250, 200, 3), np.uint8), theirs)
        ours = draw_pose(document([points]))
        assert (ours != expected).any(axis=2).mean() < 0.002  # x / 200 * 200 may round down


def test_hands_have_twenty_bones_in_hues_and_blue_joints():
    hand = [value for i in range(21) for value in (10 + 20 * (i % 5), 10 + 40 * (i // 5), 1)]
    hint = draw_pose(
        {
            "canvas_width": 120,
            "canvas_height": 200,
            "people": [{"hand_left_keypoints_2d": hand}],
        }
    )
    for i in range(21):
        assert tuple(hint[10 + 40 * (i // 5), 10 + 20 * (i % 5)]) == (0, 0, 255)
    # Bone 1 joins joints 1 and 2, both in the first row; its hue is 1/20 of the circle.
    assert np.abs(hint[10, 40] - np.array([255, 76.5, 0])).max() < 1


def test_faces_are_white_dots():
    hint = draw_pose(
        {
            "canvas_width": 40,
            "canvas_height": 30,
            "people": [{"face_keypoints_2d": [0.25, 0.5, 1, 0.5, 0.5, 0]}],
        }
    )
    assert tuple(hint[15, 10]) == (255, 255, 255)
    assert not hint[15, 20].any()


def test_the_older_style_blends_limbs_over_points():
    points = person(*(set(NAMES) - {"neck", "nose"}))
    hint = draw_pose(document([points]), style="1.0")
    limb = np.array(COLOURS[12])
    assert np.abs(hint[60, 100] - 0.6 * limb).max() <= 1
    assert np.abs(hint[80, 100] - (0.6 * limb + 0.4 * np.array(COLOURS[1]))).max() <= 1


def test_json_goes_out_and_comes_in():
    people = [person("left ear"), person()]
    data = json.loads(json.dumps(document(people)))
    assert data["people"][0]["pose_keypoints_2d"][:6] == [100, 40, 0.9, 100, 80, 0.9]
    assert data["people"][0]["pose_keypoints_2d"][-3:] == [0, 0, 0]
    hint = draw_hint(openpose, data)
    assert hint.shape == (250, 200, 3)
    flat = data["people"][0]["pose_keypoints_2d"]
    shares = [v / (200, 250, 1)[i % 3] for i, v in enumerate(flat)]
    one = {"canvas_width": 200, "canvas_height": 250}
    in_pixels = draw_pose(one | {"people": [{"pose_keypoints_2d": flat}]})
    in_shares = draw_pose([one | {"people": [{"pose_keypoints_2d": shares}]}])
    assert (in_pixels != in_shares).any(axis=2).mean() < 0.01


@pytest.mark.parametrize("flat", [[1, 2], [1, 2, 3], [0] * 51])
def test_json_of_another_shape_is_refused(flat):
    data = {"canvas_width": 9, "canvas_height": 9, "people": [{"pose_keypoints_2d": flat}]}
    with pytest.raises(CnctlError, match="numbers, not 54"):
        draw_hint(openpose, data)


@pytest.mark.parametrize(
    "size", [(0, 64), (-4, 64), (60_000, 60_000), (None, 64), (float("nan"), 5)]
)
@pytest.mark.parametrize("name", ["openpose", "hough"])
def test_a_canvas_of_no_such_size_is_refused(name, size):
    height, width = size
    data = {"people": [], "canvas_height": height, "canvas_width": width}
    data |= {"lines": [], "height": height, "width": width}
    with pytest.raises(CnctlError, match=f"canvas of {width} x {height} cannot be drawn"):
        draw_hint(get_condition(name), data)


def test_coco_points_get_a_neck_and_the_other_order():
    """COCO: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right."""
    coco = ["nose"]
    for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        coco += [f"left {part}", f"right {part}"]
    found = from_coco([(*PLACES[name], 0.5) for name in coco])
    for name, point in zip(NAMES, found, strict=True):
        assert point[:2] == ((100, 85) if name == "neck" else PLACES[name])
    no_shoulder = from_coco([None if n == "left shoulder" else (1, 1, 1) for n in coco])
    assert no_shoulder[1] is None


def test_the_papers_rule_counts_the_points_of_one_person():
    """30 % of 18 points are 5.4: six are enough, five are not, and two people do not add up."""
    six, five = person(*NAMES[6:]), person(*NAMES[5:])
    assert enough_points([six], 0.3)
    assert not enough_points([five], 0.3)
    assert not enough_points([five, five], 0.3)
    assert enough_points([five, six], 0.3)
    assert not enough_points([], 0.0)
    assert not enough_points([person(*NAMES)], 0.0)
    options = openpose.training_options(np.random.default_rng(0))
    assert options == {"min_keypoints": 0.3}
