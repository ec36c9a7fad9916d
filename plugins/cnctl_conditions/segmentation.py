"""What each pixel shows, in the 150 colours of ADE20K (paper, section 3.5)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import BatchDetector, CnctlError, Condition, Detection, TrainDefaults, WeightFile
from cnctl_conditions.shared.ade20k_palette import PALETTE
from cnctl_conditions.shared.annotators import SECTION
from cnctl_conditions.shared.labels import segments

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Hint


TASK = "the task is semantic"
MASK_STRIDE = 4
"""OneFormer's masks have a pixel for so many of its input, which it pads where it must: masks of a
picture whose sides are not multiples would be drawn too small.
"""


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    import torch

    from cnctl_conditions.shared.networks import load_transformer

    folder = files["model"]
    processor, model = load_transformer("UperNetForSemanticSegmentation", folder, device=device)
    _check_classes(model, folder)

    def detect(images: np.ndarray) -> list[Detection]:
        inputs = processor(
            images=list(images), input_data_format="channels_last", return_tensors="pt"
        )
        with torch.inference_mode():
            logits = model(inputs["pixel_values"].to(device)).logits
            logits = torch.nn.functional.interpolate(logits, images.shape[1:3], mode="bilinear")
        return [segments(labels, PALETTE) for labels in logits.argmax(dim=1).cpu().numpy()]

    return BatchDetector(detect)


def load_oneformer(device: str, files: Mapping[str, Path]) -> Detector:
    """OneFormer, whose task is given as a sentence.

    Its own processor would fetch names of classes from the hub, so that its work is done here.
    """
    import torch
    import transformers

    from cnctl_conditions.shared.networks import load_model, to_batch

    folder = files["model"]
    model = load_model("OneFormerForUniversalSegmentation", folder, device=device)
    _check_classes(model, folder)
    short_side = json.loads((folder / "preprocessor_config.json").read_text())["size"][
        "shortest_edge"
    ]
    tokens = transformers.CLIPTokenizer.from_pretrained(folder)(
        [TASK], padding="max_length", max_length=model.config.task_seq_len, return_tensors="pt"
    )
    task = (tokens.input_ids * tokens.attention_mask).to(device)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device)[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225], device=device)[:, None, None]
    resize = partial(torch.nn.functional.interpolate, mode="bilinear")

    def detect(images: np.ndarray) -> list[Detection]:
        size = images.shape[1:3]
        scale = short_side / min(size)
        whole_masks = [MASK_STRIDE * round(scale * side / MASK_STRIDE) for side in size]
        batch = resize(to_batch(images, device=device), whole_masks)
        tasks = task.expand(len(images), -1)
        with torch.inference_mode():
            said = model(pixel_values=(batch / 255 - mean) / deviation, task_inputs=tasks)
        classes = said.class_queries_logits.softmax(dim=2)[..., :-1]
        scores = torch.einsum("nqc,nqhw->nchw", classes, said.masks_queries_logits.sigmoid())
        return [
            segments(labels, PALETTE) for labels in resize(scores, size).argmax(dim=1).cpu().numpy()
        ]

    return BatchDetector(detect)


def _check_classes(model: Any, folder: Path) -> None:
    if model.config.num_labels != len(PALETTE):
        raise CnctlError(
            f"{folder} knows {model.config.num_labels} classes, not the {len(PALETTE)} of ADE20K"
        )


def from_maps(maps: Mapping[str, Any]) -> Hint:
    """Make the hint of a renderer's labels, by their names."""
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
            sha256="76c163aa531ab7edfb3a77bbcc039e340645aa0ffe2b0ffcfc68755f550c76ea",
            size=327_701_893,
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
    licence="MIT",
    references=(
        SECTION,
        "Zhou et al.: Scene Parsing through ADE20K Dataset, CVPR 2017",
        "Xiao et al.: Unified Perceptual Parsing for Scene Understanding, ECCV 2018 (UperNet)",
    ),
)

ade20k_oneformer = replace(
    ade20k,
    name="ade20k-oneformer",
    summary="What each pixel shows, in the colours of ADE20K, by OneFormer",
    load_detector=load_oneformer,
    files={
        "model": WeightFile(
            repo="shi-labs/oneformer_ade20k_swin_large",
            revision="4a5bac8e64f82681a12db2e151a4c2f4ce6092b2",
            sha256="c0b2fe11dfecee6f2f1f315f466946e96f4e94813f3f6d660ff3747b83c28cc9",
            size=879_517_517,
            licence="MIT",
        )
    },
    train=TrainDefaults(recipe="not in the paper: one of three segmenters of ControlNet 1.1"),
    references=(
        "Jain et al.: OneFormer: One Transformer to Rule Universal Image Segmentation, CVPR 2023",
        "ControlNet 1.1, model card of control_v11p_sd15_seg",
    ),
)
