"""LoRAs of FLUX.1 that read hints, as black-forest-labs publishes them, held to diffusers."""

import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxControlPipeline
from diffusers.loaders import lora_conversion_utils, lora_pipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import load_file, save_file
from torch import Tensor

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.info import info
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.prompts import encode_prompts
from cnctl.sampling.denoise import denoise, draw_noise
from cnctl.tensorfiles.listing import WEIGHTS

SIZE = {"height": 64, "width": 80}
WIDTH, TEXT, POOLED, HEAD, RANK = 32, 64, 32, 16, 4
REDUCED = {19: 3, 38: 2, 3072: WIDTH}
"""Numbers in diffusers' converter, and those of the random base."""
LAST = "final_layer.adaLN_modulation.1.lora_A.weight"


def layers() -> dict[str, tuple[int, int]]:
    """Linear layers of the original -> (out, in)."""
    own: dict[str, tuple[int, int]] = {"img_in": (WIDTH, 128), "txt_in": (WIDTH, TEXT)}
    for name, reads in (("time_in", 256), ("vector_in", POOLED), ("guidance_in", 256)):
        own |= {f"{name}.in_layer": (WIDTH, reads), f"{name}.out_layer": (WIDTH, WIDTH)}
    for i in range(3):
        for stream in ("img", "txt"):
            stem = f"double_blocks.{i}.{stream}"
            own |= {
                f"{stem}_mod.lin": (6 * WIDTH, WIDTH),
                f"{stem}_attn.qkv": (3 * WIDTH, WIDTH),
                f"{stem}_attn.proj": (WIDTH, WIDTH),
                f"{stem}_mlp.0": (4 * WIDTH, WIDTH),
                f"{stem}_mlp.2": (WIDTH, 4 * WIDTH),
            }
    for i in range(2):
        stem = f"single_blocks.{i}"
        own |= {
            f"{stem}.modulation.lin": (3 * WIDTH, WIDTH),
            f"{stem}.linear1": (7 * WIDTH, WIDTH),
            f"{stem}.linear2": (WIDTH, 5 * WIDTH),
        }
    last = {"final_layer.linear": (64, WIDTH), "final_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH)}
    return own | last


def published() -> dict[str, Tensor]:
    """Random tensors under the names of flux1-canny-dev-lora.safetensors; the last rank is less."""
    random = torch.Generator().manual_seed(0)
    tensors = {}
    for name, (rows, columns) in layers().items():
        rank = RANK - 1 if name == "final_layer.linear" else RANK
        tensors |= {
            f"{name}.lora_A.weight": torch.randn(rank, columns, generator=random) / columns**0.5,
            f"{name}.lora_B.weight": 0.3 * torch.randn(rows, rank, generator=random),
            f"{name}.lora_B.bias": 0.1 * torch.randn(rows, generator=random),
        }
    streams = [f"double_blocks.{i}.{stream}_attn" for i in range(3) for stream in ("img", "txt")]
    for stem in (*streams, "single_blocks.0", "single_blocks.1"):
        for norm in ("query_norm", "key_norm"):
            tensors[f"{stem}.norm.{norm}.scale"] = 1 + 0.3 * torch.randn(HEAD, generator=random)
    return tensors


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "flux1-canny-dev-lora.safetensors"
    save_file(published(), path)
    return path


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))


def made(base: Base, source: Path, hint: Tensor) -> Tensor:
    base.family.check_weights(source, location(base), condition="canny", hint_channels=3)
    network = base.family.open_network(source, base, condition="canny", hint_channels=3)
    own, controls = network.attach(base, hint)
    assert not controls
    noise = draw_noise(base, [torch.Generator().manual_seed(3)], **SIZE)
    return denoise(
        own, controls, noise, text=encode_prompts(base, ["a cat"]), steps=2,
        scheduler="flow_match_euler", distilled_guidance=3.5,
    )  # fmt: skip


def location(base: Base) -> Any:
    return types.SimpleNamespace(path=base.path, name=base.name)


def converter() -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Diffusers' own, for the layers and the width of the random base."""
    theirs = lora_conversion_utils._convert_bfl_flux_control_lora_to_diffusers
    numbers = tuple(
        REDUCED.get(one, one) if type(one) is int else one for one in theirs.__code__.co_consts
    )
    return types.FunctionType(theirs.__code__.replace(co_consts=numbers), theirs.__globals__)


