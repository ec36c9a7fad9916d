"""Blockwise ControlNets of Qwen-Image against DiffSynth's forward pass, written out plainly."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.generate import setup
from cnctl.commands.generate.dry_run import plan_generation
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.info import info
from cnctl.commands.shared.events import Loading
from cnctl.commands.shared.weights import NamedControl, check_controls, open_control
from cnctl.errors import CnctlError
from cnctl.images import write_image
from cnctl.models.base import Base
from cnctl.models.compiling import compile_blocks
from cnctl.models.control import FADE, Control, ControlRunner
from cnctl.models.families import load_base
from cnctl.models.network import Network
from cnctl.models.offload import move_layers
from cnctl.models.prompts import encode_prompts
from cnctl.models.qwen.blockwise import QwenBlockwiseControlNet
from cnctl.models.qwen.blockwise_format import expected_shapes, read_architecture
from cnctl.models.qwen.controlnet import build_controlnet
from cnctl.models.text_features import join
from cnctl.registry import get_condition
from cnctl.sampling.denoise import sample

HEIGHT, WIDTH = 64, 80
HOW: Any = {"seeds": [1], "height": HEIGHT, "width": WIDTH, "scheduler": "flow_match_euler"}
TIME = torch.tensor(500.0)


def published_shapes(*, width: int, blocks: int, extra: int) -> dict[str, tuple[int, ...]]:
    """DiffSynth's names."""
    shapes = {"img_in.weight": (width, 64 + extra), "img_in.bias": (width,)}
    for number in range(blocks):
        stem = f"controlnet_blocks.{number}."
        for layer in ("input_proj", "output_proj"):
            shapes |= {f"{stem}{layer}.weight": (width, width), f"{stem}{layer}.bias": (width,)}
        shapes |= {f"{stem}{norm}.weight": (width,) for norm in ("x_rms", "y_rms")}
    return shapes


def published(seed: int = 1, *, width: int = 32, blocks: int = 3, extra: int = 0) -> dict[str, Any]:
    """Random tensors."""
    random = torch.Generator().manual_seed(seed)
    shapes = published_shapes(width=width, blocks=blocks, extra=extra)
    return {name: torch.randn(shape, generator=random) / 5 for name, shape in shapes.items()}


def built(weights: Mapping[str, Tensor]) -> Network:
    network = QwenBlockwiseControlNet(**read_architecture({n: t.shape for n, t in weights.items()}))
    network.load_state_dict(weights)
    return network.eval()


