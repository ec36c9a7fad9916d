"""Bases of SD3, and what is refused of them: one sentence each, before weights load."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetPipeline,
)
from diffusers.training_utils import (
    compute_density_for_timestep_sampling,
    compute_loss_weighting_for_sd3,
)
from safetensors.torch import save_file
from transformers import T5EncoderModel

from cnctl.commands.generate import setup
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.weights import NamedControl, check_controls
from cnctl.commands.train.run import TrainRequest, plan_training, train
from cnctl.errors import CnctlError, MissingError
from cnctl.images import read_image, write_image
from cnctl.models.base import Base
from cnctl.models.families import load_base, read_family
from cnctl.models.identify import identify
from cnctl.models.process import FlowMatching
from cnctl.models.prompts import PromptOptions, describe_length, encode_prompts, most_clip_skip
from cnctl.models.published import BASES, published_controlnets, short_name
from cnctl.models.signatures import BASE
from cnctl.registry import get_condition

Write = Callable[..., Path]


@pytest.fixture
def own_sd3_base(random_sd3_base: Path, tmp_path: Path) -> Path:
    """A copy of the random SD3 base that a test may spoil."""
    return Path(shutil.copytree(random_sd3_base, tmp_path / "own"))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"num_attention_heads": 24}, "SD3 medium"),
        ({"num_attention_heads": 24, "qk_norm": "rms_norm"}, "SD3.5 medium"),
        ({"num_attention_heads": 38, "qk_norm": "rms_norm"}, "SD3.5 large"),
    ],
)
def test_published_families_by_their_configs(
    config: dict[str, Any], name: str, tmp_path: Path
) -> None:
    (tmp_path / "transformer").mkdir()
    index = {"transformer": ["diffusers", "SD3Transformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config))
    family = read_family(tmp_path)
    assert (family.name, family.defaults["scheduler"]) == (name, "flow_match_euler")
    assert all(one.family == name for some in family.controlnets.values() for one in some)
    assert name in {base.family for base in BASES.values()}


def test_published_controlnets_have_short_names() -> None:
    names = {short_name(one.source) for one in published_controlnets("canny")}
    assert {"sd3_canny", "sd35m_canny", "sd35l_canny"} <= names
    assert {short_name(one.source) for one in published_controlnets("inpaint")} >= {
        "sd3_inpainting",
        "qwen_inpainting",
    }


def test_without_t5_its_tokens_are_zeros_as_in_diffusers(own_sd3_base: Path, stock_of: Any) -> None:
    shutil.rmtree(own_sd3_base / "text_encoder_3")
    nothing = [None, None]
    change_json(own_sd3_base / "model_index.json", text_encoder_3=nothing, tokenizer_3=nothing)
    base = load_base(own_sd3_base)
    pipeline = stock_of(StableDiffusion3ControlNetPipeline, base, None)
    with torch.no_grad():
        tokens, _, pooled, _ = pipeline.encode_prompt(["a cat"], None, None, device="cpu")
    found = encode_prompts(base, ["a cat"])
    torch.testing.assert_close(found.tokens, tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-5, atol=1e-6)
    assert not found.tokens[:, 77:].any()


def in_parts(folder: Path, kind: Any) -> list[Path]:
    """Write the weights in this folder again, in several files; these."""
    model = kind.from_pretrained(folder)
    next(folder.glob("*.safetensors")).unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    return sorted(folder.glob("*-of-*.safetensors"))


def test_weights_in_parts_are_read(own_sd3_base: Path, loaded_sd3_base: Base) -> None:
    """As the transformer and T5 of the published bases are."""
    in_parts(own_sd3_base / "transformer", SD3Transformer2DModel)
    assert len(in_parts(own_sd3_base / "text_encoder_3", T5EncoderModel)) > 1
    row = identify(own_sd3_base, BASE)
    assert row
    assert row.what == "a base of Stable Diffusion 3"
    base = load_base(own_sd3_base)
    assert_same(base.denoiser, loaded_sd3_base.denoiser)
    assert_same(base.text_encoders[2].model, loaded_sd3_base.text_encoders[2].model)


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_missing_part_is_named_before_any_is_read(own_sd3_base: Path) -> None:
    (own_sd3_base / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"cannot be read")
    *_, last = in_parts(own_sd3_base / "text_encoder_3", T5EncoderModel)
    last.unlink()
    with pytest.raises(MissingError, match=f"text_encoder_3 lacks 1 of .*: {last.name}$"):
        load_base(own_sd3_base)


def test_clip_skip_is_that_of_diffusers(loaded_sd3_base: Base, stock_of: Any) -> None:
    """It counts from 0 where the web interfaces count from 1."""
    pipeline = stock_of(StableDiffusion3ControlNetPipeline, loaded_sd3_base, None)
    with torch.no_grad():
        tokens, *_ = pipeline.encode_prompt(["a cat"], None, None, device="cpu", clip_skip=0)
    found = encode_prompts(loaded_sd3_base, ["a cat"], options=PromptOptions(clip_skip=1))
    torch.testing.assert_close(found.tokens, tokens, rtol=1e-5, atol=1e-6)
    assert most_clip_skip(loaded_sd3_base) == 1


def test_a_long_prompt_is_said_in_one_line(loaded_sd3_base: Base) -> None:
    assert describe_length(loaded_sd3_base, "a cat") == ""
    assert describe_length(loaded_sd3_base, "a cat " * 20) == (
        "the prompt is long: of random-sd3's text encoders CLIP reads the first 75 of 80 tokens "
        "and T5 reads all of it"
    )


def test_densities_of_timesteps() -> None:
    """Undone is the shift: the logit is normal, or the time uniform, or as diffusers draws it."""
    process = FlowMatching(FlowMatchEulerDiscreteScheduler(shift=3.0))
    generator = torch.Generator().manual_seed(0)

    def draw(density: str) -> torch.Tensor:
        drawn = [process.draw_timestep(generator, density=density) for _ in range(4000)]
        sigma = torch.cat(drawn) / 1000
        return sigma / (3 - 2 * sigma)

    logits = torch.logit(draw("logit_normal"))
    assert logits.mean().abs() < 0.05
    assert abs(logits.std() - 1) < 0.05
    quarters = torch.histc(draw("uniform"), bins=4, min=0, max=1) / 4000
    assert (quarters - 0.25).abs().max() < 0.03
    theirs = compute_density_for_timestep_sampling("mode", 4000, mode_scale=1.29)
    quantiles = torch.linspace(0.05, 0.95, 10)
    found, expected = (torch.quantile(drawn, quantiles) for drawn in (draw("mode"), theirs))
    assert (found - expected).abs().max() < 0.03


@pytest.mark.parametrize("weighting", ["none", "cosmap", "sigma_sqrt"])
def test_weights_of_timesteps_are_those_of_diffusers(weighting: str, loaded_sd3_base: Base) -> None:
    process = FlowMatching(FlowMatchEulerDiscreteScheduler(shift=3.0))
    timesteps = torch.tensor([20.0, 500.0, 1000.0])
    expected = compute_loss_weighting_for_sd3(weighting, timesteps / 1000)
    torch.testing.assert_close(process.weights(timesteps, weighting), expected)
    assert weighting in process.weightings
    assert loaded_sd3_base.process.weightings == process.weightings


def test_inpainting_reads_the_mask_of_generate(
    write_controlnet: Write, random_sd3_base: Path, tmp_path: Path
) -> None:
    """Another mask gives another image."""
    picture = np.full((64, 64, 3), 40, np.uint8)
    folder = write_controlnet(tmp_path / "net", extra_conditioning_channels=1)
    made = []
    for count in (16, 48):
        hint = np.dstack([picture, np.full((64, 64), 255, np.uint8)])
        hint[:count, :, 3] = 0
        write_image(tmp_path / f"{count}.png", hint)
        request = GenerateRequest(
            controls=["inpaint"], images=[tmp_path / f"{count}.png"], base=str(random_sd3_base),
            ready_hint=True, weights=[str(folder)], prompt="a", out=tmp_path / "o",
            settings={"steps": 1},
        )  # fmt: skip
        [image] = generate(request)
        made.append(read_image(image.path))
    assert (made[0] != made[1]).any()


class TestRefused:
    def test_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "sd3.safetensors"
        name = "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"
        save_file({name: torch.ones(2)}, path)
        with pytest.raises(MissingError, match="lacks tokenizers, configs and a noise schedule"):
            read_family(path)

    def test_a_schedule_that_shifts_by_size(self, own_sd3_base: Path) -> None:
        change_json(own_sd3_base / "scheduler" / "scheduler_config.json", use_dynamic_shifting=True)
        with pytest.raises(CnctlError, match="has a noise schedule that its family does not use"):
            load_base(own_sd3_base, weights=False)

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"num_attention_heads": 4, "caption_projection_dim": 32}, "4 heads of width 8; the"),
            ({"in_channels": 8}, "latent channels 8, not 16"),
            ({"pooled_projection_dim": 24}, "pooled width 24, not 64"),
            ({"qk_norm": None, "dual_attention_layers": ()}, "made for SD3 with 2 heads"),
            ({"extra_conditioning_channels": 1}, "reads a mask beside its hint, and these hints"),
            ({"extra_conditioning_channels": 2}, "reads 2 channels beside its hint, where a mask"),
        ],
    )
    def test_a_controlnet_of_other_shapes(
        self, changes: dict[str, Any], what: str, write_controlnet: Write, random_sd3_base: Path,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        folder = write_controlnet(tmp_path / "x", **changes)
        with pytest.raises(CnctlError, match=what):
            check_controls(random_sd3_base, [NamedControl(get_condition("canny"), str(folder))])

    def test_a_controlnet_of_another_family(
        self, random_controlnet: Any, random_sd3_base: Path, tmp_path: Path
    ) -> None:
        random_controlnet.save(tmp_path / "x", description={})
        with pytest.raises(CnctlError, match="made for another family; the base is SD3"):
            check_controls(
                random_sd3_base, [NamedControl(get_condition("canny"), str(tmp_path / "x"))]
            )

    @pytest.mark.parametrize(
        ("asked", "what"),
        [
            ({"size": (72, 64)}, "72x64 pixels cannot be generated"),
            ({"size": (320, 64)}, "320x64 pixels cannot be generated"),
            ({"settings": {"emphasis": True}}, "--emphasis is not supported on random-sd3"),
            ({"settings": {"scheduler": "ddim"}}, "'ddim' does not suit random-sd3"),
            ({"settings": {"clip_skip": 2}}, "--clip-skip is not supported on random-sd3"),
            ({"loras": ["x.safetensors"]}, "1 of 1 tensors fit nothing in this base"),
        ],
    )
    def test_by_generate(
        self, asked: dict[str, Any], what: str, write_controlnet: Write, random_sd3_base: Path,
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        save_file({"lora_te_x.lora_down.weight": torch.ones(1, 1)}, "x.safetensors")
        write_image(Path("x.png"), np.full((64, 64, 3), 40, np.uint8))
        given = {"settings": {"steps": 1}} | asked
        request = GenerateRequest(
            controls=["canny"], images=[Path("x.png")], base=str(random_sd3_base), ready_hint=True,
            weights=[str(write_controlnet(tmp_path / "net"))], prompt="a", out=tmp_path / "o",
            **given,
        )  # fmt: skip
        with pytest.raises(CnctlError, match=what):
            list(generate(request))

    def test_before_weights_are_read(
        self, own_sd3_base: Path, write_controlnet: Write, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        for weights in own_sd3_base.glob("*/*.safetensors"):
            weights.unlink()
        write_image(tmp_path / "x.png", np.full((64, 64, 3), 40, np.uint8))
        request = GenerateRequest(
            controls=["canny"], images=[tmp_path / "x.png"], base=str(own_sd3_base), prompt="a",
            weights=[str(write_controlnet(tmp_path / "net"))], out=tmp_path / "o", size=(72, 64),
        )  # fmt: skip
        with pytest.raises(CnctlError, match="72x64 pixels cannot be generated") as caught:
            list(generate(request))
        assert caught.value.hint == "width and height must be multiples of 16"
        monkeypatch.setattr(setup, "LARGE", -1)
        with pytest.raises(CnctlError, match="--emphasis is not supported"):
            list(generate(replace(request, size=None, settings={"emphasis": True})))
        asked = TrainRequest(
            condition="canny", data="scenes:12", base=str(own_sd3_base),
            settings={"resolution": 64, "layers": 4},
        )  # fmt: skip
        with pytest.raises(CnctlError, match="--layers is 4; it must be at most 3"):
            train(asked, tmp_path / "run")

    @pytest.mark.parametrize(
        ("settings", "what"),
        [
            ({"connect": "middle"}, "--connect is not supported .* no middle block"),
            ({"method": "input-concat"}, "--method is not supported"),
            ({"hint_encoder": "paper"}, "--hint-encoder is not supported"),
            ({"hint_start": "torch"}, "--hint-start is torch; it must be gaussian or zero"),
            ({"layers": 4}, "--layers is 4; it must be at most 3"),
            ({"resolution": 72}, "--resolution is 72; it must be a multiple of 16"),
            ({"resolution": 512}, "--resolution is 512; it must be at most 256"),
            ({"unfreeze_after": 1}, "--unfreeze is decoder; it must be all"),
        ],
    )
    def test_by_train(
        self, settings: dict[str, Any], what: str, random_sd3_base: Path, tmp_path: Path
    ) -> None:
        request = TrainRequest(
            condition="canny", data="scenes:12", base=str(random_sd3_base),
            settings={"resolution": 64, "batch_size": 1, **settings},
        )  # fmt: skip
        with pytest.raises(CnctlError, match=what):
            plan_training(request, tmp_path / "run")


def test_the_plan_counts_the_layers_that_are_asked_for(
    random_sd3_base: Path, tmp_path: Path
) -> None:
    def plan(**settings: Any) -> Any:
        request = TrainRequest(
            condition="canny", data="scenes:12", base=str(random_sd3_base),
            settings={"resolution": 64, "batch_size": 1, **settings},
        )  # fmt: skip
        return plan_training(request, tmp_path / "run")

    two, three = plan(), plan(layers=3)
    assert two.parameters == plan(layers=2).parameters < three.parameters
    assert two.settings.timestep_density == "logit_normal"
    assert plan(timestep_density="uniform").settings.timestep_density == "uniform"
