"""Scenes are pure functions of their seed, and their maps are true."""

import hashlib
import itertools

import cv2
import numpy as np
import pytest
from cnctl_conditions.segmentation import ade20k

from cnctl.tiny.captions import vocabulary
from cnctl.tiny.scenes import (
    CROWD,
    FULL,
    HELD_OUT,
    LABELS,
    NAMES,
    NOVICE,
    USUAL,
    exact_maps,
    render_scene,
)
from cnctl.tiny.shapes import CLASSES, COLOURS, KINDS
from examples.tiny.dataset import training_scene

SCENES = [render_scene(seed, level=level) for level in (NOVICE, USUAL, FULL) for seed in range(30)]
SMALL = [render_scene(seed, level=NOVICE, size=64) for seed in range(300)]
SINGLE = [scene for scene in SCENES if len(scene.objects) == 1]


def nearest_colour(pixels):
    distances = {name: np.linalg.norm(pixels - rgb) for name, rgb in COLOURS.items()}
    return min(distances, key=distances.get)


def test_a_seed_gives_the_same_scene_whoever_drew_before():
    first = render_scene(7)
    render_scene(8)
    again = render_scene(7)
    assert first.prompt == again.prompt
    for name in ("image", "segmentation", "depth", "normals", "outlines"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_seeds_and_levels_differ():
    drawn = {hashlib.sha256(scene.image.tobytes()).hexdigest() for scene in SCENES}
    assert len(drawn) == len(SCENES)


@pytest.mark.parametrize("size", [64, 128, 200])
def test_shapes_and_types(size):
    scene = render_scene(3, size=size)
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.segmentation.shape == (size, size)
    assert scene.segmentation.dtype == np.uint8
    assert scene.depth.dtype == scene.normals.dtype == np.float32
    assert scene.normals.shape == (size, size, 3)


def test_a_scene_is_the_same_thing_at_every_size():
    small, large = render_scene(11, size=64), render_scene(11, size=128)
    assert [thing.name for thing in small.objects] == [thing.name for thing in large.objects]
    assert small.prompt == large.prompt
    agree = small.segmentation == large.segmentation[::2, ::2]
    assert agree.mean() > 0.95


def test_maps_keep_their_ranges():
    for scene in SCENES:
        assert scene.depth.min() >= 0
        assert scene.depth.max() <= 1
        np.testing.assert_allclose(np.linalg.norm(scene.normals, axis=-1), 1, atol=1e-4)
        assert set(np.unique(scene.segmentation)) <= set(LABELS.values())


def test_things_are_near_and_large_and_where_their_box_is():
    for scene in SINGLE:
        thing = scene.objects[0]
        inside = scene.segmentation == LABELS[thing.name]
        assert inside.mean() > 0.03, scene.prompt
        assert scene.depth[inside].min() >= scene.depth[~inside].max() - 0.15
        rows, columns = np.nonzero(inside)
        left, top, right, bottom = thing.box
        assert left - 2 <= columns.mean() <= right + 2
        assert top - 2 <= rows.mean() <= bottom + 2


@pytest.mark.parametrize("kind", ["ball", "heart", "star"])
def test_a_plain_thing_has_the_colour_its_caption_says(kind):
    shown = [scene for scene in SMALL if scene.objects[0].name == kind]
    right = 0
    for scene in shown:
        pixels = scene.image[scene.segmentation == LABELS[kind]]
        right += nearest_colour(np.median(pixels, axis=0)) == scene.objects[0].colour
    assert len(shown) > 10
    assert right >= 0.9 * len(shown)


def test_a_caption_names_the_class_and_only_its_own_colour():
    for scene in SCENES:
        words = scene.prompt.split()
        if len(scene.objects) == 2 or scene.backdrop.kind not in ("plain", "gradient"):
            continue
        said = [word for word in words if word in COLOURS]
        assert set(said) <= {scene.objects[0].colour, *scene.backdrop.colours}


def test_an_unsaid_colour_is_natural():
    for scene in SINGLE:
        thing = scene.objects[0]
        if thing.colour not in scene.prompt.split():
            assert thing.colour in KINDS[thing.name].natural


def test_a_persons_joints_lie_on_the_person():
    people = [scene for scene in SCENES if any(o.name == "person" for o in scene.objects)]
    assert people
    for scene in people:
        (joints,) = scene.keypoints
        assert joints.shape == (18, 2)
        assert joints.dtype == np.float32
        person = scene.segmentation == LABELS["person"]
        rows, columns = np.nonzero(person)
        assert joints[:, 0].min() >= columns.min() - 1
        assert joints[:, 0].max() <= columns.max() + 1
        assert joints[:, 1].min() >= rows.min() - 1
        assert joints[:, 1].max() <= rows.max() + 1
        covered = [person[int(y), int(x)] for x, y in joints if max(x, y) < 128 and min(x, y) >= 0]
        assert np.mean(covered) > 0.9 or len(scene.objects) == 2


def test_only_people_have_joints():
    for scene in SCENES:
        people = sum(thing.name == "person" for thing in scene.objects)
        assert len(scene.keypoints) == people


def test_every_class_appears_and_every_word_is_known():
    scenes = [training_scene(seed) for seed in range(150)]
    assert {thing.name for scene in scenes for thing in scene.objects} == set(CLASSES)
    known = set(vocabulary())
    assert {word for scene in scenes for word in scene.prompt.split()} <= known


def test_held_out_scenes_are_not_training_scenes():
    assert not np.array_equal(training_scene(0).image, training_scene(HELD_OUT).image)


def test_outlines_run_where_the_segmentation_changes():
    for scene in SINGLE:
        label = LABELS[scene.objects[0].name]
        inside = (scene.segmentation == label).astype(np.uint8)
        border = cv2.dilate(inside, np.ones((3, 3))) > inside
        near_lines = cv2.dilate(scene.outlines, np.ones((5, 5))) > 64
        assert near_lines[border > 0].mean() > 0.95, scene.prompt
        assert (scene.outlines > 64).mean() < 0.25


def test_levels_show_one_to_three_things_side_by_side():
    counts = {
        level: {len(render_scene(seed, level=level).objects) for seed in range(20)}
        for level in (NOVICE, USUAL, FULL, CROWD)
    }
    assert counts == {NOVICE: {1}, USUAL: {1}, FULL: {1, 2}, CROWD: {3}}
    for seed in range(20):
        scene = render_scene(seed, level=CROWD)
        boxes = [thing.box for thing in scene.objects]
        assert all(left[2] < right[0] for left, right in itertools.pairwise(boxes))
        shown = set(np.unique(scene.segmentation))
        assert {LABELS[thing.name] for thing in scene.objects} <= shown, scene.prompt


@pytest.mark.parametrize("kind", ["person", "house"])
def test_a_scene_shows_what_it_is_told_to(kind):
    for seed in range(5):
        scene = render_scene(seed, show=kind)
        assert scene.objects[0].name == kind
        assert kind in scene.prompt.split()


def test_exact_maps_are_what_conditions_are_promised():
    scene = render_scene(2, show="person")
    maps = exact_maps(scene)
    assert maps["people"].shape == (1, 18, 2)
    assert maps["edges"].dtype == np.float32
    assert 0 <= maps["edges"].min() < maps["edges"].max() <= 1
    seen = {maps["names"][label] for label in np.unique(maps["labels"])}
    assert "person" in seen
    assert exact_maps(render_scene(2, show="cup"))["people"].shape == (0, 18, 2)


def test_labels_have_names_of_ade20k():
    assert set(NAMES) <= ade20k.palette.keys()
