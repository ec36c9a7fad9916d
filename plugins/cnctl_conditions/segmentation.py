"""What each pixel shows, in the 150 colours of ADE20K (paper, section 3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import CnctlError, Condition, Detection, TrainDefaults, WeightFile
from cnctl_conditions.shared.ade20k_palette import PALETTE
from cnctl_conditions.shared.annotators import SECTION, sd15
from cnctl_conditions.shared.labels import colour, shares

if TYPE_CHECKING:
    from cnctl.plugin import Detector, Hint, Image


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    import torch

    from cnctl_conditions.shared.networks import load_transformer

    folder = files["model"]
    processor, model = load_transformer("UperNetForSemanticSegmentation", folder, device=device)
    if model.config.num_labels != len(PALETTE):
        raise CnctlError(
            f"{folder} knows {model.config.num_labels} classes, not the {len(PALETTE)} of ADE20K"
        )

    def detect(image: Image) -> Detection:
        inputs = processor(images=image, input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            logits = model(inputs["pixel_values"].to(device)).logits
            size = image.shape[:2]
            logits = torch.nn.functional.interpolate(logits, size, mode="bilinear")
        labels = logits[0].argmax(dim=0).cpu().numpy()
        return Detection(hint=colour(labels, PALETTE), data={"shares": shares(labels, PALETTE)})

    return detect


def from_maps(maps: Mapping[str, Any]) -> Hint:
    """Of a renderer's labels, by their names."""
    import numpy as np

    return np.array([PALETTE[name] for name in maps["names"]], np.uint8)[maps["labels"]]


ade20k = Condition(
    name="ade20k",
    summary="What each pixel shows, in the 150 colours of ADE20K",
    load_detector=load_detector,
    files={
        "model": WeightFile(
            repo="openmmlab/upernet-convnext-small",
            revision="550b68d291f9a7e4874065c6eec0676b2ba821e6",
            size=330_000_000,
            licence="MIT",
        )
    },
    palette=PALETTE,
    train=TrainDefaults(
        recipe="164K segmentation-image-caption pairs of ADE20K, captioned by BLIP; "
        "200 A100 80G GPU-hours",
    ),
    from_maps=from_maps,
    metric="mean_iou",
    weights=sd15("sd-controlnet-seg", "control_v11p_sd15_seg"),
    licence="MIT",
    references=(
        SECTION,
        "Zhou et al.: Scene Parsing through ADE20K Dataset, CVPR 2017",
        "Xiao et al.: Unified Perceptual Parsing for Scene Understanding, ECCV 2018 (UperNet)",
    ),
)
