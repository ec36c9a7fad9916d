"""What headers say of SD3's ControlNets: every tensor, forms, refusals."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SD3ControlNetModel
from safetensors.torch import load_file, save_file

from cnctl.commands.convert.init_from_base import init_from_base
from cnctl.commands.convert.request import ConvertRequest, InitRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.info import info
from cnctl.errors import CnctlError
from cnctl.models.layouts import load_controlnet
from cnctl.models.sd3.architecture import POSITIONS, expected_shapes, read_architecture
from cnctl.models.sd3.published import hint_bounds

Write = Callable[..., Path]
WEIGHTS = "diffusion_pytorch_model.safetensors"
LARGE = {
    "num_layers": 19,
    "num_attention_heads": 38,
    "caption_projection_dim": 2432,
    "joint_attention_dim": None,
    "use_pos_embed": False,
    "pos_embed_type": None,
}
MEDIUM = {
    "num_layers": 12,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "qk_norm": "rms_norm",
    "dual_attention_layers": range(12),
    "pos_embed_max_size": 384,
}


@pytest.mark.parametrize(("config", "billions"), [(LARGE, 2.15), (MEDIUM, 1.26)])
def test_the_table_of_tensors_is_diffusers_at_true_size(
    config: dict[str, Any], billions: float
) -> None:
    """Stability's files have 8.61 GB in float32: 2.15 billion parameters."""
    with torch.device("meta"):
        network = SD3ControlNetModel(**config)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = expected_shapes(read_architecture(shapes))
    assert found == shapes
    count = sum(prod(shape) for name, shape in found.items() if name != POSITIONS)
    assert round(count / 1e9, 2) == billions


def test_info_names_form_layers_and_parameters(write_controlnet: Write, tmp_path: Path) -> None:
    found = info(write_controlnet(tmp_path / "x", "no text")).as_dict()
    assert found["form"] == "diffusers, 2 layers that read the pooled text alone"
    assert found["family"] == "SD3 with 2 heads of width 8"
    forms = [info(write_controlnet(tmp_path / one, one)).as_dict() for one in ("zeros", "pooled")]
    assert forms[0]["form"] == "diffusers, 2 layers that read text without the pooled text"
    assert forms[1]["form"] == "diffusers, 2 layers that read text and the pooled text"
    assert found["notes"] == forms[0]["notes"] == ()


def test_a_file_that_leaves_its_form_open_is_refused(
    write_controlnet: Write, tmp_path: Path
) -> None:
    folder = write_controlnet(tmp_path / "x", "pooled")
    (folder / WEIGHTS).rename(tmp_path / "x.safetensors")
    with pytest.raises(CnctlError, match="no shape says whether") as caught:
        load_controlnet(tmp_path / "x.safetensors")
    assert "--config FILE" in caught.value.hint
    assert "no shape says whether" in info(tmp_path / "x.safetensors").as_dict()["notes"][0]
    request = ConvertRequest(
        sources=tmp_path / "x.safetensors", target=tmp_path / "y", config=folder / "config.json"
    )
    convert(request)
    assert not load_controlnet(tmp_path / "y")[0].config.force_zeros_for_pooled_projection


def test_convert_writes_stabilitys_names_and_reads_them(
    write_controlnet: Write, tmp_path: Path
) -> None:
    folder, file = write_controlnet(tmp_path / "x", "no text"), tmp_path / "x.safetensors"
    done = convert(ConvertRequest(sources=folder, target=file, to="original", verify=True))
    assert done.difference == 0
    assert (
        info(file).as_dict()["form"]
        == "original (Stability's), 2 layers that read the pooled text alone"
    )
    assert info(file).as_dict()["tensors"] < info(folder).as_dict()["tensors"]


def test_names_from_parallel_training_are_read(write_controlnet: Write, tmp_path: Path) -> None:
    folder, wrapped = (write_controlnet(tmp_path / name, "no text") for name in "xy")
    tensors = load_file(folder / WEIGHTS)
    save_file({f"module.{name}": tensor for name, tensor in tensors.items()}, wrapped / WEIGHTS)
    found = load_controlnet(wrapped)[0].state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_convert_averages_and_casts(write_controlnet: Write, tmp_path: Path) -> None:
    one, two = (write_controlnet(tmp_path / name) for name in "xy")
    request = ConvertRequest(
        sources=[one, two], target=tmp_path / "z", dtype="bfloat16", verify=True
    )
    assert convert(request).dtype == "bfloat16"


def test_what_convert_does_not_do_is_said_in_a_sentence(
    write_controlnet: Write, random_sd3_base: Path, tmp_path: Path
) -> None:
    folder, target = write_controlnet(tmp_path / "x"), tmp_path / "y.safetensors"
    with pytest.raises(CnctlError, match="reads text, unknown to Stability's own form"):
        convert(ConvertRequest(sources=folder, target=target, to="original"))
    with pytest.raises(CnctlError, match="form 'bare' is not one of ControlNets for SD3"):
        convert(ConvertRequest(sources=folder, target=target, to="bare"))
    with pytest.raises(CnctlError, match="and this one has it"):
        init_from_base(InitRequest(base=random_sd3_base, target=target, config=folder))
    with pytest.raises(CnctlError, match="hints of an untrained ControlNet have 1 channels"):
        init_from_base(InitRequest(base=random_sd3_base, target=target, hint_channels=1))


def test_stabilitys_canny_has_other_bounds(write_controlnet: Write, tmp_path: Path) -> None:
    folder = tmp_path / "models--stabilityai--stable-diffusion-3.5-large-controlnet-canny" / "x"
    network, _ = load_controlnet(write_controlnet(folder, "no text"))
    assert hint_bounds(folder / WEIGHTS) == network.hint_bounds == (0.5, 128.0)
    convert(ConvertRequest(sources=folder, target=tmp_path / "mine.safetensors"))
    assert load_controlnet(tmp_path / "mine.safetensors")[0].hint_bounds == (0.5, 128.0)
    assert hint_bounds(tmp_path / "mine.safetensors") is None
    assert info(folder).as_dict()["condition"] == "canny (by its name)"
