"""Conversion there and back is the identity; what is written is whole and says where it is from."""

import copy
import hashlib
import importlib.resources
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.info import WeightsInfo, info
from cnctl.errors import CnctlError, MissingError, OutputError
from cnctl.models.save import save_network
from cnctl.models.unet.checkpoint.source import read_description
from cnctl.models.unet.load import load_controlnet
from cnctl.system.rename import rename_new

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(random_controlnet, tmp_path) -> Path:
    """A ControlNet as diffusers itself writes it."""
    random_controlnet.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def test_a_description_survives_both_ways(random_controlnet, tmp_path) -> None:
    description = {"condition": "canny", "family": "tiny", "connect": "all", "steps": 7}
    save_network(random_controlnet, tmp_path / "source", description=description)
    there = convert(
        ConvertRequest(sources=tmp_path / "source", target=tmp_path / "there.safetensors")
    )
    assert {k: read_description(there.path)[k] for k in description} == description
    back = convert(ConvertRequest(sources=there.path, target=tmp_path / "back"))
    written = json.loads((back.path / "cnctl.json").read_text())
    sha256 = hashlib.sha256(there.path.read_bytes()).hexdigest()
    assert written.pop("converted") | {"by": ""} == {
        "form": "original, ControlNet alone",
        "sha256": sha256,
        "by": "",
    }
    assert written == description | {"hint_channels": 3}
    assert back.source_sha256 == sha256


def test_the_embedded_family_is_told_by_its_shapes(tmp_path) -> None:
    """A file of tiny that carries nothing but tensors needs no --config."""
    embedded = Path(str(importlib.resources.files("cnctl"))) / "tiny/weights/controls/canny"
    torch.save(load_file(embedded / WEIGHTS), tmp_path / "x.pth")
    path = convert(ConvertRequest(sources=tmp_path / "x.pth", target=tmp_path / "x")).path
    config, known = (
        json.loads((folder / "config.json").read_text()) for folder in (path, embedded)
    )
    assert config == {name: known[name] for name in known if name != "_diffusers_version"}
    assert json.loads((path / "cnctl.json").read_text())["family"] == "tiny"
    found = info(path)
    assert isinstance(found, WeightsInfo)
    assert (found.fits, found.notes) == ("bases of tiny, fine-tuned ones too", ())


@pytest.mark.parametrize(
    ("form", "key"),
    [
        ("original", "control_model.input_blocks.0.0.weight"),
        ("bare", "input_blocks.0.0.weight"),
        ("diffusers", "conv_in.weight"),
    ],
)
def test_keys_of_each_form(folder, tmp_path, random_controlnet, form, key) -> None:
    result = convert(ConvertRequest(sources=folder, target=tmp_path / "out.safetensors", to=form))
    written = load_file(result.path)
    assert len(written) == len(random_controlnet.state_dict()) == result.tensors
    assert torch.equal(written[key], random_controlnet.conv_in.weight)


def test_the_target_decides_the_form(folder, tmp_path) -> None:
    assert (
        convert(ConvertRequest(sources=folder, target=tmp_path / "a.safetensors")).form
        == "original"
    )
    assert (
        convert(ConvertRequest(sources=tmp_path / "a.safetensors", target=tmp_path / "b")).form
        == "diffusers"
    )
    assert (
        convert(ConvertRequest(sources=tmp_path / "b", target=tmp_path / "c")).form == "diffusers"
    )


@pytest.mark.parametrize("name", ["tmp.AbC123", "x.safetensors", "x.ckpt"])
def test_an_empty_folder_is_a_folder_whatever_its_name(folder, tmp_path, name) -> None:
    (tmp_path / name).mkdir()
    made = convert(ConvertRequest(sources=folder, target=tmp_path / name))
    assert made.form == "diffusers"
    assert (tmp_path / name / "config.json").is_file()
    with pytest.raises(OutputError, match=f"{name} exists"):
        convert(ConvertRequest(sources=folder, target=tmp_path / name))


@pytest.mark.parametrize("name", ["caf\udce9", "caf\udce9.safetensors"])
def test_a_path_that_is_not_utf8_is_refused_before_it_is_written_or_read(
    folder, tmp_path, name
) -> None:
    target = tmp_path / name
    with pytest.raises(OutputError, match="is not a UTF-8 path"):
        convert(ConvertRequest(sources=folder, target=target))
    assert not target.exists()
    folder.rename(target)
    with pytest.raises(CnctlError, match="is not a UTF-8 path"):
        convert(ConvertRequest(sources=target, target=tmp_path / "out"))


