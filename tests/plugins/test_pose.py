import numpy as np
import pytest
from cnctl_conditions.pose import pose

from cnctl.commands.conditions.check import check_condition
from cnctl.hints.ready import draw_hint
from cnctl.hints.run import load_detections, load_detector


@pytest.fixture(scope="module", autouse=True)
def models(detectors, folders):
    folders.rt_detr(detectors / "rtdetr_r50vd_coco_o365")
    folders.vitpose(detectors / "vitpose-base-simple")


EVERYTHING = {"person_score": 0.0, "point_score": 0.0}
"""Random weights are sure of nothing."""


def test_people_are_found_and_drawn_at_any_size(photo):
    for image in (photo, photo[:40, :61]):
        found = load_detections(pose)(image, **EVERYTHING)
        assert found.hint.shape == image.shape
        assert (found.data["canvas_height"], found.data["canvas_width"]) == image.shape[:2]
        assert 1 <= len(found.data["people"]) <= 3
        assert all(len(p["pose_keypoints_2d"]) == 54 for p in found.data["people"])
        assert (draw_hint(pose, found.data) == found.hint).all()


@pytest.mark.slow
def test_nobody_is_none_and_no_black_map(photo):
    assert load_detector(pose)(photo, person_score=1.0) is None
    assert load_detector(pose)(photo, person_score=0.0, point_score=1.0) is None


def test_the_papers_rule_leaves_out_people_with_few_points(photo):
    detect = load_detections(pose)
    people = detect(photo, **EVERYTHING).data["people"]
    middling = float(np.median([p["pose_keypoints_2d"][2::3] for p in people]))
    options = {"person_score": 0.0, "point_score": middling}
    people = detect(photo, **options).data["people"]
    most = max(np.count_nonzero(p["pose_keypoints_2d"][2::3]) for p in people)
    assert 0 < most < 18
    assert detect(photo, **options, min_keypoints=most / 18) is not None
    assert detect(photo, **options, min_keypoints=(most + 0.5) / 18) is None


@pytest.mark.slow
def test_the_contract_is_kept_where_someone_is_found(photo):
    from dataclasses import replace

    options = dict(pose.options)
    for name in EVERYTHING:
        options[name] = replace(options[name], default=0.0)
    assert check_condition(replace(pose, options=options), image=photo) == []


def test_it_may_be_used_commercially(photo):
    assert load_detector(pose, commercial=True)(photo, **EVERYTHING) is not None
    assert all(file.commercial for file in pose.files.values())
