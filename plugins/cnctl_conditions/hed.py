"""Soft edges by holistically-nested edge detection (paper, section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import BatchDetector, Condition, Option, TrainDefaults
from cnctl_conditions.shared.annotators import SECTION, annotator

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector

MULTIPLE = 16

HED_FILE = annotator(
    "ControlNetHED.pth",
    sha256="5ca93762ffd68a29fee1af9d495bf6aab80ae86f08905fb35472a083a4c7a8fa",
    size=29_444_406,
    licence="Apache-2.0",
)


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    soft_edges = load_hed(device, files["hed"])

    def detect(images: np.ndarray, *, safe: bool) -> np.ndarray:
        return to_hint(soft_edges(images), safe=safe)

    return BatchDetector(detect)


def load_hed(device: str, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The re-trained network of ControlNet.

    Images uint8 (N, H, W, 3) -> edges float64 (N, H, W) in [0, 1].
    """
    import torch

    from cnctl_conditions.shared.networks import import_network, load_network, to_batch

    network = load_network(import_network("hed", "ControlNetHED_Apache2"), path, device=device)
    grow = torch.nn.functional.interpolate

    def detect(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        batch = to_batch(images, device=device, multiple=MULTIPLE)
        size = batch.shape[2:]
        with torch.inference_mode():
            sides = [grow(side, size, mode="bilinear") for side in network(batch)]
        mean = torch.stack(sides).mean(dim=0)[:, 0].double().sigmoid()
        return mean[:, :height, :width].cpu().numpy()

    return detect


def to_hint(edges: np.ndarray, *, safe: bool) -> np.ndarray:
    """Edges in [0, 1] -> uint8. safe: in three steps, which leave no grey picture behind them."""
    import numpy as np

    if safe:
        edges = np.floor(3 * edges) / 2
    return (255 * edges).clip(0, 255).astype(np.uint8)


def from_maps(maps: Mapping[str, Any], *, safe: bool) -> np.ndarray:
    """Make the hint of a renderer's outlines."""
    return to_hint(maps["edges"], safe=safe)


hed = Condition(
    name="hed",
    summary="Soft edges, white on black",
    load_detector=load_detector,
    files={"hed": HED_FILE},
    options={"safe": Option(False, "quantise to black, grey and white")},
    train=TrainDefaults(
        recipe="3M edge-image-caption pairs from the internet; 300 A100 80G GPU-hours",
    ),
    from_maps=from_maps,
    metric="ssim",
    licence="Apache-2.0",
    references=(
        SECTION,
        "Xie, Tu: Holistically-Nested Edge Detection, ICCV 2015",
    ),
)

softedge_safe = replace(
    hed,
    name="softedge-safe",
    summary="Soft edges in three levels, as in ControlNet 1.1",
    options={"safe": Option(True, "quantise to black, grey and white")},
    train=TrainDefaults(recipe="not in the paper: ControlNet 1.1, three quarters quantised maps"),
    references=(*hed.references, "ControlNet 1.1, model card of control_v11p_sd15_softedge"),
)
