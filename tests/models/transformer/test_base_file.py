"""Bases in one file, written with the original's names, which diffusers' converters confirm."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file
from torch import Tensor

from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base
from cnctl.models.families import load_base, read_family
from cnctl.models.flux import lora as flux
from cnctl.models.sd3 import lora as sd3
from cnctl.models.transformer.base_file import OF_DENOISER
from cnctl.models.zimage import lora as zimage
from tests.models.original_vae import original_vae

Tensors = dict[str, Tensor]
BLOCKS: dict[str, dict[tuple[str, str], Any]] = {
    "sd3": {("joint_blocks", "transformer_blocks"): sd3.BLOCK},
    "flux": {
        ("double_blocks", "transformer_blocks"): flux.DOUBLE,
        ("single_blocks", "single_transformer_blocks"): flux.SINGLE,
    },
    "zimage": {
        (part, part): zimage.LAYER for part in ("layers", "noise_refiner", "context_refiner")
    },
    "qwen": {},
}
ALONE: dict[str, dict[str, Any]] = {
    "sd3": sd3.ALONE,
    "flux": {theirs: (ours,) for theirs, ours in flux.EMBEDDERS.items()}
    | {"final_layer.linear": ("proj_out",)},
    "zimage": {
        "x_embedder": ("all_x_embedder.2-1",),
        "final_layer.linear": ("all_final_layer.2-1.linear",),
        "final_layer.adaLN_modulation.1": ("all_final_layer.2-1.adaLN_modulation.1",),
    },
    "qwen": {},
}
CONVERTERS = {
    "sd3": single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
    "flux": single_file_utils.convert_flux_transformer_checkpoint_to_diffusers,
    "zimage": single_file_utils.convert_z_image_transformer_checkpoint_to_diffusers,
}
ENCODERS = {
    "sd3": {
        "text_encoder": "clip_l.transformer.",
        "text_encoder_2": "clip_g.transformer.",
        "text_encoder_3": "t5xxl.transformer.",
    },
    "flux": {"text_encoder": "clip_l.transformer.", "text_encoder_2": "t5xxl.transformer."},
    "zimage": {"text_encoder": "qwen3_4b.transformer.model."},
    "qwen": {},
}


def swapped(tensor: Tensor) -> Tensor:
    return torch.cat(tensor.chunk(2)[::-1])


def original(family: str, state: Tensors) -> Tensors:
    """A transformer's tensors under the original's names."""
    layers = {
        f"{theirs}.{n}.{layer}": [f"{ours}.{n}.{name}" for name in names]
        for (theirs, ours), block in BLOCKS[family].items()
        for n in range(12)
        for layer, names in block.items()
        if "processor" not in layer
    } | {theirs: list(ours) for theirs, ours in ALONE[family].items()}
    left, written = dict(state), {}
    for layer, names in layers.items():
        for kind in ("weight", "bias"):
            if all(f"{name}.{kind}" in state for name in names):
                own = torch.cat([left.pop(f"{name}.{kind}") for name in names])
                ending = "scale" if layer.endswith(("query_norm", "key_norm")) else kind
                written[f"{layer}.{ending}"] = own
    if family == "sd3":
        last = max(int(name.split(".")[1]) for name in written if name.startswith("joint"))
        for kind in ("weight", "bias"):
            name = f"joint_blocks.{last}.context_block.adaLN_modulation.1.{kind}"
            written[name] = swapped(written[name])
        written["pos_embed"] = left.pop("pos_embed.pos_embed")
    if family in ("sd3", "flux"):
        for kind in ("weight", "bias"):
            name = f"final_layer.adaLN_modulation.1.{kind}"
            written[name] = swapped(left.pop(f"norm_out.linear.{kind}"))
    return written | left


def converted(family: str, written: Tensors, width: int) -> Tensors:
    """By diffusers, whose converter for FLUX.1 knows one width."""
    convert = CONVERTERS[family]
    if family == "flux":
        source = inspect.getsource(convert).replace("inner_dim = 3072", f"inner_dim = {width}")
        scope = dict(vars(single_file_utils))
        exec(source, scope)
        convert = scope[convert.__name__]
    return convert(dict(written))


@pytest.fixture
def file_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """A family's random base, and one file beside its folder's configs; the folder has the parts
    that the file lacks.
    """

    def write(family: str, *, whole: bool) -> tuple[Base, Path]:
        folder = request.getfixturevalue(f"random_{family}_base")
        base = load_base(folder)
        inside = {*base.parts, "vae"} if whole else {"transformer"}
        for part in folder.rglob("*"):
            # of what the file has, the config alone
            if not (part.suffix == ".safetensors" and part.parent.name in inside):
                target = tmp_path / "base" / part.relative_to(folder)
                if part.is_dir():
                    target.mkdir(parents=True)
                else:
                    target.write_bytes(part.read_bytes())
        state = original(family, base.denoiser.state_dict())
        tensors = {OF_DENOISER + name: tensor for name, tensor in state.items()}
        if whole:
            tensors |= original_vae(base.vae)
            for part, prefix in ENCODERS[family].items():
                for name, tensor in base.parts[part].state_dict().items():
                    flat = prefix.startswith("clip") and not name.startswith("text_")
                    tensors[f"text_encoders.{prefix}{'text_model.' * flat}{name}"] = tensor
        contiguous = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
        path = tmp_path / "base" / "fine-tune.safetensors"
        save_file(contiguous, path)
        return base, path

    return write


@pytest.mark.parametrize(
    ("family", "whole"), [("sd3", True), ("flux", True), ("zimage", True), ("qwen", False)]
)
def test_one_file_is_the_folder(family: str, whole: bool, file_of: Any) -> None:
    base, path = file_of(family, whole=whole)
    if family in CONVERTERS:
        written = original(family, base.denoiser.state_dict())
        theirs = converted(family, written, sum(base.denoiser.config.get("axes_dims_rope", [])) * 2)
        own = base.denoiser.state_dict()
        assert theirs.keys() == own.keys()
        assert all(torch.equal(theirs[name], own[name]) for name in own)
    loaded = load_base(path)
    assert loaded.family.name == base.family.name
    assert loaded.defaults == base.defaults
    for one, other in [
        (base.vae, loaded.vae),
        *zip(base.parts.values(), loaded.parts.values(), strict=True),
    ]:
        expected = one.state_dict()
        assert expected.keys() == other.state_dict().keys()
        assert all(torch.equal(expected[name], t) for name, t in other.state_dict().items())


def test_what_completes_it_is_named(file_of: Any) -> None:
    _, path = file_of("flux", whole=False)
    said = load_base(path, weights=False).assumed
    assert said == f"fine-tune.safetensors has the transformer; all else is from {path.parent}"


def test_nothing_completes_it(file_of: Any, tmp_path: Path) -> None:
    _, path = file_of("zimage", whole=True)
    alone = path.rename(tmp_path / "alone.safetensors")
    with pytest.raises(MissingError, match="lacks tokenizers, configs and a") as caught:
        read_family(alone)
    assert "cnctl models pull z-image-turbo or z-image" in caught.value.hint


def test_another_size(file_of: Any, random_sd3_base: Path) -> None:
    _, path = file_of("sd3", whole=False)
    config = path.parent / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"num_layers": 4', '"num_layers": 5'))
    with pytest.raises(CnctlError, match=r"does not fit the transformer of .* tensors missing"):
        read_family(path)


def test_scaled_weights_are_refused(file_of: Any) -> None:
    _, path = file_of("qwen", whole=False)
    save_file({f"{OF_DENOISER}transformer_blocks.0.img_mlp.net.2.weight": torch.ones(2, 2),
               f"{OF_DENOISER}transformer_blocks.0.img_mlp.net.2.scale_weight": torch.ones(1)},
              path)  # fmt: skip
    with pytest.raises(CnctlError, match="has weights with scales beside them"):
        read_family(path)