def for_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """It exchanges the halves of the last layer's ranks too, which is undone here."""
    first, second = tensors[LAST].chunk(2)
    return {**tensors, LAST: torch.cat([second, first])}


def test_generates_what_diffusers_own_pipeline_does_with_its_own_loader(
    flux_base: Base, file: Path, hint: Tensor, tmp_path: Path, stock_of: Any,
    random_flux_base: Path, assert_same: Callable[[Tensor, Tensor], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Diffusers draws the latents of hints; cnctl takes their mode."""
    mode = DiagonalGaussianDistribution.mode
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, **_: mode(self))
    name = "_convert_bfl_flux_control_lora_to_diffusers"
    monkeypatch.setattr(lora_pipeline, name, converter())
    stock = stock_of(FluxControlPipeline, load_base(random_flux_base), None)
    stock.load_lora_weights(for_diffusers(published()))
    expected = stock(
        "a cat", control_image=2 * hint - 1, num_inference_steps=2, guidance_scale=3.5,
        generator=torch.Generator().manual_seed(3), output_type="latent", **SIZE,
    ).images  # fmt: skip
    latents = made(flux_base, file, hint)
    assert_same(latents, FluxControlPipeline._unpack_latents(expected, 64, 80, 8))


def test_info_names_it(file: Path) -> None:
    found = info(file).as_dict()
    assert "reads a hint" in found["form"]
    known = (found["family"], found["condition"], found["rank"])
    assert known == ("FLUX.1", "canny (by its name)", RANK)
    assert "--distilled-guidance 30" in " ".join(found["notes"])


def test_converts_to_what_diffusers_own_converter_makes(
    flux_base: Base, file: Path, tmp_path: Path
) -> None:
    convert(ConvertRequest(sources=[file], target=tmp_path / "net", verify=True))
    assert opened(flux_base, tmp_path / "net").keys() == opened(flux_base, file).keys()
    written = load_file(tmp_path / "net" / WEIGHTS)
    theirs = converter()(for_diffusers(published()))
    assert written.keys() == theirs.keys()
    assert all(torch.equal(written[name], theirs[name]) for name in theirs)


def opened(base: Base, source: Path) -> dict[str, Tensor]:
    network = base.family.open_network(source, base, condition="canny", hint_channels=3)
    return network.state_dict()


def test_a_file_of_diffusers_script_is_read_with_the_scale_in_its_metadata(
    flux_base: Base, tmp_path: Path
) -> None:
    """Some layers, without biases and norms."""
    layers = ("x_embedder", "attn.to_q", "ff.net.2")
    factors = tuple(f"{layer}.lora_{factor}.weight" for layer in layers for factor in "AB")
    tensors = converter()(for_diffusers(published()))
    some = {name: tensor for name, tensor in tensors.items() if name.endswith(factors)}
    said = {"transformer.lora_alpha": 2 * RANK, "transformer.r": RANK}
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(some, path, metadata={"lora_adapter_metadata": json.dumps(said)})
    network = opened(flux_base, path)
    assert sum(".lora_" in name for name in network) == len(some)
    first = published()
    assert torch.equal(network["x_embedder.lora_A"], first["img_in.lora_A.weight"])
    assert torch.equal(network["x_embedder.lora_B"], 2 * first["img_in.lora_B.weight"])


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"txt_in.lora_A.weight": (RANK, 8)}, "made for a base with text width 8"),
        ({"img_in.lora_B.weight": None}, "img_in.lora_B.weight is missing"),
        (
            {"double_blocks.0.img_attn.qkv.lora_B.weight": (5, RANK)},
            "is .5, 4., and the base has 96",
        ),
        ({"double_blocks.0.img_mlp.0.lora_B.weight": None}, "missing: .*ff.net.0.proj.lora_B"),
        ({"single_blocks.0.other.lora_A.weight": (RANK, 8)}, "unknown: single_blocks.0.other"),
    ],
)
def test_refused(
    flux_base: Base, tmp_path: Path, changed: dict[str, tuple[int, ...] | None], why: str
) -> None:
    tensors = published()
    for name, shape in changed.items():
        tensors.pop(name, None)
        tensors |= {name: torch.zeros(shape)} if shape else {}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(CnctlError, match=why):
        opened(flux_base, tmp_path / "x.safetensors")
