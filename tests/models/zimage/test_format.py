"""What headers and configs say of Z-Image's ControlNets and bases."""

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ZImageControlNetModel
from safetensors.torch import load_file, save_file

from cnctl.commands.info import info
from cnctl.commands.shared.cached import cached_weights, find_known
from cnctl.commands.shared.known_controls import find_control
from cnctl.commands.shared.weights import (
    NamedControl,
    check_controls,
)
from cnctl.errors import CnctlError
from cnctl.models.families import read_family
from cnctl.models.layouts import load_controlnet
from cnctl.models.zimage.architecture import expected_shapes, read_architecture
from cnctl.models.zimage.config import config_from_shapes
from cnctl.models.zimage.published import known_quirk
from cnctl.registry import get_condition

Write = Callable[..., Path]
WEIGHTS = "diffusion_pytorch_model.safetensors"
EVERY_OTHER = list(range(0, 30, 2))
VERSION_1 = {"control_layers_places": [0, 5, 10, 15, 20, 25], "control_in_dim": 16}
VERSION_2_1 = {
    "control_layers_places": EVERY_OTHER,
    "control_refiner_layers_places": [0, 1],
    "control_in_dim": 33,
    "add_control_noise_refiner": "control_noise_refiner",
}


@pytest.mark.parametrize(
    ("config", "tensors", "billions"), [(VERSION_1, 136, 1.55), (VERSION_2_1, 295, 3.36)]
)
def test_the_table_of_tensors_is_diffusers_at_true_size(
    config: dict[str, Any], tensors: int, billions: float
) -> None:
    """The published files have as many tensors, and 3.1 GB in bfloat16 for the first."""
    with torch.device("meta"):
        network = ZImageControlNetModel(**config)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    architecture = read_architecture(shapes)
    assert expected_shapes(architecture) == shapes
    assert (len(shapes), round(sum(map(prod, shapes.values())) / 1e9, 2)) == (tensors, billions)
    told = config_from_shapes(architecture)
    assert {name: told[name] for name in config} == config


@pytest.mark.parametrize(
    ("shift", "name", "steps", "guidance"),
    [(3.0, "Z-Image-Turbo", 8, 1.0), (6.0, "Z-Image", 50, 5.0)],
)
def test_the_published_bases_by_their_schedules(
    shift: float, name: str, steps: int, guidance: float, tmp_path: Path
) -> None:
    for part, content in (
        ("transformer/config.json", {"dim": 3840}),
        ("scheduler/scheduler_config.json", {"shift": shift}),
        ("model_index.json", {"transformer": ["diffusers", "ZImageTransformer2DModel"]}),
    ):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text(json.dumps(content))
    family = read_family(tmp_path)
    assert (family.name, family.defaults["steps"]) == (name, steps)
    assert family.defaults["guidance_scale"] == guidance
    assert family.defaults["train"]["learning_rate"] == 2e-5


def test_info_names_the_layers(write_controlnet: Write, tmp_path: Path) -> None:
    found = info(write_controlnet(tmp_path / "x", "2.1")).as_dict()
    assert found["family"] == "Z-Image with 2 heads of width 16"
    assert found["form"] == (
        "diffusers, 3 layers and 2 of a refiner that adds to the base's, "
        "hints of 33 latent channels"
    )


def test_a_file_that_leaves_its_layers_open_is_refused(
    write_controlnet: Write, tmp_path: Path
) -> None:
    folder = write_controlnet(tmp_path / "x")
    (folder / WEIGHTS).rename(tmp_path / "x.safetensors")
    with pytest.raises(CnctlError, match="no shape says after which layers") as caught:
        load_controlnet(tmp_path / "x.safetensors")
    assert "control_layers_places" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"dim": 64, "n_heads": 4, "n_kv_heads": 4}, "made for Z-Image with 4 heads"),
        ({"control_layers_places": [0, 10]}, "acts on layer 10; the base's 10 are counted from 0"),
        ({"control_in_dim": 12}, "reads hints of 12 latent channels; the base has 16"),
        ({"n_refiner_layers": 1}, "made for a base with 1 refiner layers"),
    ],
)
def test_what_does_not_fit_is_refused_before_weights_are_read(
    changes: dict[str, Any], what: str, write_controlnet: Write, random_zimage_base: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    network = write_controlnet(tmp_path / "x", **changes)
    with pytest.raises(CnctlError, match=what):
        check_controls(random_zimage_base, [NamedControl(get_condition("canny"), str(network))])


def test_a_file_of_version_2_0_is_refused_by_its_values(
    write_controlnet: Write, tmp_path: Path
) -> None:
    """Its refiner was never trained: nothing goes into it."""
    folder = write_controlnet(tmp_path / "x", "2.1")
    tensors = load_file(folder / WEIGHTS)
    tensors["control_noise_refiner.0.before_proj.weight"].zero_()
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CnctlError, match=r"is a ControlNet of version 2\.0"):
        load_controlnet(folder)


def test_published_unions_are_files_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--alibaba-pai--Z-Image-Turbo-Fun-Controlnet-Union"
    revision = "1" * 40
    file = snapshot / "snapshots" / revision / "Z-Image-Turbo-Fun-Controlnet-Union.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert known_quirk(file).endswith("0.65 to 0.80")
    assert cached_weights("alibaba-pai/Z-Image-Turbo-Fun-Controlnet-Union") == file
    known = find_control("zimage_turbo_union")
    assert known
    assert find_known(known, tmp_path) == file
    assert not find_known(find_control("zimage_union-2.1") or known, tmp_path)
