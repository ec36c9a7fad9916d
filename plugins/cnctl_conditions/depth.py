"""Depth: MiDaS as in the paper, Depth Anything V2 Small and ZoeDepth as variants (section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import BatchDetector, Condition, Option, TrainDefaults, WeightFile
from cnctl_conditions.shared.annotators import SECTION

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector

MIDAS_FILE = WeightFile(
    repo="Intel/dpt-hybrid-midas",
    revision="11eaf7a1cf4bd70740697dbc216f98980c0aeb03",
    sha256="b6c4d44f9d96ca3fa76dd3bbb153989a60b4ad5526559f3c598562a368d687ec",
    size=489_648_389,
    licence="Apache-2.0; MiDaS itself MIT",
)
MIDAS = "DPTForDepthEstimation"
METRIC_RANGE = (2, 85)
"""Percentiles of distance that become 255 and 0, as ControlNet 1.1 takes of ZoeDepth."""


def load_detector(
    device: str, files: Mapping[str, Path], *, kind: str = MIDAS, metric: bool = False
) -> Detector:
    """metric: the network gives distances, not disparities: near is small."""
    estimate = load_estimator(kind, files["model"], device=device)

    def detect(images: np.ndarray, *, bits: int) -> list[np.ndarray]:
        return [near_is_bright(each, metric=metric, bits=bits) for each in estimate(images)]

    return BatchDetector(detect)


def load_estimator(
    kind: str, folder: Path, *, device: str
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Images uint8 (N, H, W, 3) -> of each the network's own values, float32 (H, W)."""
    import torch

    from cnctl_conditions.shared.networks import load_transformer

    processor, model = load_transformer(kind, folder, device=device)
    if getattr(model.config, "is_hybrid", False):
        processor.keep_aspect_ratio = False  # its position embeddings are of one square size

    def estimate(images: np.ndarray) -> list[np.ndarray]:
        inputs = processor(
            images=list(images), input_data_format="channels_last", return_tensors="pt"
        )
        sizes = [images.shape[1:3]] * len(images)
        with torch.inference_mode():
            outputs = model(inputs["pixel_values"].to(device))
        if kind == "ZoeDepthForDepthEstimation":  # its processor has padded the images
            processed = processor.post_process_depth_estimation(outputs, source_sizes=sizes)
        else:
            processed = processor.post_process_depth_estimation(outputs, target_sizes=sizes)
        return [each["predicted_depth"].float().cpu().numpy() for each in processed]

    return estimate


def near_is_bright(depth: np.ndarray, *, metric: bool, bits: int = 8) -> np.ndarray:
    """Depth of any unit -> uint8 or uint16, white nearest; all 0 where everything is equally far.

    Disparities are spread over the whole range. Distances (metric) are cut at two percentiles.
    """
    import numpy as np

    depth = np.nan_to_num(depth.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(depth, METRIC_RANGE) if metric else (depth.min(), depth.max())
    kind = np.uint16 if bits == 16 else np.uint8
    if high <= low:
        return np.zeros(depth.shape, kind)
    share = ((depth - low) / (high - low)).clip(0, 1)
    return (np.iinfo(kind).max * (1 - share if metric else share)).astype(kind)


def from_maps(maps: Mapping[str, Any], *, bits: int) -> np.ndarray:
    """Make the hint of a renderer's depth, in which near is bright already."""
    return near_is_bright(maps["depth"], metric=False, bits=bits)


depth = Condition(
    name="depth",
    summary="Depth by MiDaS, near is bright",
    load_detector=load_detector,
    files={"model": MIDAS_FILE},
    options={"bits": Option(8, "16 bits avoid the rounding to 8", choices=(8, 16))},
    train=TrainDefaults(
        recipe="3M depth-image-caption pairs from the internet; 500 A100 80G GPU-hours. Small "
        "scale: the 200k of them with the highest resolution",
    ),
    from_maps=from_maps,
    metric="depth_rmse",
    licence="Apache-2.0",
    references=(
        SECTION,
        "Ranftl et al.: Towards Robust Monocular Depth Estimation, IEEE TPAMI 44(3), 2022 (MiDaS)",
        "Ranftl, Bochkovskiy, Koltun: Vision Transformers for Dense Prediction, ICCV 2021",
    ),
)

depth_anything = replace(
    depth,
    name="depth-anything",
    summary="Depth by Depth Anything V2 Small, near is bright",
    load_detector=partial(load_detector, kind="DepthAnythingForDepthEstimation"),
    files={
        "model": WeightFile(
            repo="depth-anything/Depth-Anything-V2-Small-hf",
            revision="5426e4f0f36572d16453bbda7a8389317b1bef99",
            sha256="3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70",
            size=99_173_660,
            licence="Apache-2.0",
        )
    },
    train=TrainDefaults(recipe="not in the paper; as for depth"),
    references=("Yang et al.: Depth Anything V2, NeurIPS 2024",),
)

depth_zoe = replace(
    depth,
    name="depth-zoe",
    summary="Depth by ZoeDepth, near is bright",
    load_detector=partial(load_detector, kind="ZoeDepthForDepthEstimation", metric=True),
    files={
        "model": WeightFile(
            repo="Intel/zoedepth-nyu-kitti",
            revision="f364d4c7936e91f465abba182208dd68142bf0ca",
            sha256="c5494fa0938f18d71e215e245472470c3aefebd7b434abd89750e5ae4008e2dc",
            size=1_380_374_404,
            licence="MIT",
        )
    },
    train=TrainDefaults(recipe="not in the paper: one of three estimators of ControlNet 1.1"),
    licence="MIT",
    references=("Bhat et al.: ZoeDepth, arXiv 2302.12288",),
)
