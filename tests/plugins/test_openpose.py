import math

import numpy as np
import pytest
from cnctl_conditions.openpose import find_peaks, find_people, load_network_maps, openpose
from cnctl_conditions.shared.networks import import_network

from cnctl.errors import CnctlError
from cnctl.hints.files import DetectorFiles
from cnctl.hints.run import load_detector

FIELDS = [
    *[(1, 2, 12), (1, 5, 20), (2, 3, 14), (3, 4, 16), (5, 6, 22), (6, 7, 24), (1, 8, 0)],
    *[(8, 9, 2), (9, 10, 4), (1, 11, 6), (11, 12, 8), (12, 13, 10), (1, 0, 28), (0, 14, 30)],
    *[(14, 16, 34), (0, 15, 32), (15, 17, 36), (2, 16, 18), (5, 17, 26)],
]
"""OpenPose's limbs: point, point, the first channel of their field."""

STANDING = np.array(
    [
        *[(50, 20), (50, 35), (38, 36), (32, 52), (28, 66), (62, 36), (68, 52), (72, 66)],
        *[(43, 70), (41, 92), (40, 112), (57, 70), (59, 92), (60, 112)],
        *[(46, 15), (54, 15), (41, 18), (59, 18)],
    ],
    float,
)


def maps_of(people, height=128, width=220):
    """Heat with a bump on every point, fields with unit vectors along every limb."""
    y, x = np.mgrid[:height, :width]
    heat, fields = np.zeros((height, width, 18)), np.zeros((height, width, 38))
    for person in people:
        for part, point in enumerate(person):
            if point is not None:
                bump = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 3.0**2))
                heat[..., part] = np.maximum(heat[..., part], bump)
        for a, b, channel in FIELDS:
            if person[a] is not None and person[b] is not None:
                way = np.subtract(person[b], person[a])
                length = math.hypot(*way)
                for step in np.linspace(0, 1, 4 * int(length) + 2):
                    cx, cy = person[a] + step * way
                    near = (x - cx) ** 2 + (y - cy) ** 2 <= 4
                    fields[near, channel : channel + 2] = way / length
    return heat, fields


def as_sets(people):
    return sorted(
        tuple(None if p is None else (round(p[0]), round(p[1])) for p in person)
        for person in people
    )


def test_people_are_put_together_from_maps():
    other = STANDING + np.array([110, 5])
    found = find_people(*maps_of([STANDING, other]))
    assert len(found) == 2
    for person, truth in zip(sorted(found, key=lambda p: p[0][0]), [STANDING, other], strict=True):
        assert np.abs(np.array(person)[:, :2] - truth).max() <= 1
        assert min(point[2] for point in person) > 0.9


def test_hidden_points_are_none():
    partly = [None if part in (4, 7, 10, 13) else point for part, point in enumerate(STANDING)]
    (found,) = find_people(*maps_of([partly]))
    assert [part for part, point in enumerate(found) if point is None] == [4, 7, 10, 13]


def test_scraps_are_no_people():
    """Three points, one fewer than it takes; and points that no field joins."""
    scrap = [point if part in (2, 3, 4) else None for part, point in enumerate(STANDING)]
    assert find_people(*maps_of([scrap])) == []
    heat, fields = maps_of([STANDING])
    assert find_people(heat, np.zeros_like(fields)) == []


def test_peaks_are_maxima_above_a_tenth():
    heat = np.zeros((40, 50))
    heat[10, 20], heat[30, 5], heat[30, 40] = 40.0, 40.0, 5.0
    x, y, value = find_peaks(heat).T
    assert sorted(zip(x, y, value, strict=True)) == [(5, 30, 40), (20, 10, 40)]


@pytest.fixture(scope="module")
def network(save_network):
    """OpenPose with random weights at half precision, under the names of the published file."""

    def build():
        net = import_network("open_pose.model", "bodypose_model")()
        for name, parameter in net.named_parameters():
            if "Mconv7_stage6" in name:
                parameter.data *= 30
        return net.half()

    return save_network(build, "body_pose_model.pth", lambda name: name.partition(".")[2]).float()


@pytest.mark.slow
def test_peaks_and_people_are_those_of_controlnet_aux(network, photo):
    """The same random weights in the code that the released ControlNets' data were made with."""
    import_network("open_pose.util", "smart_resize")  # first: the two import each other
    body = import_network("open_pose.body", "Body")
    reference = body.__new__(body)
    reference.model = network
    candidates, _ = reference(photo[..., ::-1].copy())
    heat, fields = load_network_maps("cpu", DetectorFiles(openpose)["body"])(photo)
    assert fields.shape == (64, 64, 38)
    ours = np.concatenate([find_peaks(heat[..., part]) for part in range(18)])
    assert len(ours) > 5
    assert ours.shape == candidates[:, :3].shape
    assert np.abs(ours - candidates[:, :3]).max() < 1e-3


@pytest.mark.slow
def test_nobody_is_none_and_no_black_map(network):
    assert load_detector(openpose)(np.zeros((16, 16, 3), np.uint8), min_keypoints=1.0) is None


def test_it_is_not_for_commercial_use(network):
    with pytest.raises(CnctlError, match="non-commercial use only"):
        load_detector(openpose, commercial=True)


def test_the_recipe_is_the_papers():
    """Section 3.5: 200k pairs, the 30 % rule, 300 A100 GPU-hours, Stable Diffusion 2.1."""
    for fact in ("200k", "30 %", "300 A100"):
        assert fact in openpose.train.recipe
    assert openpose.base == "stabilityai/stable-diffusion-2-1"
