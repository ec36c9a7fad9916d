"""A ControlNet whose residuals are averaged is known by its config, its name or its condition."""

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.locate import EMBEDDED
from cnctl.models.unet.checkpoint.averaging import find_averaging
from cnctl.models.unet.checkpoint.source import open_source
from cnctl.models.unet.weights import open_network

FIELD = "global_pool_conditions"
PUBLISHED = "control_v11e_sd15_shuffle.safetensors"


@pytest.mark.parametrize(
    ("config", "name", "condition", "averaged", "assumed", "note"),
    [
        ({}, "mine.safetensors", "canny", False, False, ""),
        ({}, "mine.safetensors", "shuffle", True, True, "because ControlNets for shuffle do so"),
        ({}, PUBLISHED, "canny", True, True, "because control_v11e_sd15_shuffle is the name"),
        ({FIELD: True}, "mine.safetensors", "canny", True, False, "are averaged over the picture"),
        ({FIELD: False}, PUBLISHED, "shuffle", False, False, "are not averaged .*, but"),
        ({FIELD: False}, "mine.safetensors", "canny", False, False, ""),
        ({}, "mine.safetensors", "mine", False, True, "nothing says whether .* see --config"),
        ({}, "control_v11p_sd15_canny.safetensors", "mine", False, False, ""),
        ({FIELD: False}, "mine.safetensors", "mine", False, False, ""),
        ({}, "mine.safetensors", "", False, False, ""),
    ],
)  # fmt: skip
def test_who_says_it(
    config: dict, name: str, condition: str, averaged: bool, assumed: bool, note: str
) -> None:
    found = find_averaging(config, Path(name), condition)
    assert (found.averaged, found.assumed) == (averaged, assumed)
    assert bool(found.note) == bool(note)
    assert re.search(note, found.note)


@pytest.fixture(scope="module")
def tiny() -> Base:
    return load_base("tiny")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A ControlNet for tiny in a file without a config."""
    weights = EMBEDDED["tiny"] / "controls" / "canny" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(weights), tmp_path / "plain.safetensors")
    return tmp_path / "plain.safetensors"


def test_a_file_without_a_config_is_averaged_for_shuffle_alone(tiny: Base, plain: Path) -> None:
    found = {
        condition: open_network(plain, tiny, condition=condition, hint_channels=3)
        for condition in ("canny", "shuffle")
    }
    assert not found["canny"].config[FIELD]
    assert found["shuffle"].config[FIELD]
    assert found["shuffle"].conditional_only


def test_a_fresh_one_is_averaged_for_shuffle_alone(tiny: Base) -> None:
    settings = {"method": "controlnet", "hint_encoder": "released", "hint_start": "gaussian"}
    for condition, rank, averaged in (
        ("canny", 0, False),
        ("shuffle", 0, True),
        ("shuffle", 4, True),
    ):
        network = tiny.family.build_network(
            tiny, **settings, hint_channels=3, rank=rank, condition=condition
        )
        assert network.config[FIELD] is averaged
        assert network.conditional_only is averaged


def test_a_config_without_the_field_leaves_it_to_the_name(plain: Path) -> None:
    path = plain.rename(plain.with_name(PUBLISHED))
    config = EMBEDDED["tiny"] / "unet" / "config.json"  # what tells the heads, and nothing else
    source = open_source(path, config=config)
    assert source.config[FIELD]
    assert source.assumed
    assert source.assumed[0] in source.notes
