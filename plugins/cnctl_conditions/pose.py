"""People's poses by ViTPose: OpenPose's drawing under a permissive licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import Detection, Option, TrainDefaults, WeightFile
from cnctl_conditions.openpose import POSE_OPTIONS, openpose, pose_detection
from cnctl_conditions.shared.annotators import SECTION
from cnctl_conditions.shared.skeleton import from_coco

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Image
    from cnctl_conditions.shared.pose_json import Person

PERSON = 0
"""The class of people among COCO's."""


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    """RT-DETR finds people, ViTPose their points."""
    import torch

    from cnctl_conditions.shared.networks import load_transformer

    finder = load_transformer("RTDetrForObjectDetection", files["people"], device=device)
    poser = load_transformer("VitPoseForPoseEstimation", files["pose"], device=device)

    def find_boxes(image: Image, least_score: float) -> np.ndarray:
        """Boxes (N, 4) of people: x, y, width, height in pixels."""
        processor, model = finder
        inputs = processor(images=image, input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            outputs = model(inputs["pixel_values"].to(device))
        found = processor.post_process_object_detection(
            outputs, threshold=least_score, target_sizes=[image.shape[:2]]
        )[0]
        boxes = found["boxes"][found["labels"] == PERSON].cpu().numpy()
        boxes[:, 2:] -= boxes[:, :2]
        return boxes[(boxes[:, 2:] >= 1).all(axis=1)]

    def find_points(image: Image, boxes: np.ndarray) -> list[dict[str, Any]]:
        processor, model = poser
        inputs = processor(
            images=image, boxes=[boxes], input_data_format="channels_last", return_tensors="pt"
        )
        with torch.inference_mode():
            outputs = model(inputs["pixel_values"].to(device))
        return processor.post_process_pose_estimation(outputs, boxes=[boxes])[0]

    def detect(
        image: Image,
        *,
        person_score: float,
        point_score: float,
        min_keypoints: float,
        style: str,
        stick_width: int,
    ) -> Detection | None:
        boxes = find_boxes(image, person_score)
        found = find_points(image, boxes) if len(boxes) else []
        return pose_detection(
            [_person(pose, point_score) for pose in found],
            image.shape[:2],
            min_keypoints=min_keypoints,
            style=style,
            stick_width=stick_width,
        )

    return detect


def _person(pose: Mapping[str, Any], least_score: float) -> Person:
    rows = zip(pose["keypoints"].tolist(), pose["scores"].flatten().tolist(), strict=True)
    return from_coco([(x, y, score) if score > least_score else None for (x, y), score in rows])


pose = replace(
    openpose,
    name="pose",
    summary="People's poses by ViTPose, drawn as OpenPose does",
    load_detector=load_detector,
    files={
        "people": WeightFile(
            repo="PekingU/rtdetr_r50vd_coco_o365",
            revision="457857cec8ac28ddede40ecee9eed2beca321af8",
            sha256="59abc0b00bea0cc8f7e9ce053c29189a348605bb337123609a7fe02e4ea830a0",
            size=172_000_000,
            licence="Apache-2.0",
        ),
        "pose": WeightFile(
            repo="usyd-community/vitpose-base-simple",
            revision="a93ac0c67e0b7e2c55287d21d4c460c8f3c54d45",
            sha256="85375373893ddd3641f3912821073e53f5435f9e966e1dca59d004454bfe4fdf",
            size=344_000_000,
            licence="Apache-2.0",
        ),
    },
    options={
        "person_score": Option(0.3, "less certain people are dropped", minimum=0.0, maximum=1.0),
        "point_score": Option(0.3, "less certain points are dropped", minimum=0.0, maximum=1.0),
        **POSE_OPTIONS,
    },
    train=TrainDefaults(recipe="not in the paper; as for openpose"),
    licence="Apache-2.0",
    references=(
        SECTION,
        "Xu et al.: ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation, "
        "NeurIPS 2022",
        "Zhao et al.: DETRs Beat YOLOs on Real-time Object Detection, CVPR 2024 (RT-DETR)",
    ),
)
