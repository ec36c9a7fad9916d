"""What OpenPose's three networks, of bodies, hands and faces, have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl_conditions.shared.networks import load_network

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cnctl.plugin import Image

STRIDE = 8
"""Pixels of the input for one of a map."""


def load_openpose(build: Callable[[], torch.nn.Module], path: Path, device: str) -> torch.nn.Module:
    """The network with the weights of a file that names tensors without the blocks they are in."""
    import torch

    with torch.device("meta"):
        full_names = {name.partition(".")[2]: name for name in build().state_dict()}
    return load_network(build, path, device=device, rename=lambda n: full_names.get(n, n))


def run(network: torch.nn.Module, image: Image, device: str) -> Any:
    """What the network makes of RGB uint8 (H, W, 3): float32 maps of (1, C, H / 8, W / 8)."""
    import torch

    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        return network(pixels.to(device) / 256 - 0.5)


def resize(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) or (H, W, 3), by area where it shrinks and by Lanczos' windows where it grows."""
    import cv2

    shrinks = width + height < sum(values.shape[:2])
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4
    return cv2.resize(values, (width, height), interpolation=how)
