"""Hands and faces: boxes as controlnet_aux's, peaks of hand-made maps, the networks for real."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cnctl_conditions.openpose import openpose, pose_detection
from cnctl_conditions.shared import hands_and_faces
from cnctl_conditions.shared.hands_and_faces import (
    face_box,
    face_points,
    hand_box,
    hand_points,
    load_details,
)
from cnctl_conditions.shared.networks import import_network
from cnctl_conditions.shared.skeleton import draw_pose

from cnctl.hints.files import DetectorFiles

STANDING = [
    *[(50, 20), (50, 35), (38, 36), (32, 52), (28, 66), (62, 36), (68, 52), (72, 66)],
    *[(43, 70), (41, 92), (40, 112), (57, 70), (59, 92), (60, 112)],
    *[(46, 15), (54, 15), (41, 18), (59, 18)],
]


def person(points=STANDING, scale=1.0):
    return [
        None if point is None else (scale * point[0], scale * point[1], 1.0) for point in points
    ]


def theirs(points):
    return SimpleNamespace(keypoints=[p and SimpleNamespace(x=p[0], y=p[1]) for p in points])


@pytest.fixture(scope="module")
def util():
    return import_network("open_pose.util", "handDetect").__globals__


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_boxes_of_hands_are_those_of_controlnet_aux(util, scale):
    """Faces in the middle of a picture, at its edge, and too small ones."""
    for width, height in ((640, 480), (round(75 * scale), round(80 * scale))):
        image = np.zeros((height, width, 3), np.uint8)
        expected = util["handDetect"](theirs(person(scale=scale)), image)
        ours = {s: hand_box(person(scale=scale), s, width=width, height=height)
                for s in ("left", "right")}  # fmt: skip
        assert {s: box for s, box in ours.items() if box} == {
            "left" if left else "right": (x, y, side) for x, y, side, left in expected
        }


def test_a_hand_is_looked_for_where_the_whole_arm_is_seen():
    hidden = [point if i != 6 else None for i, point in enumerate(STANDING)]
    assert hand_box(person(hidden), "left", width=640, height=480) is None
    assert hand_box(person(hidden), "right", width=640, height=480) is not None


@pytest.mark.parametrize("hidden", [(), (14,), (14, 15), (16, 17), (14, 15, 16, 17), (0,)])
def test_boxes_of_faces_are_those_of_controlnet_aux(util, hidden):
    points = person([None if i in hidden else p for i, p in enumerate(STANDING)], scale=3)
    expected = util["faceDetect"](theirs(points), np.zeros((480, 640, 3), np.uint8))
    assert face_box(points, width=640, height=480) == expected


def bumps(*places, size=128):
    y, x = np.mgrid[:size, :size]
    return sum(h * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py, h in places)


def test_a_point_of_a_hand_is_the_peak_of_the_warmest_spot():
    two, one, none = bumps((30, 40, 1.0), (90, 100, 0.5)), bumps((64, 8, 0.4)), bumps((0, 0, 0))
    heat = np.stack([two, one, none], axis=2)
    found = hand_points(heat, (100, 200, 64))
    assert [p and p[:2] for p in found] == [(115, 220), (132, 204), None]
    assert found[0][2] == pytest.approx(1.0)


def test_a_point_of_a_face_is_the_peak_of_its_map():
    heat = np.stack([bumps((30, 40, 1.0)), 0.04 * bumps((5, 5, 1.0))])
    assert face_points(heat, (10, 20, 128)) == [(40, 60, pytest.approx(1.0)), None]


@pytest.fixture(scope="module")
def networks(save_network):
    """Both with random weights at half precision, named as in the published files."""

    def louder(net):
        for name, parameter in net.named_parameters():
            if "Mconv7_stage6" in name:
                parameter.data *= 30
        return net.half()

    hand = save_network(
        lambda: louder(import_network("open_pose.model", "handpose_model")()),
        "hand_pose_model.pth",
        lambda name: name.partition(".")[2],
    )
    face = save_network(
        lambda: louder(import_network("open_pose.face", "FaceNet")()), "facenet.pth"
    )
    return hand.float(), face.float()


@pytest.mark.slow
def test_points_are_the_peaks_of_what_the_networks_say(networks, monkeypatch):
    """The networks see blue first; at one small size nothing but the maps is resized."""
    monkeypatch.setattr(hands_and_faces, "HAND_SIDES", (64,))
    monkeypatch.setattr(hands_and_faces, "FACE_SIDE", 64)
    monkeypatch.setattr(hands_and_faces, "hand_box", lambda *_, **__: (16, 8, 64))
    monkeypatch.setattr(hands_and_faces, "face_box", lambda *_, **__: (4, 12, 64))
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    look = load_details("cpu", DetectorFiles(openpose), hands=True, faces=True)
    found = look(image, person())
    assert set(found) == {
        "hand_left_keypoints_2d", "hand_right_keypoints_2d", "face_keypoints_2d",
    }  # fmt: skip
    crop = torch.from_numpy(image[12:76, 4:68, ::-1].copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        maps = networks[1](crop.float() / 256 - 0.5)[-1]
    heat = torch.nn.functional.interpolate(maps, (64, 64), mode="bilinear", align_corners=True)
    for point, one in zip(found["face_keypoints_2d"], heat[0, :70].numpy(), strict=True):
        y, x = np.unravel_index(one.argmax(), one.shape)
        assert (point is None) == (one.max() <= 0.05)
        assert point is None or point[:2] == (4 + x, 12 + y)
    hand = found["hand_left_keypoints_2d"]
    assert len(hand) == 21
    assert any(hand)
    assert all(16 <= p[0] < 80 and 8 <= p[1] < 72 for p in hand if p)


def test_nothing_is_loaded_that_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("CNCTL_DETECTORS", str(tmp_path))
    look = load_details("cpu", DetectorFiles(openpose), hands=False, faces=False)
    assert look(np.zeros((64, 64, 3), np.uint8), person()) == {}


def test_hands_and_faces_go_out_as_json_and_are_drawn_from_it():
    hand = [(10 + 3 * i, 80 + (i % 5), 0.9) for i in range(20)] + [None]
    face = [(40 + i % 10, 20 + i // 10, 0.8) for i in range(70)]
    details = [{"hand_left_keypoints_2d": hand, "face_keypoints_2d": face}]
    found = pose_detection(
        [person()], (120, 100), min_keypoints=0.0, style="1.1", stick_width=4, details=details
    )
    (drawn,) = found.data["people"]
    assert drawn["hand_left_keypoints_2d"][:3] == [10, 80, 0.9]
    assert drawn["hand_left_keypoints_2d"][-3:] == [0, 0, 0]
    assert len(drawn["face_keypoints_2d"]) == 210
    assert (found.hint == draw_pose(found.data)).all()
    assert found.hint[20, 40].tolist() == [255, 255, 255], "a point of a face is white"
    assert found.hint[80, 10].tolist() == [0, 0, 255], "a joint of a hand is blue"