def packed(latents: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(latents, *latents.shape)


def encoded(base: Base, pixels: Tensor) -> Tensor:
    """As diffusers' pipelines encode images, in [-1, 1]."""
    config = base.vae.config
    mean, deviation = (
        torch.tensor(one).view(1, -1, 1, 1, 1) for one in (config.latents_mean, config.latents_std)
    )
    moments = base.vae.encode(pixels.unsqueeze(2)).latent_dist
    return ((moments.mode() - mean) / deviation).squeeze(2)


def control_block(weights: Mapping[str, Tensor], number: int, tokens: Tensor, y: Tensor) -> Tensor:
    """`BlockWiseControlBlock` of DiffSynth."""

    def rms(x: Tensor, norm: str) -> Tensor:
        variance = x.square().mean(-1, keepdim=True)
        return x * torch.rsqrt(variance + 1e-6) * own[f"{norm}.weight"]

    stem = f"controlnet_blocks.{number}."
    own = {n.removeprefix(stem): tensor for n, tensor in weights.items() if n.startswith(stem)}
    mixed = rms(tokens, "x_rms") + rms(y, "y_rms")
    mixed = F.gelu(mixed @ own["input_proj.weight"].T + own["input_proj.bias"])
    return mixed @ own["output_proj.weight"].T + own["output_proj.bias"]


def forward(base: Base, latents: Tensor, prompt: str, add: Callable[[int, Tensor], Any]) -> Tensor:
    """`model_fn_qwen_image` of DiffSynth over the base's layers; add(block, tokens): residual."""
    net, text = base.denoiser, encode_prompts(base, [prompt] * len(latents))
    rows, columns = (side // 2 for side in latents.shape[2:])
    tokens, words = net.img_in(packed(latents)), net.txt_in(net.txt_norm(text.tokens))
    time = net.time_text_embed((TIME / 1000).expand(len(latents)), tokens)
    shapes = [(1, rows, columns)] * len(latents)
    rotary = net.pos_embed(shapes, max_txt_seq_len=words.shape[1], device=tokens.device)
    for number, block in enumerate(net.transformer_blocks):
        words, tokens = block(tokens, words, None, time, rotary)
        tokens = tokens + add(number, tokens)
    tokens = net.proj_out(net.norm_out(tokens, time))
    return FluxPipeline._unpack_latents(tokens, HEIGHT, WIDTH, 8)


@pytest.fixture
def hint() -> Tensor:
    """With a mask behind it, 1 where it is kept."""
    colours = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    kept = torch.ones(1, 1, HEIGHT, WIDTH)
    kept[..., 13:45, 21:63] = 0
    return torch.cat([colours, kept], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["balanced", "control"])
def test_it_equals_diffsynth(mode: str, qwen_base: Base, hint: Tensor) -> None:
    """Two of them beside an ordinary one, with every factor, in both halves of two images."""
    plain, masked = published(1), published(2, extra=4)
    copy = build_controlnet(qwen_base.denoiser)
    torch.nn.init.normal_(copy.controlnet_blocks[0].weight, std=0.1)
    region = torch.zeros(1, 1, HEIGHT, WIDTH)
    region[..., :32] = 1
    two = torch.cat([hint[:, :3], hint[:, :3].flip(3)])
    own = Control(built(plain), two, scale=0.7, mode=mode, region=region, residual_scales=(1, 0, 2))
    controls = [
        own,
        Control(built(masked), hint, scale=0.5),
        Control(copy, hint[:, :3], scale=0.3),
    ]
    runner = ControlRunner(qwen_base, controls, steps=2, guided=True)
    latents = torch.randn(2, 16, 8, 10, generator=torch.Generator().manual_seed(3))
    text = encode_prompts(qwen_base, ["a cat", "a cat"])
    both = join([encode_prompts(qwen_base, ["", ""]), text])
    given = torch.cat([latents, latents])
    residuals = runner.residuals(0, given, TIME, both, guided=True)
    found = qwen_base.family.predict(qwen_base.denoiser, given, TIME, both, residuals)

    y = packed(encoded(qwen_base, 2 * two - 1)) @ plain["img_in.weight"].T + plain["img_in.bias"]
    black = (2 * hint[:, :3] - 1).masked_fill(hint[:, 3:] == 0, -1)
    small = F.interpolate(hint[:, 3:], (8, 10))
    with_mask = packed(torch.cat([encoded(qwen_base, black), small], dim=1))
    z = with_mask @ masked["img_in.weight"].T + masked["img_in.bias"]
    [known] = copy.residuals(
        qwen_base, latents, TIME, text, copy.encode_hint(qwen_base, hint[:, :3])
    ).tensors
    left = (torch.arange(4 * 5) % 5 < 2).float().view(1, -1, 1)
    faded = (1, 1, 1) if mode == "balanced" else (FADE**2, FADE, 1)
    factors = [0.7 * scale * fade for scale, fade in zip((1, 0, 2), faded, strict=True)]

    def add(number: int, tokens: Tensor, *, prompted: bool) -> Tensor:
        first = factors[number] * left * control_block(plain, number, tokens, y)
        second = 0.5 * control_block(masked, number, tokens, z)
        return (first if prompted or mode == "balanced" else 0) + second + 0.3 * known

    for half, prompt in zip(found.chunk(2), ("", "a cat"), strict=True):
        expected = forward(qwen_base, latents, prompt, partial(add, prompted=bool(prompt)))
        torch.testing.assert_close(half, expected, rtol=1e-5, atol=1e-5)
        alone = forward(qwen_base, latents, prompt, lambda *at: torch.zeros(()))
        assert (alone - expected).abs().max() > 1e-2


def test_scale_0_is_no_control_and_no_step_is_left_out(qwen_base: Base, hint: Tensor) -> None:
    network = built(published())
    silent, none = ([Control(network, hint[:, :3], scale=0.0)], [])
    one, other = (
        sample(qwen_base, controls, ["a cat"], steps=1, **HOW) for controls in (silent, none)
    )
    assert (one == other).all()
    with pytest.raises(CnctlError, match="a blockwise ControlNet runs in each step"):
        sample(qwen_base, silent, ["a cat"], control_every=2, **HOW)


@pytest.mark.slow
def test_compiled_blocks_and_moving_layers_change_nothing(
    random_qwen_base: Path, hint: Tensor
) -> None:
    base, network = load_base(random_qwen_base), built(published())
    controls = [Control(network, hint[:, :3])]
    expected = sample(base, controls, ["a cat"], steps=2, **HOW)
    for one in (base.denoiser, network):
        move_layers(one, torch.device("cpu"))
    assert (sample(base, controls, ["a cat"], steps=2, **HOW) == expected).all()
    base, network = load_base(random_qwen_base), built(published())
    for one in (base.denoiser, network):
        compile_blocks(one, base.family, backend="aot_eager")
    controls = [Control(network, hint[:, :3])]
    assert (sample(base, controls, ["a cat"], steps=2, **HOW) == expected).all()
    assert all(block._compiled_call_impl for block in network.controlnet_blocks)


@pytest.mark.parametrize(
    ("extra", "digest"),
    [(0, "073bce9cf969e317e5662cd570c3e79c"), (4, "a9e54e480a628f0b956a688a81c33bab")],
)
def test_the_published_files_have_these_tensors(extra: int, digest: str) -> None:
    """DiffSynth knows them by the MD5 of all names and shapes (`hash_state_dict_keys`)."""
    shapes = published_shapes(width=3072, blocks=60, extra=extra)
    architecture = read_architecture(shapes)
    listed = expected_shapes(architecture).items()
    keys = {name + end for name, shape in listed for end in ("", f":{'_'.join(map(str, shape))}")}
    assert hashlib.md5(",".join(sorted(keys)).encode()).hexdigest() == digest


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """As it is fetched: without a config."""
        folder = tmp_path / "Qwen-Image-Blockwise-ControlNet-Canny"
        folder.mkdir()
        save_file(published(), folder / "model.safetensors")
        return folder

    def test_a_folder_or_its_file_is_read_and_converted(
        self, folder: Path, qwen_base: Base, random_qwen_base: Path, tmp_path: Path
    ) -> None:
        for place in (folder, folder / "model.safetensors"):
            found = info(place).as_dict()
            assert found["form"] == "DiffSynth, one block after each of 3 of the base"
            assert (found["condition"], found["tensors"]) == ("canny (by its name)", 20)
        network = open_control(get_condition("canny"), qwen_base, weights=str(folder))
        assert all(torch.equal(t, published()[n]) for n, t in network.state_dict().items())
        copy = tmp_path / "copy.safetensors"
        convert(ConvertRequest(sources=folder, target=copy, dtype="bfloat16"))
        assert info(copy).as_dict()["condition"] == "canny"
        assert torch.equal(load_file(copy)["img_in.bias"], published()["img_in.bias"].bfloat16())
        asked = {"sources": folder, "target": tmp_path / "x.safetensors"}
        base = str(random_qwen_base)
        for how in ({"to": "control-lora", "base": base}, {"from_base": base, "to_base": base}):
            with pytest.raises(CnctlError, match="are not copies of their base"):
                convert(ConvertRequest(**asked, **how))
        with pytest.raises(CnctlError, match=r"'diffusers' is not one of .* \(blockwise\)"):
            convert(ConvertRequest(sources=folder, target=tmp_path / "x", to="diffusers"))

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"blocks": 4}, "blocks 4; the base has 3"),
            ({"width": 16}, "width 16; the base has 32"),
            ({"extra": 4}, "reads a mask beside its hint, and these hints carry none"),
            ({"extra": 3}, "reads 3 channels beside its hint, where a mask has 4"),
        ],
    )
    def test_those_that_do_not_fit_are_refused(
        self, changes: dict[str, int], what: str, random_qwen_base: Path, tmp_path: Path
    ) -> None:
        save_file(published(**changes), tmp_path / "x.safetensors")
        named = NamedControl(get_condition("canny"), str(tmp_path / "x.safetensors"))
        with pytest.raises(CnctlError, match=what):
            check_controls(random_qwen_base, [named])

    def test_every_other_step_is_refused_before_weights_are_read(
        self, folder: Path, random_qwen_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_image(tmp_path / "x.png", np.full((64, 64, 3), 40, np.uint8))
        request = GenerateRequest(
            controls=["canny"], images=[tmp_path / "x.png"], base=str(random_qwen_base), prompt="a",
            weights=[str(folder)], out=tmp_path / "o",
            settings={"control_every": 2, "resolution": 64},
        )  # fmt: skip
        monkeypatch.setattr(setup, "LARGE", -1)
        events: list[Any] = []
        for run in (lambda: list(generate(request, on_event=events.append)),
                    lambda: plan_generation(request, events.append)):  # fmt: skip
            with pytest.raises(CnctlError, match="a blockwise ControlNet runs in each step"):
                run()
        assert not any(isinstance(event, Loading) for event in events)
