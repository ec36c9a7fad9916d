"""What `info` says of weights and images."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.info import ImageInfo, WeightsInfo, info
from cnctl.errors import CnctlError, MissingError
from cnctl.images import write_image
from cnctl.models.save import save_network


@pytest.fixture
def folder(random_controlnet, tmp_path):
    save_network(
        random_controlnet, tmp_path / "canny", description={"condition": "canny", "family": "tiny"}
    )
    return tmp_path / "canny"


def test_weights(folder, random_controlnet, tmp_path) -> None:
    path = convert(
        ConvertRequest(sources=folder, target=tmp_path / "x.safetensors", dtype="float16")
    ).path
    for source, form, dtype in (
        (folder, "diffusers", "float32"),
        (path, "original, ControlNet alone", "float16"),
    ):
        found = info(source)
        assert isinstance(found, WeightsInfo)
        assert (found.form, found.dtype, found.family) == (form, dtype, "tiny")
        assert found.condition == "canny"
        assert found.hint_channels == 3
        assert found.parameters == sum(p.numel() for p in random_controlnet.parameters())
        assert found.fits == "bases with blocks of 16-32-32-32 channels and text of width 32"
        assert found.notes == ()
        assert json.loads(json.dumps(found.as_dict()))["sha256"] == ""


def test_a_control_lora_and_what_was_done_to_it(folder, random_base, tmp_path) -> None:
    path = tmp_path / "lora.safetensors"
    convert(
        ConvertRequest(sources=folder, target=path, to="control-lora", base=random_base, rank=2)
    )
    found = info(path)
    assert isinstance(found, WeightsInfo)
    assert (found.form, found.rank, found.condition) == ("Control-LoRA", 2, "canny")
    assert found.converted["form"] == "diffusers"
    assert found.notes == (
        "a Control-LoRA is a ControlNet only together with a base; name the base with --base",
    )


@pytest.mark.parametrize(
    ("place", "licence"),
    [
        ("control_v11p_sd15_canny", "CreativeML OpenRAIL-M"),
        ("models--xinsir--controlnet-canny-sdxl-1.0/snapshots/0", "Apache-2.0"),
        ("mine", ""),
    ],
)
def test_a_published_name_tells_the_licence(folder, tmp_path, place, licence) -> None:
    """Folder names that are published, and those of the hub's cache."""
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, tmp_path / place)
    found = info(tmp_path / place)
    assert isinstance(found, WeightsInfo)
    assert found.licence == licence


@pytest.mark.parametrize(
    ("name", "condition", "note"),
    [
        ("control_sd15_normal", "normal (by its name)", "channels reversed"),
        ("control_v11p_sd15_normalbae", "normalbae (by its name)", ""),
        ("control_v11e_sd15_shuffle", "shuffle (by its name)", "residuals are "),
        ("control_v11p_sd15s2_lineart_anime", "cartoon (by its name)", "white lines on black"),
        ("control_canny-fp16", "canny (by its name)", ""),
        ("sd-controlnet-seg", "ade20k (by its name)", ""),
        ("canny", "", ""),
        ("control_of_mine", "", ""),
    ],
)
def test_a_published_name_tells_the_condition(
    random_controlnet, tmp_path, name, condition, note
) -> None:
    save_network(random_controlnet, tmp_path / "source", description={})
    path = tmp_path / f"{name}.safetensors"
    convert(ConvertRequest(sources=tmp_path / "source", target=path, to="bare"))
    found = info(path)
    assert isinstance(found, WeightsInfo)
    assert found.condition == condition
    assert note in " ".join(found.notes)
    copy = convert(ConvertRequest(sources=path, target=tmp_path / "copy"))
    written = info(copy.path)
    assert isinstance(written, WeightsInfo)
    assert written.condition == condition.removesuffix(" (by its name)")
    assert note in " ".join(copy.notes)


def test_a_config_says_what_the_weights_do_not(folder, tmp_path) -> None:
    import json

    from safetensors.torch import load_file, save_file

    path, config = tmp_path / "x.safetensors", tmp_path / "config.json"
    save_file(load_file(folder / "diffusion_pytorch_model.safetensors"), path)
    config.write_text(
        json.dumps(
            json.loads((folder / "config.json").read_text()) | {"global_pool_conditions": True}
        )
    )
    assert "attention heads" in info(path).notes[0]
    assert info(path, config=config).notes == ("its residuals are averaged over the picture",)


def test_hash_of_the_weights(folder) -> None:
    found = info(folder, hash=True)
    assert isinstance(found, WeightsInfo)
    assert found.path.name == "diffusion_pytorch_model.safetensors"
    assert found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()


def test_oddities(folder, tmp_path) -> None:
    from safetensors.torch import load_file

    path = convert(
        ConvertRequest(sources=folder, target=tmp_path / "x.safetensors", to="bare")
    ).path
    tensors = load_file(path)
    tensors["time_embed.0.bias"] = tensors["time_embed.0.bias"].half()
    torch.save({"state_dict": tensors, "epoch": 2}, tmp_path / "x.pth")
    found = info(tmp_path / "x.pth")
    assert isinstance(found, WeightsInfo)
    assert found.container == "torch, under state_dict"
    assert found.family == ""
    dropped, heads, mixed = found.notes
    assert dropped == "left out beside the weights: epoch"
    assert heads.startswith("the number of attention heads is not in this file")
    assert mixed == "tensors have different dtypes"


def test_images(tmp_path) -> None:
    record = {"prompt": "ü", "seed": 3}
    texts = {"cnctl": json.dumps(record), "parameters": "ü\nSteps: 20"}
    write_image(tmp_path / "x.png", np.zeros((8, 8, 3), np.uint8), metadata=texts)
    found = info(tmp_path / "x.png")
    assert isinstance(found, ImageInfo)
    assert found.metadata["cnctl"] == record
    assert found.metadata["parameters"] == texts["parameters"]
    write_image(tmp_path / "y.png", np.zeros((8, 8, 3), np.uint8))
    assert info(tmp_path / "y.png").metadata == {}


def test_other_files(tmp_path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        info(tmp_path / "nowhere")
    (tmp_path / "x").write_text("hello")
    with pytest.raises(CnctlError, match="not a file of weights"):
        info(tmp_path / "x")


def test_names_that_models_lists() -> None:
    assert info("tiny/canny").condition == "canny"
    with pytest.raises(MissingError, match="v11p_canny is not in the Hugging Face cache"):
        info("v11p_canny")


def test_imports_neither_torch_nor_diffusers(folder) -> None:
    script = (
        "import sys; from cnctl.commands.info import info; info(sys.argv[1], hash=True);"
        "print(sorted({'torch', 'diffusers', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_a_pipe_is_not_called_missing(tmp_path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CnctlError, match="is not a file or a folder"):
        info(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["tiny", "sd15"])
def test_a_name_of_a_base_is_called_so(name) -> None:
    with pytest.raises(CnctlError, match=f"^{name} is a base, not a ControlNet$"):
        info(name)
