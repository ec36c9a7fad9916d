"""Surface normals: of DIODE, by Bae et al., or coarse ones from MiDaS' depth (section 3.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import BatchDetector, Condition, GroundTruth, Option, TrainDefaults
from cnctl_conditions.depth import MIDAS, MIDAS_FILE
from cnctl_conditions.shared.annotators import SECTION, annotator

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Hint


RIGHT_TO_LEFT = (-1, 1, 1)
"""Factors from axes whose x grows to the right to those of hints."""
MULTIPLE = 32
DIODE_CAMERA = (886.81, 927.06, 512.0, 384.0)
"""fx, fy, cx, cy in pixels of DIODE's images, 1024 x 768 (its intrinsics.txt)."""
DIODE_WIDTH = 1024


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    """Coarse normals, the slope of MiDaS' disparity."""
    from cnctl_conditions.depth import load_estimator

    estimate = load_estimator(MIDAS, files["model"], device=device)

    def detect(images: np.ndarray, *, strength: float, background: float, order: str) -> list[Hint]:
        each = (normals_of(d, strength=strength, background=background) for d in estimate(images))
        return [to_hint(normals, order=order) for normals in each]

    return BatchDetector(detect)


def load_bae(device: str, files: Mapping[str, Path]) -> Detector:
    """The network of Bae, Budvytis and Cipolla, trained on ScanNet."""
    from types import SimpleNamespace

    import torch

    from cnctl_conditions.shared.networks import import_network, load_network, to_batch

    settings = SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7)
    network = load_network(
        lambda: import_network("normalbae.nets.NNET", "NNET")(settings),
        files["bae"],
        device=device,
        rename=lambda name: name.removeprefix("module."),
    )
    mean = torch.tensor([0.485, 0.456, 0.406], device=device)[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225], device=device)[:, None, None]

    def detect(images: np.ndarray, *, order: str) -> np.ndarray:
        height, width = images.shape[1:3]
        batch = to_batch(images, device=device, multiple=MULTIPLE)
        with torch.inference_mode():
            normals = network((batch / 255 - mean) / deviation)[0][-1][:, :3]
        found = normals.permute(0, 2, 3, 1)[:, :height, :width].double().cpu().numpy()
        return to_hint(found, order=order)

    return BatchDetector(detect)


def read_diode(values: np.ndarray, *, order: str, **_: object) -> Hint | None:
    """DIODE's normals, float (H, W, 3): x to the right, y up, z to the viewer, 0 where unknown.

    They come without a direction: each is turned to the side that the camera sees. What is unknown
    is black. None where the values are not normals.
    """
    import numpy as np

    if values.ndim != 3 or values.shape[2] != 3 or values.dtype.kind != "f":
        return None
    normals = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    known = length[..., 0] > 0
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    away = (normals * _rays(*values.shape[:2])).sum(axis=2) > 0
    normals[away] *= -1
    hint = to_hint(normals * RIGHT_TO_LEFT, order=order)
    hint[~known] = 0
    return hint


def _rays(height: int, width: int) -> np.ndarray:
    """Where DIODE's camera looks at each pixel: x to the right, y up, z to the viewer."""
    import numpy as np

    fx, fy, cx, cy = (width / DIODE_WIDTH * value for value in DIODE_CAMERA)
    y, x = np.mgrid[:height, :width]
    return np.stack([(x - cx) / fx, (cy - y) / fy, np.full((height, width), -1.0)], axis=2)


def normals_of(disparity: np.ndarray, *, strength: float, background: float) -> np.ndarray:
    """Unit normals float64 (H, W, 3) of a map in which near is large: x, y, z.

    x grows where the surface faces left, y where it faces up, z towards the viewer. The larger
    `strength`, the flatter. What is farther than `background` (0 farthest, 1 nearest) faces the
    viewer.
    """
    import cv2
    import numpy as np

    values = disparity.astype(np.float64)
    x = cv2.Sobel(values, cv2.CV_64F, 1, 0, ksize=3)
    y = cv2.Sobel(values, cv2.CV_64F, 0, 1, ksize=3)
    nearness = (values - values.min()) / max(np.ptp(values), np.finfo(float).tiny)
    far = nearness < background
    x[far], y[far] = 0, 0
    normals = np.stack([x, y, np.full_like(x, strength)], axis=2)
    return normals / np.linalg.norm(normals, axis=2, keepdims=True)


