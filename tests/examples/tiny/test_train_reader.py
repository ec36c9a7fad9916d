"""What the reader is trained towards."""

import numpy as np

from cnctl.tiny.scenes import HELD_OUT, render_scene
from examples.tiny.train_reader import joint_heat


def test_a_joints_heat_is_one_at_the_joint() -> None:
    scene = render_scene(HELD_OUT, show="person")
    heat = joint_heat(scene)
    for number, (x, y) in enumerate(scene.keypoints[0]):
        assert np.unravel_index(heat[number].argmax(), heat[number].shape) == (round(y), round(x))
