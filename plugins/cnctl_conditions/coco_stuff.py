"""What each pixel shows, in COCO-Stuff's classes: read from its maps, or detected (section 3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import (
    BatchDetector,
    CnctlError,
    Condition,
    Detection,
    GroundTruth,
    TrainDefaults,
    WeightFile,
)
from cnctl_conditions.shared.annotators import SECTION
from cnctl_conditions.shared.coco_stuff_palette import CLASSES, NAME, PALETTE, UNLABELLED, UNUSED
from cnctl_conditions.shared.labels import colour, segments

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Hint

USED = [number for number, name in enumerate(CLASSES, start=1) if name not in UNUSED]
"""The data set's numbers, from 1, of the 171 classes that networks distinguish."""
NOBODY_KNOWS = 255
SAME = {
    "ball": "sports ball",
    "earth": "dirt",
    "floor": "floor-other",
    "glass": "wine glass",
    "sky": "sky-other",
    "wall": "wall-other",
}
"""Words of ADE20K -> classes of COCO-Stuff that mean the same, where they differ."""


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    import numpy as np
    import torch

    from cnctl_conditions.shared.networks import load_transformer

    folder = files["model"]
    processor, model = load_transformer("MaskFormerForInstanceSegmentation", folder, device=device)
    if model.config.num_labels != len(USED):
        raise CnctlError(
            f"{folder} knows {model.config.num_labels} classes, not the {len(USED)} of COCO-Stuff"
        )

    def detect(images: np.ndarray) -> list[Detection]:
        inputs = processor(
            images=list(images), input_data_format="channels_last", return_tensors="pt"
        )
        sizes = [images.shape[1:3]] * len(images)
        with torch.inference_mode():
            outputs = model(inputs["pixel_values"].to(device))
        classes = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return [segments(np.array(USED)[each.cpu().numpy()], PALETTE) for each in classes]

    return BatchDetector(detect)


def read_labels(values: np.ndarray, **_: object) -> Hint | None:
    """A map of the data set (H, W), 0 for its first class and 255 for none -> its colours.

    None where the values are colours already. CnctlError where a label is not a class's.
    """
    import numpy as np

    if values.ndim != 2:
        return None
    known = values < len(CLASSES)
    strangers = np.unique(values[~known & (values != NOBODY_KNOWS)])
    if strangers.size:
        raise CnctlError(
            f"label {strangers[0]} is not a class of COCO-Stuff",
            hint=f"its maps hold 0 to {len(CLASSES) - 1}, and {NOBODY_KNOWS} for unlabelled pixels",
        )
    return colour(np.where(known, values.astype(np.int64) + 1, 0), PALETTE)


def from_maps(maps: Mapping[str, Any]) -> Hint:
    """Make the hint of a renderer's labels, by their names; what has no class is unlabelled."""
    import numpy as np

    names = [SAME.get(name, name) for name in maps["names"]]
    colours = [PALETTE.get(name, PALETTE[UNLABELLED]) for name in names]
    return np.array(colours, np.uint8)[maps["labels"]]


coco_stuff = Condition(
    name="coco-stuff",
    summary="What each pixel shows, in the classes of COCO-Stuff",
    load_detector=load_detector,
    files={
        "model": WeightFile(
            repo="facebook/maskformer-resnet101-coco-stuff",
            revision="a3030115f23b2b1ecb4bf1cc18ae59fcc8358318",
            size=242_000_000,
            licence="not stated; MaskFormer's is CC BY-NC 4.0",
            commercial=False,
        )
    },
    palette=PALETTE,
    ground_truth=GroundTruth(name="{stem}.png", read=read_labels),
    train=TrainDefaults(
        recipe="164K segmentation-image-caption pairs of COCO-Stuff, captioned by BLIP; "
        "400 RTX 3090TI GPU-hours",
    ),
    from_maps=from_maps,
    metric="mean_iou",
    licence="not stated; MaskFormer's is CC BY-NC 4.0. COCO-Stuff's maps: CC BY 4.0",
    references=(
        SECTION,
        f"Palette: {NAME}",
        "Caesar, Uijlings, Ferrari: COCO-Stuff: Thing and Stuff Classes in Context, CVPR 2018",
        "Cheng, Schwing, Kirillov: Per-Pixel Classification is Not All You Need for Semantic "
        "Segmentation, NeurIPS 2021 (MaskFormer)",
    ),
)
