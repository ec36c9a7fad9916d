"""Files with the original keys, written here by rules of our own from diffusers' modules.

The rules are section 3.4's of the original implementation's key map; what is read back must be
the same tensors in the same architecture.
"""

import json
import re
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cnctl.core.base import load_base, read_family
from cnctl.core.controlnet import build_controlnet
from cnctl.core.families import family_of
from cnctl.core.single_file import find_prediction_type
from cnctl.core.single_file_configs import read_configs, read_shapes
from cnctl.errors import CnctlError, MissingError

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
VAE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0.conv": "downsample.conv",
    "upsamplers.0.conv": "upsample.conv",
}
OPEN_CLIP = {
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
}


def replace(name: str, rules: dict[str, str]) -> str:
    for ours, theirs in rules.items():
        name = name.replace(ours, theirs)
    return name


def unet_key(name: str) -> str:
    for ours, theirs in UNET.items():
        if name.startswith(ours):
            name = name.replace(ours, theirs)
    if match := re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(?:conv\.)?(.*)", name):
        side, block, kind, layer, rest = match.groups()
        first = 3 * int(block) + (side == "down")
        if kind == "downsamplers":
            return f"input_blocks.{first + 2}.0.op.{rest}"
        if kind == "upsamplers":
            # Behind the attention, where the block has one.
            return f"output_blocks.{first + 2}.{1 if block == '0' else 2}.conv.{rest}"
        part = {"resnets": 0, "attentions": 1}[kind]
        name = name.replace(f"{side}_blocks.{block}.{kind}.{layer}", "{}")
        blocks = {"down": "input_blocks", "up": "output_blocks"}[side]
        name = name.format(f"{blocks}.{first + int(layer)}.{part}")
    is_resnet = re.match(r"(input_blocks|output_blocks)\.\d+\.0|middle_block\.[02]", name)
    return replace(name, RESNET) if is_resnet else name


def vae_key(name: str, levels: int) -> str:
    name = replace(name, VAE)
    name = re.sub(r"down_blocks\.(\d)", r"down.\1", name).replace(".resnets.", ".block.")
    return re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", name)


def original_weights(unet: nn.Module, vae: nn.Module, text: nn.Module) -> dict[str, Tensor]:
    weights = {f"model.diffusion_model.{unet_key(n)}": w for n, w in unet.state_dict().items()}
    for name, weight in vae.state_dict().items():
        is_projection = ".attentions." in name and name.endswith("weight") and weight.ndim == 2
        weight = weight[:, :, None, None] if is_projection else weight
        weights[f"first_stage_model.{vae_key(name, 4)}"] = weight
    flat = {name.removeprefix("text_model."): w for name, w in text.state_dict().items()}
    if text.config.hidden_act == "quick_gelu":
        prefix = "cond_stage_model.transformer.text_model."
        return {**weights, **{f"{prefix}{name}": w for name, w in flat.items()}}
    return {**weights, **open_clip_weights(flat)}


