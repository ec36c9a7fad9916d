"""What a network sees at a place is drawn at that place, whatever the picture's size.

The networks' answers are put in by hand here: red against blue, at the size at which each of them
answers. All else is real: the processor that resizes and pads, and what is made of the answer.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from cnctl_conditions.coco_stuff import USED, coco_stuff
from cnctl_conditions.depth import depth, depth_anything, depth_zoe
from cnctl_conditions.segmentation import ade20k, ade20k_oneformer
from scipy.ndimage import distance_transform_edt

from cnctl.hints.run import load_detector

SIZES = [(96, 128), (131, 87), (90, 151)]
NETWORK_SIDE = 64
"""Size of the small networks' inputs."""
COARSER = 4
"""Mask classifiers answer once for so many pixels of their input, each way."""
RED, BLUE = 7, 100


def redness(pixels, *, coarser=1):
    difference = pixels[:, :1] - pixels[:, 2:3]
    return torch.nn.functional.avg_pool2d(difference, coarser, ceil_mode=True)  # as if padded


def classify_pixels(self, pixel_values, **_):
    logits = torch.full((1, self.config.num_labels, *pixel_values.shape[2:]), -100.0)
    logits[:, RED : RED + 1] = redness(pixel_values)
    logits[:, BLUE : BLUE + 1] = -redness(pixel_values)
    return SimpleNamespace(logits=logits)


def classify_masks(self, pixel_values, **_):
    """Two queries, one sure of each class, whose masks are red and blue."""
    classes = torch.full((1, 2, self.config.num_labels + 1), -100.0)
    classes[0, 0, RED] = classes[0, 1, BLUE] = 100.0
    red = redness(pixel_values, coarser=COARSER)
    masks = torch.cat([red, -red], dim=1)
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)


def estimate(self, pixel_values, **_):
    return SimpleNamespace(predicted_depth=redness(pixel_values)[:, 0])


def of_class(condition, number):
    """The number is the network's, which knows 171 of COCO-Stuff's 182 classes."""
    place = USED[number] if condition is coco_stuff else number
    return list(condition.palette.values())[place]


def red_in_blue(height, width):
    """A picture, blue but for a red rectangle, and where that is."""
    inside = np.zeros((height, width), bool)
    inside[height // 8 : height * 5 // 8, width * 3 // 8 : width * 7 // 8] = True
    return np.where(inside[..., None], np.uint8([220, 0, 0]), np.uint8([0, 0, 220])), inside


def assert_same_place(found, inside):
    """As far as the network's coarseness goes; and in the middle not a pixel off."""
    slack = COARSER * max(inside.shape) / NETWORK_SIDE / 2 + 1
    sure = distance_transform_edt(inside) + distance_transform_edt(~inside) > slack
    assert np.array_equal(found[sure], inside[sure])
    middles = [np.argwhere(place).mean(axis=0) for place in (found, inside)]
    assert np.abs(middles[0] - middles[1]).max() < 1


@pytest.mark.parametrize(
    ("condition", "build", "folder", "kind", "answer"),
    [
        (
            ade20k,
            "upernet",
            "upernet-convnext-small",
            "UperNetForSemanticSegmentation",
            classify_pixels,
        ),
        (
            ade20k_oneformer,
            "oneformer",
            "oneformer_ade20k_swin_large",
            "OneFormerForUniversalSegmentation",
            classify_masks,
        ),
        (
            coco_stuff,
            "maskformer",
            "maskformer-resnet101-coco-stuff",
            "MaskFormerForInstanceSegmentation",
            classify_masks,
        ),
    ],
)
def test_classes_lie_where_they_are_seen(
    detectors, folders, monkeypatch, condition, build, folder, kind, answer
):
    getattr(folders, build)(detectors / folder)
    monkeypatch.setattr(getattr(transformers, kind), "forward", answer)
    detect = load_detector(condition)
    for size in SIZES:
        picture, inside = red_in_blue(*size)
        hint = detect(picture)
        is_red, is_blue = ((hint == of_class(condition, n)).all(axis=2) for n in (RED, BLUE))
        assert (is_red | is_blue).all()
        assert_same_place(is_red, inside)


@pytest.mark.parametrize(
    ("condition", "build", "folder", "kind"),
    [
        (depth, "dpt_hybrid", "dpt-hybrid-midas", "DPTForDepthEstimation"),
        (
            depth_anything,
            "depth_anything",
            "Depth-Anything-V2-Small-hf",
            "DepthAnythingForDepthEstimation",
        ),
        (depth_zoe, "zoedepth", "zoedepth-nyu-kitti", "ZoeDepthForDepthEstimation"),
    ],
)
def test_depths_lie_where_they_are_seen(
    detectors, folders, monkeypatch, condition, build, folder, kind
):
    """MiDaS and Depth Anything give nearness, ZoeDepth distance."""
    getattr(folders, build)(detectors / folder)
    monkeypatch.setattr(getattr(transformers, kind), "forward", estimate)
    detect = load_detector(condition)
    for size in SIZES:
        picture, inside = red_in_blue(*size)
        near = detect(picture)[..., 0] > 127
        assert_same_place(near != (condition is depth_zoe), inside)
