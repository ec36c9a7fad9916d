"""LoRAs on bases with a transformer, against diffusers' loaders and converters."""

import copy
import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_sd3_transformer_checkpoint_to_diffusers,
    convert_z_image_transformer_checkpoint_to_diffusers,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from cnctl.commands.generate.adapters import check_adapters, check_fit, load_adapters
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.flux.lora import NAMES as OF_FLUX
from cnctl.models.lora import LoraNames, read_lora
from cnctl.models.sd3.lora import NAMES as OF_SD3
from cnctl.models.zimage.lora import NAMES as OF_ZIMAGE

FOLDERS = {name: f"random_{name}_base" for name in ("sd3", "flux", "zimage", "qwen")}
ENDS = {
    "sd3": ("to_q", "add_k_proj", "to_out.0", "ff.net.2", "norm1.linear", "pos_embed.proj"),
    "flux": ("to_q", "add_k_proj", "to_out.0", "proj_mlp", "norm.linear", "x_embedder", "proj_out"),
    "zimage": ("to_q", "to_out.0", "feed_forward.w2", "adaLN_modulation.0", "cap_embedder.1"),
    "qwen": ("to_q", "add_k_proj", "to_out.0", "img_mlp.net.2", "txt_mod.1", "img_in"),
}
"""Layers of transformers that people train."""
PEFT, KOHYA, XLABS = ("lora_A", "lora_B"), ("lora_down", "lora_up"), ("down", "up")
"""Names of both factors."""
Layers = dict[str, tuple[int, int]]
"""Columns and rows by name."""
Tensors = dict[str, Tensor]


@pytest.fixture(scope="session")
def loaded(request: pytest.FixtureRequest) -> Callable[[str], tuple[Base, Any]]:
    """A family's random base as cnctl and as diffusers load it. Do not change them."""

    @functools.cache
    def load(family: str) -> tuple[Base, Any]:
        folder = request.getfixturevalue(FOLDERS[family])
        return load_base(folder), DiffusionPipeline.from_pretrained(folder)

    return load


def layers_of(module: nn.Module, ends: tuple[str, ...], prefix: str = "") -> Layers:
    return {
        prefix + name: (layer.weight[0].numel(), len(layer.weight))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and name.endswith(ends)
    }


def factors(layers: Layers, names: tuple[str, str] = PEFT) -> Tensors:
    """Random ones, of rank 2 and 4 in turn."""
    tensors: Tensors = {}
    generator, (down, up) = torch.Generator().manual_seed(0), names
    for number, (name, (columns, rows)) in enumerate(layers.items()):
        rank = 2 + 2 * (number % 2)
        first = 0.1 * torch.randn(rank, columns, generator=generator)
        second = 0.1 * torch.randn(rows, rank, generator=generator)
        if name.endswith("pos_embed.proj"):  # SD3 embeds latents by a convolution
            first, second = first.reshape(rank, -1, 2, 2), second.reshape(rows, rank, 1, 1)
        tensors |= {f"{name}.{down}.weight": first, f"{name}.{up}.weight": second}
    return tensors


def check_equal(family: tuple[Base, Any], path: Path) -> None:
    """The weights of every part after either has loaded the file, at a scale of 0.7."""
    loaded, theirs = family[0], copy.deepcopy(family[1])
    own = {part: copy.deepcopy(getattr(loaded, part)) for part in ("denoiser", "text_encoders")}
    base = replace(loaded, **own)
    theirs.load_lora_weights(str(path.parent), weight_name=path.name)
    theirs.fuse_lora(lora_scale=0.7, components=theirs._lora_loadable_modules)
    check_adapters([f"{path}:0.7"], [])
    load_adapters(base, [f"{path}:0.7"], [])
    before, after = loaded.denoiser.state_dict(), base.denoiser.state_dict()
    assert any(not torch.equal(weight, before[name]) for name, weight in after.items())
    for part, module in base.parts.items():
        named = getattr(theirs, part).state_dict().items()
        expected = {name.replace(".base_layer", ""): weight for name, weight in named}
        for name, weight in module.state_dict().items():
            torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FOLDERS)