def open_clip_weights(flat: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value in one tensor, and one more layer, which Stable Diffusion skips."""
    prefix, weights = "cond_stage_model.model.", {}
    for name, weight in flat.items():
        if ".q_proj." in name:
            three = [flat[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            name = replace(name, OPEN_CLIP).replace("self_attn.q_proj.", "attn.in_proj_")
            weights[prefix + name] = torch.cat(three)
        elif not re.search(r"\.[kv]_proj\.", name):
            weights[prefix + replace(name, OPEN_CLIP)] = weight
    last = 1 + max(int(n.split(".")[4]) for n in weights if "resblocks" in n)
    again = {n.replace(f".{last - 1}.", f".{last}."): w + 1 for n, w in weights.items()}
    again = {n: w for n, w in again.items() if f"resblocks.{last}." in n}
    return {**weights, **again, f"{prefix}text_projection": torch.ones(64, 64)}


def modules(*, second: bool) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """Small networks of the first or the second version of Stable Diffusion."""
    heads: dict[str, Any] = {"attention_head_dim": 8, "block_out_channels": (32, 32, 64, 64)}
    if second:
        widths = (64, 64, 128, 128)
        heads = {"attention_head_dim": (1, 1, 2, 2), "block_out_channels": widths}
    unet = UNet2DConditionModel(cross_attention_dim=64, use_linear_projection=second, **heads)
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=1,
            hidden_act="gelu" if second else "quick_gelu",
            bos_token_id=512,
            eos_token_id=513,
        )
    )
    return unet.eval(), vae.eval(), text.eval()


@pytest.fixture(params=[False, True], ids=["SD 1.x", "SD 2.x"])
def written(request: pytest.FixtureRequest, tmp_path: Path, random_base: Path) -> tuple:
    torch.manual_seed(0)
    parts = modules(second=request.param)
    path = tmp_path / "model.safetensors"
    weights = original_weights(*parts)
    save_file({name: w.contiguous().clone() for name, w in weights.items()}, path)
    tokenizer = CLIPTokenizer.from_pretrained(random_base / "tokenizer")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    return path, *parts


class TestLoad:
    def test_every_component_is_what_was_written(self, written: tuple) -> None:
        path, unet, vae, text = written
        base = load_base(path)
        for loaded, original in ((base.unet, unet), (base.vae, vae), (base.text_encoder, text)):
            theirs = original.state_dict()
            assert loaded.state_dict().keys() == theirs.keys()
            assert all(torch.equal(v, theirs[n]) for n, v in loaded.state_dict().items())
        given = (torch.randn(1, 4, 8, 8), torch.tensor(5), torch.randn(1, 77, 64))
        tokens = torch.randint(0, 500, (1, 77))
        with torch.no_grad():
            # The number of heads is in no tensor's shape: only what comes out tells.
            close = torch.testing.assert_close
            close(base.unet(*given).sample, unet(*given).sample, rtol=1e-4, atol=1e-5)
            close(base.text_encoder(tokens)[0], text(tokens)[0], rtol=1e-4, atol=1e-5)
            decoded = [model.decode(given[0]).sample for model in (base.vae, vae)]
            close(*decoded, rtol=1e-4, atol=1e-5)
        assert base.latent_factor == 8
        assert base.vae.config.scaling_factor == 0.18215

    def test_prediction_type(self, written: tuple) -> None:
        path, unet, *_ = written
        second = unet.config.use_linear_projection
        base = load_base(path)
        # Random weights do not return the noise that they are given, so they "predict v".
        assert base.prediction_type == ("v_prediction" if second else "epsilon")
        assert base.resolution == (768 if second else 512)

    def test_metadata_decides_the_prediction_type(self, written: tuple) -> None:
        path, *parts = written
        weights = {n: w.contiguous().clone() for n, w in original_weights(*parts).items()}
        save_file(weights, path, metadata={"modelspec.prediction_type": "epsilon"})
        assert load_base(path).prediction_type == "epsilon"

    def test_a_network_that_returns_the_noise_predicts_the_noise(self) -> None:
        class Returns(nn.Module):
            config = SimpleNamespace(
                use_linear_projection=True,
                addition_embed_type=None,
                in_channels=4,
                cross_attention_dim=8,
            )
            dtype = torch.float32

            def forward(self, noisy: Tensor, timestep: int, text: Tensor) -> SimpleNamespace:
                assert timestep == 999
                return SimpleNamespace(sample=0.9 * noisy + 0.1)

        assert find_prediction_type(Returns(), {}) == "epsilon"

    def test_half_precision(self, written: tuple) -> None:
        base = load_base(written[0], dtype="bfloat16")
        assert {base.unet.dtype, base.vae.dtype, base.text_encoder.dtype} == {torch.bfloat16}

    def test_a_missing_tensor_is_named(self, written: tuple) -> None:
        path, *parts = written
        weights = {n: w.contiguous().clone() for n, w in original_weights(*parts).items()}
        del weights["model.diffusion_model.middle_block.0.in_layers.2.weight"]
        save_file(weights, path)
        with pytest.raises(CnctlError, match=r"whole UNet.*mid_block.resnets.0.conv1.weight"):
            load_base(path)

    def test_without_a_tokenizer(self, written: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        path = written[0]
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(path.parent / "none"))
        (path.parent / "tokenizer").rename(path.parent / "elsewhere")
        with pytest.raises(MissingError, match="needs CLIP's tokenizer") as caught:
            load_base(path)
        assert "openai/clip-vit-large-patch14" in caught.value.hint


class TestTrueArchitecture:
    """Files of true size that are all header: the rest is a hole."""

    def write(self, path: Path, weights: dict[str, Tensor]) -> None:
        header, end = {}, 0
        for name, weight in weights.items():
            header[name] = {
                "dtype": "U8",
                "shape": list(weight.shape),
                "data_offsets": [end, end + weight.numel()],
            }
            end += weight.numel()
        text = json.dumps(header).encode()
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + end)

    @pytest.fixture(params=[False, True], ids=["SD 1.x", "SD 2.x"])
    def true_file(self, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bool]:
        second = request.param
        with torch.device("meta"):
            unet = UNet2DConditionModel(
                cross_attention_dim=1024 if second else 768,
                attention_head_dim=(5, 10, 20, 20) if second else 8,
                use_linear_projection=second,
            )
            vae = AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
            )
            text = CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=49408,
                    hidden_size=1024 if second else 768,
                    intermediate_size=4096 if second else 3072,
                    num_hidden_layers=23 if second else 12,
                    num_attention_heads=16 if second else 12,
                    hidden_act="gelu" if second else "quick_gelu",
                )
            )
            weights = original_weights(unet, vae, text)
        path = tmp_path / "true.safetensors"
        self.write(path, weights)
        return path, second

    def test_configs_come_from_the_header(self, true_file: tuple[Path, bool]) -> None:
        path, second = true_file
        configs = read_configs(read_shapes(path))
        assert read_family(path).name == ("SD 2.x" if second else "SD 1.x")
        with torch.device("meta"):
            unet = UNet2DConditionModel(**configs["unet"])
            vae = AutoencoderKL(**configs["vae"])
            text = CLIPTextModel(CLIPTextConfig(**configs["text_encoder"]))
        counts = [sum(p.numel() for p in part.parameters()) for part in (unet, vae, text)]
        # stable-diffusion-v1-5 and stable-diffusion-2-1 as diffusers counts them
        assert counts[:2] == [865_910_724 if second else 859_520_964, 83_653_863]
        assert counts[2] == (340_387_840 if second else 123_060_480)
        assert unet.config.attention_head_dim == ((5, 10, 20, 20) if second else 8)
        heads = configs["text_encoder"]["num_attention_heads"]
        assert heads == (16 if second else 12)
        total = sum(p.numel() for p in build_controlnet(unet).parameters())
        assert total == (364_228_240 if second else 361_279_120)


class TestRefuses:
    def test_a_controlnet(self, tmp_path: Path) -> None:
        path = tmp_path / "control.safetensors"
        save_file({"control_model.input_hint_block.0.weight": torch.ones(1)}, path)
        with pytest.raises(CnctlError, match="is a ControlNet, not a base"):
            read_family(path)

    def test_the_refiner(self, tmp_path: Path) -> None:
        path = tmp_path / "refiner.safetensors"
        save_file({"conditioner.embedders.0.model.positional_embedding": torch.ones(1)}, path)
        with pytest.raises(CnctlError, match="is SDXL's refiner, which takes no ControlNet"):
            read_family(path)

    def test_something_else(self, tmp_path: Path) -> None:
        path = tmp_path / "other.safetensors"
        save_file({"weight": torch.ones(1)}, path)
        with pytest.raises(CnctlError, match="holds no U-Net"):
            read_family(path)

    @pytest.mark.parametrize("content", [b"", b"not weights at all", b"\xff" * 64])
    def test_a_damaged_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "bad.safetensors"
        path.write_bytes(content)
        with pytest.raises(CnctlError, match="not a whole safetensors file"):
            read_family(path)


def test_family_of_an_inpainting_base() -> None:
    config = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}
    assert family_of({**config, "in_channels": 9}).name == "SD 1.x inpainting"