def to_hint(normals: np.ndarray, *, order: str) -> Hint:
    """uint8 of 127.5 (n + 1). order: which of x, y, z is red, green and blue."""
    import numpy as np

    colours = (127.5 * normals + 127.5).clip(0, 255).astype(np.uint8)
    return colours[..., ["xyz".index(axis) for axis in order]]


def flip(hint: Hint, *, order: str) -> Hint:
    """Mirrored, x turned to the other side; black, which is not a normal, stays black."""
    import numpy as np

    mirrored = hint[:, ::-1].copy()
    x = mirrored[..., order.index("x")]
    known = mirrored.any(axis=2)
    x[known] = np.iinfo(hint.dtype).max - x[known]
    return mirrored


def from_maps(maps: Mapping[str, Any], *, order: str, **_: float) -> Hint:
    """Make the hint of a renderer's normals: their x grows to the right, a hint's to the left."""
    return to_hint(maps["normals"] * RIGHT_TO_LEFT, order=order)


ORDERS = ("zyx", "xyz")
ORDER = Option(
    "xyz", "axes in red, green, blue: xyz for ControlNet 1.1, zyx for 1.0", choices=ORDERS
)

normal_bae = Condition(
    name="normal-bae",
    summary="Surface normals by Bae et al., as in ControlNet 1.1",
    load_detector=load_bae,
    files={
        "bae": annotator(
            "scannet.pt",
            sha256="03dbf1600c51ee3d45c29f77b77bf1a3b7a24c3452dba62a4ae658f37330c209",
            size=291_000_000,
            licence="MIT; trained on ScanNet, whose terms are non-commercial research",
            commercial=False,
        )
    },
    options={"order": ORDER},
    flip=partial(flip, order="xyz"),
    from_maps=from_maps,
    train=TrainDefaults(recipe="not in the paper: ControlNet 1.1"),
    metric="normal_angle",
    licence="MIT; trained on ScanNet, non-commercial research",
    references=(
        "Bae, Budvytis, Cipolla: Estimating and Exploiting the Aleatoric Uncertainty in Surface "
        "Normal Estimation, ICCV 2021",
        "ControlNet 1.1, model card of control_v11p_sd15_normalbae",
    ),
)

normal_diode = replace(
    normal_bae,
    name="normal-diode",
    summary="Surface normals by DIODE's scanner",
    options={"order": replace(ORDER, default="zyx")},
    flip=partial(flip, order="zyx"),
    ground_truth=GroundTruth(name="{stem}_normal.npy", read=read_diode),
    train=TrainDefaults(
        recipe="DIODE, captioned by BLIP: 25,452 normal-image-caption pairs; 100 A100 80G "
        "GPU-hours",
    ),
    licence="DIODE: MIT. For photos: Bae et al., MIT, trained on ScanNet (non-commercial research)",
    references=(
        SECTION,
        "Vasiljevic et al.: DIODE: A Dense Indoor and Outdoor DEpth Dataset, arXiv 1908.00463",
        *normal_bae.references[:1],
    ),
)

normal = Condition(
    name="normal",
    summary="Surface normals from MiDaS' depth",
    load_detector=load_detector,
    files={"model": MIDAS_FILE},
    options={
        "strength": Option(
            2 * math.pi, "larger values make flatter surfaces", minimum=0.1, maximum=100.0
        ),
        "background": Option(
            0.4, "farther surfaces face the viewer; 0 is farthest", minimum=0.0, maximum=1.0
        ),
        "order": replace(ORDER, default="zyx"),
    },
    train=TrainDefaults(
        start_from="normal-diode",
        recipe="normals from MiDaS' depth; starts from the DIODE model; 200 A100 80G GPU-hours",
    ),
    flip=partial(flip, order="zyx"),
    from_maps=from_maps,
    metric="normal_angle",
    licence="Apache-2.0",
    references=(
        SECTION,
        "Ranftl et al.: Towards Robust Monocular Depth Estimation, IEEE TPAMI 44(3), 2022 (MiDaS)",
    ),
)