def test_names_of_diffusers(family: str, loaded: Any, tmp_path: Path) -> None:
    """With the text encoders that its loader reads, and several ranks."""
    base, theirs = loaded(family)
    tensors = factors(layers_of(base.denoiser, ENDS[family], "transformer."))
    for part in theirs._lora_loadable_modules:
        if part != "transformer":
            encoder = base.parts[part]
            prefix = f"{part}." if hasattr(encoder, "text_model") else f"{part}.text_model."
            tensors |= factors(layers_of(encoder, ("q_proj", "fc1"), prefix))
    save_file(tensors, tmp_path / "a.safetensors")
    check_equal(loaded(family), tmp_path / "a.safetensors")


@pytest.mark.parametrize("family", FOLDERS)
def test_alpha_and_patterns_in_the_metadata(family: str, loaded: Any, tmp_path: Path) -> None:
    layers = layers_of(loaded(family)[0].denoiser, ("to_q", "to_out.0"))
    told = {
        "r": 2, "lora_alpha": 3, "rank_pattern": dict.fromkeys([*layers][1::2], 4),
        "alpha_pattern": {"to_q": 5}, "target_modules": list(layers),
    }  # fmt: skip
    metadata = json.dumps({f"transformer.{name}": value for name, value in told.items()})
    tensors = factors({f"transformer.{name}": shape for name, shape in layers.items()})
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": metadata})
    check_equal(loaded(family), tmp_path / "a.safetensors")


def kohya(layers: Layers, prefix: str = "lora_unet_") -> Tensors:
    flat = {prefix + name.replace(".", "_"): shape for name, shape in layers.items()}
    alphas = {f"{name}.alpha": torch.tensor(3.0) for name in flat}
    return factors(flat, KOHYA) | alphas


def flux_original(base: Base) -> Layers:
    """Without `linear1`, which diffusers reads at true width alone."""
    w = base.denoiser.inner_dim
    rows = {"img_attn.qkv": 3, "txt_attn.qkv": 3, "img_attn.proj": 1, "txt_mod.lin": 6}
    double = {f"double_blocks.{n}.{layer}": (w, rows[layer] * w) for n in (0, 2) for layer in rows}
    return double | {
        "single_blocks.1.linear2": (5 * w, w),
        "single_blocks.0.modulation.lin": (w, 3 * w),
    }


def flux_kohya(base: Base) -> Tensors:
    text = layers_of(base.text_encoders[0].model, ("fc1",), "text_model.")
    own = {name.replace("text_model.text_model", "text_model"): size for name, size in text.items()}
    return kohya(flux_original(base)) | kohya(own, "lora_te1_")


def flux_comfyui(base: Base) -> Tensors:
    layers = {f"diffusion_model.{name}": shape for name, shape in flux_original(base).items()}
    return factors(layers, KOHYA)


def flux_xlabs(base: Base) -> Tensors:
    w, layers = base.denoiser.inner_dim, {}
    for stream in (1, 2):
        layers[f"double_blocks.0.processor.qkv_lora{stream}"] = (w, 3 * w)
        layers[f"double_blocks.2.processor.proj_lora{stream}"] = (w, w)
    layers["single_blocks.1.processor.qkv_lora"] = (w, 3 * w)
    layers["single_blocks.1.processor.proj_lora"] = (5 * w, w)
    return factors(layers, XLABS)


def ai_toolkit(base: Base, family: str) -> Tensors:
    return factors(layers_of(base.denoiser, ENDS[family], "diffusion_model."))


