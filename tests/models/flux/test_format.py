"""What headers say of FLUX.1's ControlNets: every tensor, forms, refusals."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxControlNetModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.info import info
from cnctl.commands.shared.weights import NamedControl, check_controls
from cnctl.errors import CnctlError
from cnctl.models.flux.format import complete_config, read_architecture
from cnctl.registry import get_condition

Write = Callable[..., Path]
WEIGHTS = "diffusion_pytorch_model.safetensors"
UNION_PRO_2 = {"num_layers": 6, "num_single_layers": 0}
UNION = {"num_layers": 5, "num_single_layers": 10, "num_mode": 10}


@pytest.mark.parametrize(
    ("config", "billions"), [(UNION_PRO_2, 2.14), (UNION, 3.30), ({"num_single_layers": 0}, None)]
)
def test_a_config_follows_from_the_shapes_at_true_size(
    config: dict[str, Any], billions: float | None
) -> None:
    """Shakker's file has 4.28 GB and InstantX's 6.6 GB in bfloat16."""
    with torch.device("meta"):
        network = FluxControlNetModel(**config, guidance_embeds=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = complete_config({}, read_architecture(shapes))
    expected = {name: v for name, v in network.config.items() if not name.startswith("_")}
    expected["axes_dims_rope"] = [16, 56, 56]
    assert found == expected | {"_class_name": "FluxControlNetModel"}
    if billions:
        assert round(sum(map(prod, shapes.values())) / 1e9, 2) == billions


def test_xlabs_names_are_those_that_diffusers_converts(
    write_controlnet: Write, tmp_path: Path
) -> None:
    """The conversion of diffusers is for a whole FLUX: it needs one stream and a last layer."""
    folder, file = write_controlnet(tmp_path / "x", "xlabs"), tmp_path / "x.safetensors"
    done = convert(ConvertRequest(sources=folder, target=file, to="xlabs", verify=True))
    assert done.difference == 0
    tensors = load_file(file)
    own = ("controlnet_blocks", "input_hint_block", "pos_embed_input")
    left = {name: t for name, t in tensors.items() if name.startswith(own)}
    whole = {name: t for name, t in tensors.items() if name not in left}
    whole |= {f"final_layer.{name}": torch.ones(2, 2) for name in ("linear.weight", "linear.bias")}
    whole |= {
        f"final_layer.adaLN_modulation.1.{end}": torch.ones(2, 2) for end in ("weight", "bias")
    }
    whole |= {
        f"single_blocks.0.{name}": torch.ones(21504 if "linear1" in name else 4, 2)
        for name in (
            "modulation.lin.weight", "modulation.lin.bias", "linear1.weight", "linear1.bias",
            "norm.query_norm.scale", "norm.key_norm.scale", "linear2.weight", "linear2.bias",
        )
    }  # fmt: skip
    theirs, expected = (
        convert_flux_transformer_checkpoint_to_diffusers(whole),
        load_file(folder / WEIGHTS),
    )
    shared = {name for name in expected if not name.startswith(("controlnet_", "input_hint"))}
    assert shared <= theirs.keys()
    assert all(torch.equal(theirs[name], expected[name]) for name in shared)
    assert {name.split(".")[1] for name in left if name.startswith("input_hint_block")} == {
        str(number) for number in range(0, 16, 2)
    }


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("latents", "diffusers, blocks of two streams: 2, hints read as latents"),
        (
            "union",
            "diffusers, blocks of two streams: 1, blocks of one stream: 2, hints read as latents, "
            "a union that reads 5 kinds",
        ),
        ("xlabs", "diffusers, blocks of two streams: 2, hints read as pixels"),
    ],
)
def test_info_names_the_form(form: str, said: str, write_controlnet: Write, tmp_path: Path) -> None:
    found = info(write_controlnet(tmp_path / "x", form)).as_dict()
    assert (found["form"], found["family"]) == (said, "FLUX.1 with 2 heads of width 16")
    kinds = "a union: of its kinds of hint the first are canny, tile, depth, blur, pose, if it is "
    assert [*found["notes"]] == ([f"{kinds}published"] if form == "union" else [])


def test_a_file_whose_axes_are_unknown_is_refused(write_controlnet: Write, tmp_path: Path) -> None:
    """Heads of another width than the published one may divide their embedding in any way."""
    folder = write_controlnet(tmp_path / "x")
    save_file(load_file(folder / WEIGHTS), tmp_path / "x.safetensors")
    assert (
        "rotary embedding divides heads" in info(tmp_path / "x.safetensors").as_dict()["notes"][0]
    )
    request = ConvertRequest(sources=tmp_path / "x.safetensors", target=tmp_path / "y")
    with pytest.raises(CnctlError, match="no shape says how the rotary embedding"):
        convert(request)


@pytest.mark.parametrize(
    ("form", "changes", "condition", "what"),
    [
        ("latents", {"joint_attention_dim": 24}, "canny", "text width 24; the base has 64"),
        ("latents", {"num_attention_heads": 1}, "canny", "heads 1; the base has 2"),
        ("union", {}, "hed", "is a union, and nothing says which of its kinds hed is"),
    ],
)
def test_what_does_not_fit_is_refused_from_headers(
    form: str, changes: dict[str, Any], condition: str, what: str, write_controlnet: Write,
    random_flux_base: Path, tmp_path: Path,
) -> None:  # fmt: skip
    folder = write_controlnet(tmp_path / "x", form, **changes)
    named = NamedControl(get_condition(condition), str(folder))
    with pytest.raises(CnctlError, match=what):
        check_controls(random_flux_base, [named])


def test_what_xlabs_form_cannot_hold_is_refused(write_controlnet: Write, tmp_path: Path) -> None:
    target = tmp_path / "y.safetensors"
    with pytest.raises(CnctlError, match="reads hints as latents, unknown to XLabs' form"):
        convert(ConvertRequest(sources=write_controlnet(tmp_path / "x"), target=target, to="xlabs"))
