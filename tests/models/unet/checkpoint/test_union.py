"""ControlNet-Union for SDXL: a ControlNet that reads which kind of hint it gets."""

import json

import pytest
import torch
from diffusers import ControlNetUnionModel
from safetensors.torch import load_file, save_file

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.info import WeightsInfo, info
from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.architecture import read_architecture
from cnctl.models.unet.checkpoint.config import check_config, config_from_shapes, find_family
from cnctl.models.unet.checkpoint.keymap import pairs
from cnctl.models.unet.load import load_controlnet

WEIGHTS = "diffusion_pytorch_model.safetensors"
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
    "conditioning_embedding_out_channels": (16, 32, 96, 256),
}
NARROW = TRUE | {
    "block_out_channels": (16, 32, 32),
    "transformer_layers_per_block": [1, 1, 2],
    "attention_head_dim": [2, 2, 4],
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 40,
    "conditioning_embedding_out_channels": (4, 8, 12, 16),
    "num_trans_channel": 16,
    "num_trans_head": 4,
    "num_trans_layer": 2,
    "num_proj_channel": 16,
}


def shapes_of(union: ControlNetUnionModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in union.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [6, 8], ids=["union", "promax"])
def test_true_size_has_the_tensors_of_diffusers_and_needs_no_config(kinds) -> None:
    with torch.device("meta"):
        union = ControlNetUnionModel(**TRUE, num_control_type=kinds)
    architecture = read_architecture(shapes_of(union))
    assert {pair.diffusers: pair.shape for pair in pairs(architecture)} == shapes_of(union)
    assert find_family(architecture).name == "SDXL"
    check_config(json.loads(union.to_json_string()), architecture)
    config = config_from_shapes(architecture)
    assert config.pop("_class_name") == "ControlNetUnionModel"
    with torch.device("meta"):
        again = ControlNetUnionModel(**config)
    assert shapes_of(again) == shapes_of(union)
    for one, other in zip(again.modules(), union.modules(), strict=True):
        for heads in ("heads", "num_heads"):
            assert getattr(one, heads, None) == getattr(other, heads, None)


@pytest.fixture
def union() -> ControlNetUnionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        union = ControlNetUnionModel(**NARROW).eval().requires_grad_(False)
        for parameter in union.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape))
    return union


@pytest.fixture
def folder(union, tmp_path):
    union.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


@pytest.mark.slow
def test_there_and_back_is_the_identity_and_means_the_same(union, folder, tmp_path) -> None:
    there = convert(
        ConvertRequest(
            sources=folder, target=tmp_path / "there.safetensors", to="diffusers", verify=True
        )
    )
    assert there.difference == 0
    convert(ConvertRequest(sources=there.path, target=tmp_path / "back"))
    for name in ("config.json", WEIGHTS):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()
    loaded, _ = load_controlnet(there.path)
    assert isinstance(loaded, ControlNetUnionModel)
    assert all(
        torch.equal(tensor, loaded.state_dict()[name])
        for name, tensor in union.state_dict().items()
    )
    for one, other in zip(loaded.modules(), union.modules(), strict=True):
        assert getattr(one, "num_heads", None) == getattr(other, "num_heads", None)


def test_info_says_what_it_is(folder) -> None:
    found = info(folder)
    assert isinstance(found, WeightsInfo)
    assert found.form == "diffusers, union"
    assert any(note.startswith("a union of 6 kinds of hint: pose, depth,") for note in found.notes)


@pytest.mark.parametrize("form", ["original", "bare"])
def test_the_originals_form_has_no_names_for_it(folder, tmp_path, form) -> None:
    with pytest.raises(CnctlError, match="is a ControlNet-Union, unknown to the original's form"):
        convert(ConvertRequest(sources=folder, target=tmp_path / "out.safetensors", to=form))


@pytest.mark.parametrize("name", ["ControlNetModel", "ControlNetModel_Union"])
def test_the_names_that_published_configs_give_the_class_are_known(folder, name) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": name}))
    assert isinstance(load_controlnet(folder)[0], ControlNetUnionModel)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"num_control_type": 8}, "the config says num_control_type = 8, the weights say 6"),
        ({"num_trans_head": 7}, "num_trans_head = 7, which does not divide 16"),
        ({"num_trans_head": "x"}, "num_trans_head = x"),
        ({"_class_name": "UNet2DConditionModel"}, "that of a UNet2DConditionModel"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, error) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CnctlError, match=error):
        load_controlnet(folder)


@pytest.mark.parametrize(
    ("lost", "error"),
    [
        ("spatial_ch_projs.bias", "1 tensor missing: spatial_ch_projs.bias"),
        ("transformer_layes.1.", "missing: controlnet_|unknown|missing|num_trans_layer"),
        ("mid_block.attentions.", "without attention in its middle|missing|unknown"),
        ("control_add_embedding.linear_1.weight", "control_add_embedding.linear_1.weight"),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(folder, lost, error) -> None:
    tensors = load_file(folder / WEIGHTS)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(lost)}
    save_file(kept, folder / WEIGHTS)
    with pytest.raises(CnctlError, match=error) as caught:
        load_controlnet(folder)
    assert "\n" not in str(caught.value)
