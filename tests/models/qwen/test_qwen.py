"""Qwen-Image: schedule, guidance, prompts of different lengths, files, refusals."""

import json
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, QwenImageControlNetInpaintPipeline, QwenImageControlNetModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from cnctl.commands.info import info
from cnctl.commands.shared.weights import NamedControl, check_controls
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.families import read_family
from cnctl.models.prompts import describe_length, encode_prompts
from cnctl.models.qwen.controlnet import build_controlnet
from cnctl.models.qwen.format import FORMAT, complete_config, read_architecture
from cnctl.models.qwen.guidance import guide
from cnctl.models.transformer.weights import open_network
from cnctl.registry import get_condition
from cnctl.sampling.denoise import denoise, draw_noise
from cnctl.sampling.schedulers import build_scheduler, set_timesteps


def test_the_schedule_ends_at_its_terminal(qwen_base: Base) -> None:
    """Shifted by size, then stretched so that the last σ is 0.02."""
    schedule = build_scheduler(qwen_base, "flow_match_euler")
    timesteps = set_timesteps(schedule, 4, qwen_base.process, tokens=256)
    sigma = 1 / (1 + np.exp(-0.5) * (1 / np.linspace(1, 0.25, 4) - 1))
    expected = 1000 * (1 - (1 - sigma) * (1 - 0.02) / (1 - sigma[-1]))
    torch.testing.assert_close(timesteps, torch.tensor(expected, dtype=torch.float32))
    one = set_timesteps(
        build_scheduler(qwen_base, "flow_match_euler"), 1, qwen_base.process, tokens=256
    )
    assert one.tolist() == [1000]


def test_guidance_keeps_the_length_of_each_token() -> None:
    random = torch.Generator().manual_seed(0)
    without, with_prompt = torch.randn(2, 1, 16, 4, 6, generator=random)
    guided = guide(without, with_prompt, 4.0)

    def lengths(latents: torch.Tensor) -> torch.Tensor:
        cells = latents.unfold(2, 2, 2).unfold(3, 2, 2)  # 2x2 latents of all channels
        return cells.square().sum((1, 4, 5)).sqrt()

    torch.testing.assert_close(lengths(guided), lengths(with_prompt))
    plain = without + 4 * (with_prompt - without)
    torch.testing.assert_close(guided / guided.norm(), guided / guided.norm())
    assert torch.allclose(
        guided[..., :2, :2] / guided[..., :2, :2].norm(),
        plain[..., :2, :2] / plain[..., :2, :2].norm(),
    )


def test_a_short_prompt_beside_a_long_one_is_the_same(qwen_base: Base) -> None:
    """Padding is masked: neither network sees it."""
    text = encode_prompts(qwen_base, ["a cat", "a very long prompt of many words"])
    assert text.mask is not None
    assert text.mask.sum(1).tolist() == [
        len(encode_prompts(qwen_base, ["a cat"]).tokens[0]),
        text.tokens.shape[1],
    ]
    latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    predict, time = qwen_base.family.predict, torch.tensor(500.0)
    with torch.no_grad():
        both = predict(qwen_base.denoiser, latents.expand(2, -1, -1, -1), time, text, None)
        alone = predict(
            qwen_base.denoiser, latents, time, encode_prompts(qwen_base, ["a cat"]), None
        )
    torch.testing.assert_close(both[:1], alone, rtol=1e-5, atol=1e-5)


def test_a_long_prompt_is_reported(qwen_base: Base) -> None:
    assert describe_length(qwen_base, "a cat") == ""
    assert "reads the first 1024 of 2000 tokens" in describe_length(qwen_base, "a" * 2000)


def test_a_config_follows_from_the_shapes_at_true_size() -> None:
    """InstantX's union has 3.54 GB in bfloat16."""
    with torch.device("meta"):
        network = QwenImageControlNetModel(num_layers=5)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = complete_config({}, read_architecture(shapes))
    expected = {name: v for name, v in network.config.items() if not name.startswith("_")}
    expected["axes_dims_rope"] = [16, 56, 56]
    assert found == expected | {"_class_name": "QwenImageControlNetModel"}
    assert round(sum(map(prod, shapes.values())) / 1e9, 2) == 1.77


def test_layers_are_five_or_half(qwen_base: Base) -> None:
    assert build_controlnet(qwen_base.denoiser).residual_count == 1
    assert build_controlnet(qwen_base.denoiser, layers=3).residual_count == 3


def test_inpainting_equals_diffusers_pipeline(
    qwen_base: Base, stock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    assert_same: Callable[[Tensor, Tensor], None],
) -> None:  # fmt: skip
    """InstantX's form: each token of the hint has the mask of its four latents behind it."""
    size = {"height": 64, "width": 80}
    network = random_controlnet(qwen_base, extra_condition_channels=4)
    network.save_pretrained(tmp_path / "x")
    mode = DiagonalGaussianDistribution.mode
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self: mode(self))
    picture = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    filled = torch.zeros(1, 1, 64, 80)
    filled[..., 13:45, 21:63] = 1  # not along the borders of latents
    expected = stock(
        QwenImageControlNetInpaintPipeline, qwen_base, network, "a cat", negative_prompt="a dog",
        control_image=2 * picture - 1, control_mask=filled, num_inference_steps=2,
        true_cfg_scale=4.0, generator=torch.Generator().manual_seed(3), **size,
    )  # fmt: skip
    own = open_network(
        FORMAT, tmp_path / "x", qwen_base, condition="inpaint", hint_channels=3, masked=True
    )
    latents = denoise(
        qwen_base, [Control(own, torch.cat([picture, 1 - filled], dim=1))],
        draw_noise(qwen_base, [torch.Generator().manual_seed(3)], **size),
        text=encode_prompts(qwen_base, ["a cat"]),
        negative_text=encode_prompts(qwen_base, ["a dog"]),
        steps=2, guidance_scale=4.0, scheduler="flow_match_euler",
    )  # fmt: skip
    assert_same(latents, FluxPipeline._unpack_latents(expected, 64, 80, 8))


def random_controlnet(base: Base, **changes: Any) -> QwenImageControlNetModel:
    known = ("in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim")
    config = {name: base.denoiser.config[name] for name in known} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = QwenImageControlNetModel(num_layers=1, axes_dims_rope=(4, 6, 6), **config)
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return network


class TestRefused:
    @pytest.mark.parametrize("field", ["zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"])
    def test_bases_that_read_more_than_latents(
        self, field: str, random_qwen_base: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "edit"
        (folder / "transformer").mkdir(parents=True)
        shutil.copy(random_qwen_base / "model_index.json", folder)
        config = json.loads((random_qwen_base / "transformer" / "config.json").read_text())
        (folder / "transformer" / "config.json").write_text(json.dumps(config | {field: True}))
        with pytest.raises(CnctlError, match="reads more than latents"):
            read_family(folder)

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"joint_attention_dim": 24}, "text width 24; the base has 32"),
            ({"extra_condition_channels": 4}, "reads a mask beside its hint, and these hints"),
            ({"extra_condition_channels": 8}, "reads 8 channels beside its hint, where a mask"),
        ],
    )
    def test_controlnets_that_do_not_fit(
        self, changes: dict[str, Any], what: str, qwen_base: Base, tmp_path: Path
    ) -> None:
        random_controlnet(qwen_base, **changes).save_pretrained(tmp_path / "net")
        named = NamedControl(get_condition("canny"), str(tmp_path / "net"))
        with pytest.raises(CnctlError, match=what):
            check_controls(qwen_base.path, [named])
        assert info(tmp_path / "net").as_dict()["form"] == "diffusers, layers: 1"
