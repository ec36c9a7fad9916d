"""ControlNets for the random base of Z-Image, of the three published versions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ZImageControlNetModel

VERSIONS: dict[str, dict[str, Any]] = {
    "1": {"control_in_dim": 16},
    "2.0": {
        "control_in_dim": 33,
        "add_control_noise_refiner": "control_layers",
        "control_refiner_layers_places": [0, 1],
    },
    "2.1": {
        "control_in_dim": 33,
        "add_control_noise_refiner": "control_noise_refiner",
        "control_refiner_layers_places": [0, 1],
    },
}


@pytest.fixture(scope="session")
def write_controlnet() -> Callable[..., Path]:
    """Writes a random one by diffusers' own class, as a folder."""

    def write(folder: Path, version: str = "1", **changes: Any) -> Path:
        known = {"dim": 32, "n_heads": 2, "n_kv_heads": 2, "control_layers_places": [0, 3, 6]}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            network = ZImageControlNetModel(**{**known, **VERSIONS[version], **changes})
            for parameter in network.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
        network.save_pretrained(folder)
        return folder

    return write