FORMS: dict[tuple[str, str], Callable[[Base], Tensors]] = {
    ("flux", "kohya"): flux_kohya,
    ("flux", "OneTrainer"): lambda base: kohya(
        layers_of(base.denoiser, ("attn.to_q", "attn.add_k_proj")), "lora_transformer_"
    ),
    ("flux", "ComfyUI"): flux_comfyui,
    ("flux", "XLabs"): flux_xlabs,
    ("zimage", "kohya"): lambda base: kohya(layers_of(base.denoiser, ENDS["zimage"])),
    ("qwen", "kohya"): lambda base: kohya(layers_of(base.denoiser, ENDS["qwen"])),
    ("zimage", "ai-toolkit"): lambda base: ai_toolkit(base, "zimage"),
    ("qwen", "ai-toolkit"): lambda base: ai_toolkit(base, "qwen"),
    ("qwen", "DiffSynth"): lambda base: factors(
        layers_of(base.denoiser, ENDS["qwen"]), ("lora_A.default", "lora_B.default")
    ),
}
"""Family and trainer -> a file with its names."""


@pytest.mark.parametrize(("family", "trainer"), FORMS)
def test_names_of_trainers(family: str, trainer: str, loaded: Any, tmp_path: Path) -> None:
    tensors = FORMS[family, trainer](loaded(family)[0])
    save_file(tensors, tmp_path / "a.safetensors")
    check_equal(loaded(family), tmp_path / "a.safetensors")


def test_originals_names_in_flux(tmp_path: Path) -> None:
    """At true width, which diffusers' converter has written into it."""
    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    rows: dict[str, int] = {"img_in": 1, "txt_in": 1, "final_layer.adaLN_modulation.1": 2}
    for stream in ("img", "txt"):
        layers = {"attn.qkv": 3, "attn.proj": 1, "mod.lin": 6, "mlp.0": 4, "mlp.2": 1}
        rows |= {f"double_blocks.0.{stream}_{name}": times for name, times in layers.items()}
    rows |= {f"single_blocks.0.{n}": r for n, r in (("linear1", 7), ("linear2", 1))}
    rows["single_blocks.0.modulation.lin"] = 3
    for name in ("time_in", "vector_in", "guidance_in"):
        rows |= {f"{name}.in_layer": 1, f"{name}.out_layer": 1}
    ups = {name: times * model.inner_dim for name, times in rows.items()}
    others = {
        f"{block}.norm.{which}_norm.scale": torch.zeros(1)
        for block in ("double_blocks.0.img_attn", "double_blocks.0.txt_attn", "single_blocks.0")
        for which in ("query", "key")
    }
    narrow = {name: shape[:1] + (1,) * len(shape[1:]) for name, shape in shapes_of(model).items()}
    check_converted(
        OF_FLUX,
        ups | {"final_layer.linear": 64},
        narrow,
        lambda given: convert_flux_transformer_checkpoint_to_diffusers(given | others),
        tmp_path,
    )


def test_originals_names_in_sd3(loaded: Any, tmp_path: Path) -> None:
    model = loaded("sd3")[0].denoiser
    width, last = model.inner_dim, len(model.transformer_blocks) - 1
    rows: dict[str, int] = {"context_embedder": 1, "x_embedder.proj": 1}
    others = {"pos_embed": torch.zeros(1)}
    for number, block in enumerate(model.transformer_blocks):
        dual = block.use_dual_attention
        for part, modulated in (("x", 9 if dual else 6), ("context", 2 if number == last else 6)):
            layers = {"adaLN_modulation.1": modulated, "attn.qkv": 3}
            if modulated > 2:
                layers |= {"attn.proj": 1, "mlp.fc1": 4, "mlp.fc2": 1}
            if modulated == 9:
                layers |= {"attn2.qkv": 3, "attn2.proj": 1}
            stem = f"joint_blocks.{number}.{part}_block"
            rows |= {f"{stem}.{name}": times for name, times in layers.items()}
            norms = ("attn.ln_q", "attn.ln_k", "attn2.ln_q", "attn2.ln_k")
            others |= {
                f"{stem}.{n}.weight": torch.zeros(1) for n in norms if f"{n[:-5]}.qkv" in layers
            }
    rows |= {f"{name}_embedder.mlp.{layer}": 1 for name in "ty" for layer in (0, 2)}
    rows["final_layer.adaLN_modulation.1"] = 2
    ups = {name: times * width for name, times in rows.items()}
    check_converted(
        OF_SD3,
        ups | {"final_layer.linear": len(model.proj_out.weight)},
        shapes_of(model),
        lambda given: convert_sd3_transformer_checkpoint_to_diffusers(given | others),
        tmp_path,
    )


