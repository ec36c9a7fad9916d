"""A small ControlNet with random weights, in each form that a file can have."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
SMALL = {
    "block_out_channels": (16, 32, 48, 48),
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "conditioning_channels": 2,
    "conditioning_embedding_out_channels": (4, 8, 12, 16),
}


@pytest.fixture(scope="session")
def small() -> ControlNetModel:
    """Four resolutions, two hint channels; nothing in it is zero. Do not change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        controlnet = ControlNetModel(**SMALL).eval().requires_grad_(False)
        for parameter in controlnet.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape))
    return controlnet


@pytest.fixture(scope="session")
def original(small: ControlNetModel) -> Tensors:
    """Its tensors under the original's names, without a prefix, by a second implementation."""
    return {original_name(name): tensor for name, tensor in small.state_dict().items()}


@pytest.fixture(scope="session")
def config_file(small: ControlNetModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its config.json."""
    path = tmp_path_factory.mktemp("config") / "config.json"
    small.to_json_file(path)
    return path


@pytest.fixture
def folder(small: ControlNetModel, tmp_path: Path) -> Path:
    """It as diffusers itself writes it."""
    small.save_pretrained(tmp_path / "diffusers")
    return tmp_path / "diffusers"


@pytest.fixture
def write(tmp_path: Path, small: ControlNetModel) -> Callable[..., Path]:
    """Write tensors to a safetensors file that carries the config of `small`."""

    def write(tensors: Tensors, name: str = "weights.safetensors", **metadata: str) -> Path:
        known = json.dumps({"config": json.loads(small.to_json_string())})
        save_file(tensors, tmp_path / name, metadata={"cnctl": known} | metadata)
        return tmp_path / name

    return write


@pytest.fixture
def companions() -> Tensors:
    """What else lies in a full v1.0 checkpoint, one tensor of each kind."""
    return {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4),
        "model.diffusion_model.out.2.bias": torch.zeros(4),
        "first_stage_model.decoder.conv_in.weight": torch.zeros(2),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(3),
        "cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.zeros(2),
        "betas": torch.zeros(10),
        "alphas_cumprod": torch.zeros(10),
    }


def original_name(name: str) -> str:
    """A name of diffusers -> the original's, for four resolutions of two layers, by hand."""
    table: list[tuple[str, str]] = [
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_in", "input_blocks.0.0"),
        ("controlnet_cond_embedding.conv_in", "input_hint_block.0"),
        ("controlnet_cond_embedding.blocks.0", "input_hint_block.2"),
        ("controlnet_cond_embedding.blocks.1", "input_hint_block.4"),
        ("controlnet_cond_embedding.blocks.2", "input_hint_block.6"),
        ("controlnet_cond_embedding.blocks.3", "input_hint_block.8"),
        ("controlnet_cond_embedding.blocks.4", "input_hint_block.10"),
        ("controlnet_cond_embedding.blocks.5", "input_hint_block.12"),
        ("controlnet_cond_embedding.conv_out", "input_hint_block.14"),
        ("down_blocks.0.resnets.0", "input_blocks.1.0"),
        ("down_blocks.0.attentions.0", "input_blocks.1.1"),
        ("down_blocks.0.resnets.1", "input_blocks.2.0"),
        ("down_blocks.0.attentions.1", "input_blocks.2.1"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("down_blocks.1.resnets.0", "input_blocks.4.0"),
        ("down_blocks.1.attentions.0", "input_blocks.4.1"),
        ("down_blocks.1.resnets.1", "input_blocks.5.0"),
        ("down_blocks.1.attentions.1", "input_blocks.5.1"),
        ("down_blocks.1.downsamplers.0.conv", "input_blocks.6.0.op"),
        ("down_blocks.2.resnets.0", "input_blocks.7.0"),
        ("down_blocks.2.attentions.0", "input_blocks.7.1"),
        ("down_blocks.2.resnets.1", "input_blocks.8.0"),
        ("down_blocks.2.attentions.1", "input_blocks.8.1"),
        ("down_blocks.2.downsamplers.0.conv", "input_blocks.9.0.op"),
        ("down_blocks.3.resnets.0", "input_blocks.10.0"),
        ("down_blocks.3.resnets.1", "input_blocks.11.0"),
        ("mid_block.resnets.0", "middle_block.0"),
        ("mid_block.attentions.0", "middle_block.1"),
        ("mid_block.resnets.1", "middle_block.2"),
        *((f"controlnet_down_blocks.{n}", f"zero_convs.{n}.0") for n in range(12)),
        ("controlnet_mid_block", "middle_block_out.0"),
    ]
    inside_resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    ours, theirs = next(row for row in table if name.startswith(f"{row[0]}."))
    rest = name.removeprefix(f"{ours}.")
    if ".resnets." in name:
        part, _, end = rest.rpartition(".")
        rest = f"{inside_resnet[part]}.{end}"
    return f"{theirs}.{rest}"


@pytest.fixture(scope="session")
def name_by_hand() -> Callable[[str], str]:
    """The table above, for tests at other sizes."""
    return original_name
