"""ControlNets for SDXL: three blocks, a second embedding, attention of its own depths."""

import json
from math import prod

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.architecture import read_architecture
from cnctl.models.unet.checkpoint.config import check_config, config_from_shapes, find_family
from cnctl.models.unet.checkpoint.keymap import pairs
from cnctl.models.unet.checkpoint.source import read_description
from cnctl.models.unet.load import load_controlnet

TRUE = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
MID = TRUE | {"transformer_layers_per_block": 1}
LITTLE = TRUE | {"down_block_types": ("DownBlock2D",) * 3, "mid_block_type": "UNetMidBlock2D"}
NARROW = {
    "block_out_channels": (16, 32, 32),
    "transformer_layers_per_block": [1, 2, 3],
    "attention_head_dim": [2, 2, 4],
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 40,
    "conditioning_embedding_out_channels": (4, 8, 12, 16),
}


@pytest.fixture(scope="module", params=[TRUE, MID, LITTLE], ids=["full", "mid", "small"])
def true_size(request) -> ControlNetModel:
    with torch.device("meta"):
        return ControlNetModel(**request.param)


def shapes_of(controlnet: ControlNetModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in controlnet.state_dict().items()}


def test_true_size_has_the_tensors_of_diffusers_and_the_names_by_hand(
    true_size, name_by_hand
) -> None:
    shapes = shapes_of(true_size)
    table = pairs(read_architecture(shapes))
    assert {pair.diffusers: pair.shape for pair in table} == shapes
    assert {pair.diffusers: pair.original for pair in table} == {
        name: name_by_hand(name) for name in shapes
    }
    originals = {pair.original: pair.shape for pair in table}
    assert originals["label_emb.0.0.weight"] == (1280, 2816)
    assert read_architecture(originals) == read_architecture(shapes)


def test_true_size_needs_no_config(true_size) -> None:
    architecture = read_architecture(shapes_of(true_size))
    assert find_family(architecture).name == "SDXL"
    config = config_from_shapes(architecture)
    check_config(json.loads(true_size.to_json_string()), architecture)
    with torch.device("meta"):
        again = ControlNetModel(**{k: v for k, v in config.items() if k != "_class_name"})
    assert shapes_of(again) == shapes_of(true_size)
    for one, other in zip(again.modules(), true_size.modules(), strict=True):
        assert getattr(one, "heads", None) == getattr(other, "heads", None)


def test_the_full_one_has_the_published_number_of_parameters() -> None:
    """2.50 GB in half precision, as on the hub."""
    with torch.device("meta"):
        controlnet = ControlNetModel(**TRUE)
    table = pairs(read_architecture(shapes_of(controlnet)))
    assert sum(prod(pair.shape) for pair in table) == controlnet.num_parameters()
    assert round(2 * controlnet.num_parameters() / 1e9, 2) == 2.50


@pytest.fixture(params=[TRUE, LITTLE], ids=["full", "small"])
def narrow(request, tmp_path):
    """A small folder of diffusers' own, and the module."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        controlnet = ControlNetModel(**request.param | NARROW).eval().requires_grad_(False)
        for parameter in controlnet.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape))
    controlnet.save_pretrained(tmp_path / "source")
    return controlnet, tmp_path / "source"


@pytest.mark.parametrize(
    "form", ["original", *(pytest.param(f, marks=pytest.mark.slow) for f in ("bare", "diffusers"))]
)
def test_there_and_back_is_the_identity_and_means_the_same(narrow, tmp_path, form) -> None:
    controlnet, source = narrow
    there = convert(
        ConvertRequest(sources=source, target=tmp_path / "there.safetensors", to=form, verify=True)
    )
    assert there.difference == 0
    convert(ConvertRequest(sources=there.path, target=tmp_path / "back"))
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    loaded, _ = load_controlnet(there.path)
    assert all(
        torch.equal(tensor, loaded.state_dict()[name])
        for name, tensor in controlnet.state_dict().items()
    )


def test_a_strangers_file_takes_its_heads_from_config(narrow, tmp_path) -> None:
    controlnet, source = narrow
    there = convert(ConvertRequest(sources=source, target=tmp_path / "there.safetensors"))
    save_file(load_file(there.path), tmp_path / "stranger.safetensors")
    with pytest.raises(CnctlError, match="number of attention heads"):
        read_description(tmp_path / "stranger.safetensors")
    back = convert(
        ConvertRequest(
            sources=tmp_path / "stranger.safetensors",
            target=tmp_path / "back",
            config=source / "config.json",
        )
    )
    loaded, description = load_controlnet(back.path)
    assert description["config"]["addition_time_embed_dim"] == 4
    for one, other in zip(loaded.modules(), controlnet.modules(), strict=True):
        assert getattr(one, "heads", None) == getattr(other, "heads", None)


def test_a_config_of_other_blocks_is_refused(narrow, tmp_path) -> None:
    _, source = narrow
    there = convert(ConvertRequest(sources=source, target=tmp_path / "there.safetensors"))
    config = json.loads((source / "config.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(config | {"block_out_channels": [16, 32]}))
    with pytest.raises(CnctlError, match="the config says block_out_channels"):
        convert(
            ConvertRequest(
                sources=there.path, target=tmp_path / "back", config=tmp_path / "other.json"
            )
        )
