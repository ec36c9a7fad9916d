"""Load, save and describe: every form gives the same module, and what is written is whole."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cnctl.commands.info import info
from cnctl.errors import CnctlError, MissingError, OutputError
from cnctl.models.save import save_network
from cnctl.models.unet.checkpoint.source import open_source, read_description
from cnctl.models.unet.controlnet import use_paper_hint_encoder
from cnctl.models.unet.load import load_controlnet


def same_weights(one: ControlNetModel, other: ControlNetModel) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def public(controlnet: ControlNetModel) -> dict:
    config = json.loads(controlnet.to_json_string())
    return {name: value for name, value in config.items() if not name.startswith("_")}


def test_a_folder_of_diffusers(small, folder) -> None:
    loaded, description = load_controlnet(folder)
    assert same_weights(loaded, small)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert public(loaded) == public(small)
    assert description["hint_channels"] == 2
    assert description["family"] == ""
    assert description["config"]["cross_attention_dim"] == 24


@pytest.mark.parametrize("prefix", ["control_model.", ""], ids=["original", "bare"])
def test_files_of_the_original(small, original, write, prefix) -> None:
    path = write({prefix + name: tensor for name, tensor in original.items()})
    loaded, _ = load_controlnet(path)
    assert same_weights(loaded, small)
    assert loaded.config.attention_head_dim == 4


def test_a_full_checkpoint_and_what_it_drops(small, original, write, companions) -> None:
    control = {f"control_model.{name}": tensor for name, tensor in original.items()}
    source = open_source(write(control | companions))
    assert same_weights(load_controlnet(source)[0], small)
    assert source.notes == (
        "left out buffers of the noise schedule (2 tensors)",
        "left out position ids of the text encoder (1 tensor)",
        "left out the U-Net of Stable Diffusion (2 tensors)",
        "left out the VAE (1 tensor)",
        "left out the text encoder (1 tensor)",
        "this checkpoint has its own U-Net; with another base its images may differ",
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_training_checkpoint_of_torch(
    small, original, companions, config_file, tmp_path, zipped
) -> None:
    control = {f"control_model.{name}": tensor for name, tensor in original.items()}
    value = {"state_dict": control | companions, "epoch": 3, "global_step": 40}
    path = tmp_path / "last.ckpt"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CnctlError, match="number of attention heads is not in this file"):
        open_source(path)
    source = open_source(path, config=config_file)
    assert source.container == "torch, under state_dict"
    assert source.notes[-2] == "left out beside the weights: epoch, global_step"
    assert same_weights(load_controlnet(source)[0], small)


def test_casts_only_when_asked(small, write) -> None:
    half = {name: tensor.half() for name, tensor in small.state_dict().items()}
    path = write(half)
    assert load_controlnet(path)[0].dtype == torch.float16
    assert load_controlnet(path, dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_loaded_weights_can_be_trained_and_saved_over_their_file(small, folder) -> None:
    loaded, _ = load_controlnet(folder)
    save_network(small, folder, description={})
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1)
    save_network(loaded, folder, description={})
    again, _ = load_controlnet(folder)
    assert same_weights(again, loaded)
    assert not same_weights(again, small)


def test_what_is_saved_is_read_by_diffusers(small, tmp_path) -> None:
    description = {"condition": "canny", "family": "tiny", "steps": 7}
    save_network(small, tmp_path / "out", description=description)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cnctl.json",
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert same_weights(ControlNetModel.from_pretrained(tmp_path / "out"), small)
    read = read_description(tmp_path / "out")
    assert {key: read[key] for key in description} == description
    save_network(small, tmp_path / "again", description=read)
    assert read_description(tmp_path / "again") == read


def test_weights_on_disk_equal_those_that_diffusers_writes(small, folder, tmp_path) -> None:
    save_network(small, tmp_path / "out", description={})
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_others_may_read_what_is_saved(small, tmp_path) -> None:
    earlier = os.umask(0o027)
    try:
        save_network(small, tmp_path / "out", description={"condition": "x"})
    finally:
        os.umask(earlier)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_a_run_and_a_pipeline_are_found_by_their_controlnet(small, tmp_path) -> None:
    save_network(small, tmp_path / "run" / "controlnet", description={"condition": "x"})
    (tmp_path / "run" / "log.jsonl").write_text("")
    assert read_description(tmp_path / "run")["condition"] == "x"


def test_saving_replaces_a_controlnet_and_nothing_else(small, tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(OutputError, match="holds more than a ControlNet"):
        save_network(small, tmp_path / "photos", description={})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written: (not a directory|file exists)"):
        save_network(small, tmp_path / "file" / "inside", description={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "photos"]


def test_a_full_disk_leaves_the_earlier_weights(small, folder, tmp_path) -> None:
    resource = pytest.importorskip("resource")
    before = (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            save_network(small, folder, description={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (folder / "diffusion_pytorch_model.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["diffusers"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cross_attention_dim": 32}, "the config says cross_attention_dim = 32"),
        ({"block_out_channels": [16, 32, 48, 64]}, "the config says block_out_channels"),
        ({"conditioning_channels": 3}, "the config says conditioning_channels = 3"),
        ({"attention_head_dim": 7}, "7 attention heads, which do not divide"),
        ({"attention_head_dim": [4, 4]}, "do not divide"),
        ({"attention_head_dim": "x"}, "do not divide"),
        ({"attention_head_dim": 0}, "do not divide"),
        ({"norm_num_groups": 7}, "its config is not a ControlNet's"),
        ({"act_fn": "os.system"}, "its config is not a ControlNet's"),
        ({"_class_name": "SparseControlNetModel"}, "that of a SparseControlNetModel"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, sentence) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CnctlError, match=sentence):
        load_controlnet(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00", "[" * 100_000])
def test_a_broken_config_is_one_line(folder, text) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CnctlError, match=r"is not a config\.json") as caught:
        load_controlnet(folder)
    assert "\n" not in str(caught.value)


def test_keys_of_a_strangers_config_go_nowhere(folder) -> None:
    path = folder / "config.json"
    wild = {"_attn_implementation_internal": "x/y", "trust_remote_code": True, "auto_map": {}}
    path.write_text(json.dumps(json.loads(path.read_text()) | wild))
    loaded, description = load_controlnet(folder)
    assert not wild.keys() & (dict(loaded.config).keys() | description["config"].keys())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"time_embed.0.weight": None}, "1 tensor missing: time_embed.0.weight"),
        ({"zero_convs.3.0.bias": None}, "1 tensor missing: zero_convs.3.0.bias"),
        ({"output_blocks.0.0.bias": torch.ones(1)}, "1 tensor unknown: output_blocks.0.0.bias"),
        ({"time_embed.2.bias": torch.ones(9)}, r"time_embed.2.bias is \[9\], not \[64\]"),
        ({"middle_block.1.proj_in.weight": None}, "middle_block.1.proj_in.weight is missing"),
        ({"input_hint_block.0.weight": torch.ones(4)}, r"input_hint_block.0.weight has shape"),
        ({"time_embed.2.bias": torch.ones(64).int()}, "has dtype I32"),
    ],
)
def test_a_tensor_that_differs_is_named(original, write, change, sentence) -> None:
    tensors = {k: v for k, v in (original | change).items() if v is not None}
    with pytest.raises(CnctlError, match=sentence):
        load_controlnet(write(tensors))


def test_a_name_with_a_huge_number_is_refused_at_once(write) -> None:
    names = ("input_hint_block.999999999.weight", "input_blocks.999999.x")
    with pytest.raises(CnctlError, match=r"input_blocks|missing"):
        load_controlnet(write({name: torch.zeros(0) for name in names}))


def test_what_is_not_there_is_missing(tmp_path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        load_controlnet(tmp_path / "nowhere")
    with pytest.raises(CnctlError, match="holds no diffusion_pytorch_model"):
        load_controlnet(tmp_path)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("prefix", ["", "control_model."])
def test_names_from_parallel_or_compiled_training_are_read(
    small, original, write, wrapper, prefix
) -> None:
    path = write({wrapper + prefix + name: tensor for name, tensor in original.items()})
    loaded, _ = load_controlnet(path)
    assert same_weights(loaded, small)
    assert any("'module.'" in note for note in open_source(path).notes)


def test_names_of_a_compiled_part_are_read(small, write) -> None:
    state = small.state_dict()
    renamed = {n.replace("mid_block.", "mid_block._orig_mod.", 1): t for n, t in state.items()}
    assert renamed.keys() != state.keys()
    assert same_weights(load_controlnet(write(renamed))[0], small)


@pytest.mark.parametrize(
    "name",
    ["diffusion_pytorch_model.fp16.bin", "model.safetensors", "pytorch_model.bin"],
)
def test_weights_by_other_common_names_are_read_in_a_folder(small, tmp_path, name) -> None:
    small.save_config(tmp_path)
    save = save_file if name.endswith(".safetensors") else torch.save
    save(small.state_dict(), tmp_path / name)
    assert same_weights(load_controlnet(tmp_path)[0], small)
    assert info(tmp_path).form == "diffusers"


@pytest.fixture
def parts(small, tmp_path) -> Path:
    """The ControlNet in several files, as diffusers writes large ones."""
    small.save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    assert len([*(tmp_path / "parts").glob("*-of-*.safetensors")]) > 2
    return tmp_path / "parts"


INDEX = "diffusion_pytorch_model.safetensors.index.json"


def test_weights_in_parts_are_read(small, parts, tmp_path) -> None:
    small.save_pretrained(tmp_path / "whole")
    whole, found = info(tmp_path / "whole", hash=True), info(parts, hash=True)
    assert found.bytes == sum(part.stat().st_size for part in parts.glob("*.safetensors"))
    assert (found.tensors, found.parameters) == (whole.tensors, whole.parameters)
    assert (found.form, found.family) == (whole.form, whole.family)
    for source in (parts, parts / INDEX):
        assert same_weights(load_controlnet(source)[0], small)
    changed = sorted(parts.glob("*.safetensors"))[-1]
    save_file({n: t + 1 for n, t in load_file(changed).items()}, changed, {"format": "pt"})
    assert info(parts, hash=True).sha256 != found.sha256


def test_torch_weights_in_parts_are_read(small, tmp_path) -> None:
    small.save_pretrained(tmp_path, max_shard_size="100KB", safe_serialization=False)
    assert same_weights(load_controlnet(tmp_path)[0], small)


def test_a_missing_part_of_weights_is_named(parts) -> None:
    last = sorted(parts.glob("*.safetensors"))[-1]
    with pytest.raises(CnctlError, match=r"is one of several parts") as raised:
        load_controlnet(last)
    assert raised.value.hint == f"give the folder {parts}"
    last.unlink()
    with pytest.raises(MissingError, match=rf"lacks 1 of \d+ parts of its weights: {last.name}$"):
        load_controlnet(parts)


@pytest.mark.parametrize(
    "table",
    [{}, {"weight_map": {}}, {"weight_map": {"a": "../a.safetensors"}}, {"weight_map": {"a": 1}}],
)
def test_an_index_that_lists_no_files_beside_it_is_refused(parts, table) -> None:
    (parts / INDEX).write_text(json.dumps(table))
    with pytest.raises(CnctlError, match="is not an index of weights"):
        load_controlnet(parts)


def test_a_part_of_other_weights_is_named(parts) -> None:
    first, second, *_ = sorted(parts.glob("*.safetensors"))
    shutil.copyfile(first, second)
    with pytest.raises(CnctlError, match=r"and its parts disagree about '"):
        load_controlnet(parts)


def test_weights_that_are_not_read_in_a_folder_are_named(small, tmp_path) -> None:
    small.save_config(tmp_path / "other")
    save_file(small.state_dict(), tmp_path / "other/canny.safetensors")
    with pytest.raises(CnctlError, match=r"holds no .*, but canny\.safetensors$") as raised:
        load_controlnet(tmp_path / "other")
    assert raised.value.hint == f"give {tmp_path}/other/canny.safetensors itself"


def test_the_papers_hint_encoder_is_built_where_the_file_has_it(small, tmp_path) -> None:
    paper = ControlNetModel.from_config(small.config)
    use_paper_hint_encoder(paper)
    save_network(paper, tmp_path / "paper", description={})
    loaded, description = load_controlnet(tmp_path / "paper")
    assert same_weights(loaded, paper)
    assert description["hint_channels"] == 2


@given(
    widths=st.lists(st.sampled_from([8, 16, 24]), min_size=2, max_size=4),
    hint_channels=st.integers(1, 7),
    hint_widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    text_width=st.sampled_from([5, 8]),
    linear=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_saving_and_loading_is_the_identity(
    tmp_path, widths, hint_channels, hint_widths, text_width, linear, dtype
) -> None:
    controlnet = ControlNetModel(
        block_out_channels=widths,
        down_block_types=["CrossAttnDownBlock2D"] * (len(widths) - 1) + ["DownBlock2D"],
        layers_per_block=1,
        conditioning_channels=hint_channels,
        conditioning_embedding_out_channels=hint_widths,
        cross_attention_dim=text_width,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=linear,
    ).to(dtype)
    save_network(controlnet, tmp_path / "x", description={})
    loaded, _ = load_controlnet(tmp_path / "x")
    assert same_weights(loaded, controlnet)
    assert loaded.dtype == dtype
