"""Soft edges by PiDiNet (ControlNet 1.1). Its weights are for research only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnctl.plugin import BatchDetector, TrainDefaults
from cnctl_conditions.hed import hed, to_hint
from cnctl_conditions.shared.annotators import annotator

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    import torch

    from cnctl_conditions.shared.networks import import_network, load_network, to_batch

    def rename(name: str) -> str:
        return name.removeprefix("module.")

    build = import_network("pidi.model", "pidinet")
    network = load_network(build, files["pidinet"], device=device, rename=rename)

    def detect(images: np.ndarray, *, safe: bool) -> np.ndarray:
        blue_first = images[..., ::-1].copy()  # as ControlNet 1.1 fed it
        with torch.inference_mode():
            edges = network(to_batch(blue_first, device=device) / 255)[-1][:, 0]
        return to_hint(edges.double().cpu().numpy(), safe=safe)

    return BatchDetector(detect)


softedge_pidi = replace(
    hed,
    name="softedge-pidi",
    summary="Soft edges by PiDiNet (not for commercial use)",
    load_detector=load_detector,
    files={
        "pidinet": annotator(
            "table5_pidinet.pth",
            sha256="80860ac267258b5f27486e0ef152a211d0b08120f62aeb185a050acc30da486c",
            size=2_870_000,
            licence="PiDiNet: for research purposes; commercial use on request to its authors",
            commercial=False,
        )
    },
    train=TrainDefaults(recipe="not in the paper: one of two edge detectors of ControlNet 1.1"),
    licence="PiDiNet, for research purposes only",
    references=(
        "Su et al.: Pixel Difference Networks for Efficient Edge Detection, ICCV 2021",
        "ControlNet 1.1, model card of control_v11p_sd15_softedge",
    ),
)