@pytest.mark.parametrize("name", ["out", "out.safetensors"])
def test_of_two_runs_one_writes(folder, tmp_path, monkeypatch, name) -> None:
    """The other one is done between the last look at the target and the rename."""
    request = ConvertRequest(sources=folder, target=tmp_path / name)
    real = rename_new

    def slow(source: Path, path: Path) -> None:
        monkeypatch.undo()
        convert(request)
        real(source, path)

    monkeypatch.setattr("cnctl.system.atomic.rename_new", slow)
    with pytest.raises(OutputError, match=f"{name} exists"):
        convert(request)
    assert {path.name for path in tmp_path.iterdir()} == {"source", name}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_casts_and_verifies(folder, tmp_path, dtype) -> None:
    result = convert(
        ConvertRequest(
            sources=folder, target=tmp_path / "out.safetensors", dtype=dtype, verify=True
        )
    )
    assert result.dtype == dtype
    with safe_open(result.path, framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {  # noqa: SIM118
            {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}[dtype]
        }
    assert result.difference is not None
    assert (result.difference == 0) == (dtype == "float32")
    assert result.relative_difference is not None
    assert result.relative_difference < 2e-2


@pytest.mark.slow
def test_verify_says_that_half_precision_loses_small_weights(random_controlnet, tmp_path) -> None:
    small = copy.deepcopy(random_controlnet)
    for name, parameter in small.named_parameters():
        if name.startswith("controlnet_"):
            parameter.data.mul_(1e-7)
    small.save_pretrained(tmp_path / "small")
    request = ConvertRequest(
        sources=tmp_path / "small", target=tmp_path / "out", dtype="float16", verify=True
    )
    with pytest.raises(OutputError, match="% of the largest") as caught:
        convert(request)
    assert caught.value.hint.startswith("use bfloat16 or float32")
    again = convert(replace(request, target=tmp_path / "wide", dtype="bfloat16"))
    assert again.relative_difference < 0.1


def test_verify_sees_a_file_that_behaves_otherwise(folder, tmp_path, monkeypatch) -> None:
    import cnctl.models.unet.conversion as job

    def swapped(tensors, table, form):
        names = dict(honest(tensors, table, form))
        a, b = (f"control_model.zero_convs.{n}.0.bias" for n in (0, 1))
        names[a], names[b] = names[b], names[a]
        return names

    honest = job.rename
    monkeypatch.setattr(job, "rename", swapped)
    with pytest.raises(OutputError, match="does not reproduce its source's residuals"):
        convert(ConvertRequest(sources=folder, target=tmp_path / "out.safetensors", verify=True))


def test_a_checkpoint_of_torch_with_its_whole_base(
    folder, random_controlnet, tmp_path, random_base
) -> None:
    bare = convert(
        ConvertRequest(sources=folder, target=tmp_path / "bare.safetensors", to="original")
    )
    full = load_file(bare.path) | {
        "model.diffusion_model.out.2.bias": torch.zeros(4),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77),
        "betas": torch.zeros(1000),
    }
    torch.save({"state_dict": full, "global_step": 5}, tmp_path / "last.ckpt")
    with pytest.raises(CnctlError, match="number of attention heads") as caught:
        convert(ConvertRequest(sources=tmp_path / "last.ckpt", target=tmp_path / "out"))
    assert "--config" in caught.value.hint
    result = convert(
        ConvertRequest(
            sources=tmp_path / "last.ckpt",
            target=tmp_path / "out",
            config=random_base / "unet" / "config.json",
        )
    )
    assert result.source_form == "original, full checkpoint"
    assert any("position ids" in note for note in result.notes)
    assert (result.path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    loaded, _ = load_controlnet(result.path)
    assert loaded.config.attention_head_dim == random_controlnet.config.attention_head_dim
    assert loaded.config.norm_num_groups == random_controlnet.config.norm_num_groups


def test_output_that_exists_is_kept(folder, tmp_path) -> None:
    target = tmp_path / "out.safetensors"
    target.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        convert(ConvertRequest(sources=folder, target=target))
    assert target.read_text() == "precious"
    convert(ConvertRequest(sources=folder, target=target, overwrite=True))
    assert (
        convert(
            ConvertRequest(sources=folder, target=target, overwrite=True, dtype="float16")
        ).dtype
        == "float16"
    )
    with pytest.raises(OutputError, match="holds more than a ControlNet"):
        convert(ConvertRequest(sources=folder, target=tmp_path, overwrite=True))


def test_can_replace_its_own_source(folder, random_controlnet) -> None:
    convert(ConvertRequest(sources=folder, target=folder, dtype="float16", overwrite=True))
    loaded, _ = load_controlnet(folder)
    assert torch.equal(loaded.conv_in.weight, random_controlnet.conv_in.weight.half())


@pytest.mark.parametrize(
    ("target", "options", "error", "sentence"),
    [
        ("out.pth", {}, CnctlError, "would be a pickle"),
        ("out.ckpt", {"to": "original"}, CnctlError, "would be a pickle"),
        ("out", {"to": "original"}, CnctlError, r"does not end in \.safetensors"),
        ("out", {"to": "onnx"}, CnctlError, "unknown form 'onnx'"),
        ("out", {"dtype": "int8"}, CnctlError, "unknown dtype 'int8'"),
        ("out", {"config": "nowhere.json"}, CnctlError, "nowhere.json is not a config.json"),
        ("source/config.json/out", {}, OutputError, "cannot be written"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    folder, tmp_path, target, options, error, sentence
) -> None:
    with pytest.raises(error, match=sentence):
        convert(ConvertRequest(sources=folder, target=tmp_path / target, **options))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_missing_source_is_missing(tmp_path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        convert(ConvertRequest(sources=tmp_path / "nowhere.pth", target=tmp_path / "out"))
    with pytest.raises(MissingError, match="not in the Hugging Face cache"):
        convert(ConvertRequest(sources="nobody/nothing", target=tmp_path / "out"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(folder, tmp_path, value) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["conv_in.bias"][0] = value
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CnctlError, match=r"conv_in\.bias holds values that are not finite"):
        convert(ConvertRequest(sources=folder, target=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_values_too_large_for_half_precision_are_refused(folder, tmp_path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["conv_in.bias"][0] = 1e5
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CnctlError, match="too large for float16"):
        convert(ConvertRequest(sources=folder, target=tmp_path / "out", dtype="float16"))
    assert (
        convert(ConvertRequest(sources=folder, target=tmp_path / "out", dtype="bfloat16")).dtype
        == "bfloat16"
    )


def test_the_papers_hint_encoder_has_no_place_in_the_original(loaded_random_base, tmp_path) -> None:
    from cnctl.models.unet.controlnet import build_controlnet

    paper = build_controlnet(loaded_random_base.denoiser, hint_encoder="paper")
    save_network(paper, tmp_path / "source", description={})
    with pytest.raises(CnctlError, match="paper's hint encoder"):
        convert(ConvertRequest(sources=tmp_path / "source", target=tmp_path / "out.safetensors"))
    result = convert(
        ConvertRequest(
            sources=tmp_path / "source", target=tmp_path / "out", dtype="bfloat16", verify=True
        )
    )
    assert result.form == "diffusers"


@pytest.mark.slow
@given(
    widths=st.lists(st.sampled_from([8, 16, 24]), min_size=1, max_size=4),
    hint_channels=st.integers(1, 7),
    hint_widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    layers=st.integers(1, 2),
    linear=st.booleans(),
    xl=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    form=st.sampled_from(["original", "bare", "diffusers"]),
)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_there_and_back_is_the_identity_at_any_width(
    tmp_path, widths, hint_channels, hint_widths, layers, linear, xl, dtype, form
) -> None:
    from diffusers import ControlNetModel

    controlnet = ControlNetModel(
        block_out_channels=widths,
        down_block_types=["CrossAttnDownBlock2D"] * (len(widths) - 1) + ["DownBlock2D"],
        layers_per_block=layers,
        conditioning_channels=hint_channels,
        conditioning_embedding_out_channels=hint_widths,
        cross_attention_dim=6,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=linear,
        addition_embed_type="text_time" if xl else None,
        addition_time_embed_dim=4 if xl else None,
        projection_class_embeddings_input_dim=40 if xl else None,
    ).to(dtype)
    controlnet.save_pretrained(tmp_path / "source")
    convert(
        ConvertRequest(
            sources=tmp_path / "source",
            target=tmp_path / "there.safetensors",
            to=form,
            overwrite=True,
        )
    )
    convert(
        ConvertRequest(
            sources=tmp_path / "there.safetensors", target=tmp_path / "back", overwrite=True
        )
    )
    for name in (WEIGHTS, "config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