def test_originals_names_in_zimage(loaded: Any, tmp_path: Path) -> None:
    model = loaded("zimage")[0].denoiser
    width, blocks = model.config.dim, ("layers", "noise_refiner", "context_refiner")
    ups = {f"{block}.0.attention.qkv": 3 * width for block in blocks}
    ups |= {f"{block}.0.attention.out": width for block in blocks}
    ups |= {"x_embedder": width, "final_layer.linear": 64, "layers.9.feed_forward.w2": width}
    convert = convert_z_image_transformer_checkpoint_to_diffusers
    check_converted(OF_ZIMAGE, ups, shapes_of(model), convert, tmp_path)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in module.named_parameters()}


def check_converted(
    names: LoraNames,
    ups: dict[str, int],
    shapes: dict[str, tuple[int, ...]],
    convert: Callable[[Tensors], Tensors],
    folder: Path,
) -> None:
    """Of rank 1 and alike for each column: what is added to a weight is some rows of `up`.

    ups: rows by the original's names. convert: diffusers' converter of such checkpoints.
    """

    def converted(drawn: Tensors) -> Tensors:
        biases = {f"{name}.bias": torch.zeros(len(up)) for name, up in drawn.items()}
        found = convert({f"{name}.weight": up for name, up in drawn.items()} | biases)
        return {name: up for name, up in found.items() if name in shapes and up.ndim > 1}

    numbers = {
        name: torch.full((rows, 1), number) for number, (name, rows) in enumerate(ups.items())
    }
    columns = {int(up[0, 0]): shapes[name][1:] for name, up in converted(numbers).items()}
    generator, tensors = torch.Generator().manual_seed(0), {}
    drawn = {name: torch.randn(rows, 1, generator=generator) for name, rows in ups.items()}
    for number, (name, up) in enumerate(drawn.items()):
        stem = f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{stem}.lora_up.weight"] = up.reshape(len(up), *(1 for _ in columns[number]))
        tensors[f"{stem}.lora_down.weight"] = torch.ones(1, *columns[number])
    save_file(tensors, folder / "a.safetensors")
    found = read_lora(names, folder / "a.safetensors", {"transformer": shapes})
    changed = {layer.weight: layer.change().flatten(1)[:, :1] for layer in found}
    expected = converted(drawn)
    assert changed.keys() == expected.keys()
    for name, up in expected.items():
        torch.testing.assert_close(changed[name], up)


PAIRS = [("flux", "sd3"), ("sd3", "qwen"), ("qwen", "flux"), ("flux", "zimage")]


@pytest.mark.parametrize(("made_for", "family"), PAIRS)
def test_one_of_another_family_is_refused(
    made_for: str, family: str, loaded: Any, tmp_path: Path
) -> None:
    layers = layers_of(loaded(made_for)[0].denoiser, ENDS[made_for], "transformer.")
    path = tmp_path / "a.safetensors"
    save_file(factors(layers), path)
    with pytest.raises(CnctlError, match=r"fit nothing in this base|the weight is") as caught:
        check_fit(loaded(family)[0], [str(path)], [])
    assert "made for this family of bases" in caught.value.hint


def test_a_layer_that_is_there_twice_is_refused(loaded: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    layers = {"layers.0.attention.qkv": (32, 96), "layers.0.attention.to_q": (32, 32)}
    save_file(factors(layers), path)
    with pytest.raises(CnctlError, match=r"layers\.0\.attention\.to_q twice"):
        check_fit(loaded("zimage")[0], [str(path)], [])
