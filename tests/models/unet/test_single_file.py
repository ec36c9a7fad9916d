"""Files with the original keys, written here by rules of our own from diffusers' modules.

The rules are section 3.4's of the original implementation's key map; what is read back must be
the same tensors in the same architecture.
"""

import json
import re
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base
from cnctl.models.families import load_base, read_family
from cnctl.models.unet.checkpoint.config import UnknownHeadsError
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.models.unet.shape import shape_of
from cnctl.models.unet.single_file import try_prediction
from cnctl.models.unet.single_file_configs import config_beside, read_configs, read_shapes
from tests.models.original_vae import original_vae, replace

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
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
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
VERSIONS = ["SD 1.x", "SD 2.x", "SDXL"]
HEADS = {
    "SD 1.x": {"attention_head_dim": 8},
    "SD 2.x": {"attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "SDXL": {
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
    },
}
"""What differs between the versions' U-Nets beside widths."""


def unet_key(name: str, attends: list[bool]) -> str:
    """attends: whether each block of the decoder has attention."""
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
            return f"output_blocks.{first + 2}.{1 + attends[int(block)]}.conv.{rest}"
        part = {"resnets": 0, "attentions": 1}[kind]
        name = name.replace(f"{side}_blocks.{block}.{kind}.{layer}", "{}")
        blocks = {"down": "input_blocks", "up": "output_blocks"}[side]
        name = name.format(f"{blocks}.{first + int(layer)}.{part}")
    is_resnet = re.match(r"(input_blocks|output_blocks)\.\d+\.0|middle_block\.[02]", name)
    return replace(name, RESNET) if is_resnet else name


def original_weights(unet: nn.Module, vae: nn.Module, *texts: nn.Module) -> dict[str, Tensor]:
    attends = ["Attn" in kind for kind in unet.config.up_block_types]
    named = unet.state_dict().items()
    weights = {f"model.diffusion_model.{unet_key(n, attends)}": w for n, w in named}
    weights |= original_vae(vae)
    for number, text in enumerate(texts):
        flat = {name.removeprefix("text_model."): w for name, w in text.state_dict().items()}
        place = f"conditioner.embedders.{number}." if len(texts) > 1 else "cond_stage_model."
        if text.config.hidden_act == "quick_gelu":
            prefix = f"{place}transformer.text_model."
            weights |= {f"{prefix}{name}": w for name, w in flat.items()}
        elif number:
            projection = flat.pop("text_projection.weight")
            weights |= open_clip_weights(flat, f"{place}model.")
            weights[f"{place}model.text_projection"] = projection.T
        else:
            weights |= with_another_layer(open_clip_weights(flat, f"{place}model."))
    return weights


def open_clip_weights(flat: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Query, key and value in one tensor."""
    weights = {}
    for name, weight in flat.items():
        if ".q_proj." in name:
            three = [flat[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            name = replace(name, OPEN_CLIP).replace("self_attn.q_proj.", "attn.in_proj_")
            weights[prefix + name] = torch.cat(three)
        elif not re.search(r"\.[kv]_proj\.", name):
            weights[prefix + replace(name, OPEN_CLIP)] = weight
    return {**weights, f"{prefix}logit_scale": torch.ones(())}


def with_another_layer(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """And a projection: what the second version of Stable Diffusion skips."""
    last = 1 + max(int(n.split(".")[4]) for n in weights if "resblocks" in n)
    again = {n.replace(f".{last - 1}.", f".{last}."): w + 1 for n, w in weights.items()}
    again = {n: w for n, w in again.items() if f"resblocks.{last}." in n}
    return {**weights, **again, "cond_stage_model.model.text_projection": torch.ones(64, 64)}


def modules(version: str) -> list[nn.Module]:
    """Small networks of this version of Stable Diffusion: U-Net, autoencoder, text encoders."""
    small: dict[str, Any] = {
        "SD 1.x": {"block_out_channels": (32, 32, 64, 64)},
        "SD 2.x": {
            "block_out_channels": (64, 64, 128, 128),
            "attention_head_dim": (1, 1, 2, 2),
        },
        "SDXL": {
            "block_out_channels": (32, 64, 128),
            "attention_head_dim": (1, 1, 2),
            "transformer_layers_per_block": (1, 2, 3),
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 96,
        },
    }[version]
    width = 128 if version == "SDXL" else 64
    unet = UNet2DConditionModel(cross_attention_dim=width, **{**HEADS[version], **small})
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    parts = [unet, vae, text_model(open_clip=version == "SD 2.x")]
    if version == "SDXL":
        parts.append(text_model(open_clip=True, projection=96))
    return [part.eval() for part in parts]


def text_model(*, open_clip: bool, projection: int | None = None) -> nn.Module:
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        hidden_act="gelu" if open_clip else "quick_gelu",
        projection_dim=projection or 64,
        bos_token_id=512,
        eos_token_id=513,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


@pytest.fixture(scope="module", params=VERSIONS)
def shelved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, random_base: Path
) -> tuple:
    """A base as one file and the networks in it. Do not change them."""
    folder = tmp_path_factory.mktemp("shelf")
    torch.manual_seed(0)
    parts = modules(request.param)
    path = folder / "model.safetensors"
    weights = original_weights(*parts)
    save_file({name: w.contiguous().clone() for name, w in weights.items()}, path)
    parts[0].to_json_file(config_beside(path))
    tokenizer = CLIPTokenizer.from_pretrained(random_base / "tokenizer")
    tokenizer.save_pretrained(folder / "tokenizer")
    return path, *parts


@pytest.fixture(scope="module")
def loaded(shelved: tuple) -> Base:
    """Do not change it."""
    return load_base(shelved[0])


@pytest.fixture
def written(shelved: tuple, tmp_path: Path) -> tuple:
    """The same in a folder of this test, which may change the file."""
    path, *parts = shelved
    shutil.copytree(path.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / path.name, *parts


class TestUnknownHeads:
    """No shape shows the number of attention heads, and a wrong one is a wrong image in silence."""

    def test_are_never_guessed(self, written: tuple) -> None:
        config_beside(written[0]).unlink()
        with pytest.raises(UnknownHeadsError, match="number of attention heads") as caught:
            load_base(written[0])
        assert "model.unet.json" in caught.value.hint

    def test_come_from_the_config_beside(self, shelved: tuple, loaded: Base) -> None:
        heads = loaded.denoiser.config.attention_head_dim
        assert heads == shelved[1].config.attention_head_dim

    def test_a_config_of_another_network_is_refused(self, written: tuple) -> None:
        beside = config_beside(written[0])
        config = json.loads(beside.read_text()) | {"layers_per_block": 3}
        beside.write_text(json.dumps(config))
        with pytest.raises(CnctlError, match="layers_per_block = 3, the weights say 2"):
            load_base(written[0])


class TestLoad:
    def test_every_component_is_what_was_written(self, shelved: tuple, loaded: Base) -> None:
        (_, unet, vae, text, *others), base = shelved, loaded
        texts = [model for model, _ in base.text_encoders]
        pairs = [(base.denoiser, unet), (base.vae, vae), *zip(texts, (text, *others), strict=True)]
        for loaded, original in pairs:
            theirs = original.state_dict()
            assert loaded.state_dict().keys() == theirs.keys()
            assert all(torch.equal(v, theirs[n]) for n, v in loaded.state_dict().items())
        width = unet.config.cross_attention_dim
        given = (torch.randn(1, 4, 8, 8), torch.tensor(5), torch.randn(1, 77, width))
        added = {"text_embeds": torch.randn(1, 96), "time_ids": torch.ones(1, 6)}
        tokens = torch.randint(0, 500, (1, 77))
        tokens[0, 9] = 513
        with torch.no_grad():
            # The number of heads is in no tensor's shape: only what comes out tells.
            close = torch.testing.assert_close
            predicted = [u(*given, added_cond_kwargs=added).sample for u in (base.denoiser, unet)]
            close(*predicted, rtol=1e-4, atol=1e-5)
            for ours, theirs in pairs[2:]:
                close(ours(tokens)[0], theirs(tokens)[0], rtol=1e-4, atol=1e-5)
            decoded = [model.decode(given[0]).sample for model in (base.vae, vae)]
            close(*decoded, rtol=1e-4, atol=1e-5)
        assert base.latent_factor == 8
        assert base.vae.config.scaling_factor == (0.13025 if others else 0.18215)
        assert [tokenizer.pad_token for _, tokenizer in base.text_encoders] == {
            "quick_gelu": ["<|endoftext|>", "!"][: len(texts)],
            "gelu": ["!"],
        }[text.config.hidden_act]
        assert base.zeros_for_empty_prompt == bool(others)

    @pytest.mark.slow
    def test_a_torch_file_gives_the_same_as_safetensors(self, written: tuple) -> None:
        path = written[0]
        expected = load_base(path)
        torch.save({"state_dict": load_file(path), "epoch": 1}, path.with_suffix(".ckpt"))
        found = load_base(path.with_suffix(".ckpt"))
        assert found.family.name == expected.family.name
        for name, part in expected.parts.items():
            theirs = part.state_dict()
            assert found.parts[name].state_dict().keys() == theirs.keys()
            assert all(torch.equal(found.parts[name].state_dict()[n], v) for n, v in theirs.items())

    @pytest.mark.slow
    def test_a_checkpoint_with_a_controlnet_is_a_base_where_it_is_whole(
        self, written: tuple
    ) -> None:
        path, unet, *_ = written
        tensors = load_file(path) | {"control_model.input_hint_block.0.weight": torch.ones(1)}
        save_file(tensors, path)
        loaded = load_base(path).denoiser.state_dict()
        assert all(torch.equal(loaded[name], v) for name, v in unet.state_dict().items())
        kept = {n: v for n, v in tensors.items() if not n.startswith("first_stage_model.")}
        save_file(kept, path)
        with pytest.raises(CnctlError, match="holds no autoencoder"):
            load_base(path)

    def test_an_outline_has_the_shapes_and_no_weights(self, shelved: tuple, loaded: Base) -> None:
        base, outline = loaded, load_base(shelved[0], weights=False)
        assert outline.resolution == base.resolution
        assert outline.process.prediction == base.process.prediction
        for part, module in {"vae": base.vae, **base.parts}.items():
            drawn = {"vae": outline.vae, **outline.parts}[part]
            shapes = {name: weight.shape for name, weight in module.state_dict().items()}
            assert {name: weight.shape for name, weight in drawn.state_dict().items()} == shapes
            assert all(p.is_meta for p in drawn.parameters())

    def test_prediction_type(self, shelved: tuple, loaded: Base) -> None:
        (_, _, _, text, *others), base = shelved, loaded
        # Random weights do not return the noise that they are given, so they "predict v".
        second = text.config.hidden_act == "gelu"
        assert base.process.prediction == ("v_prediction" if second else "epsilon")
        assert base.resolution == (1024 if others else 768 if second else 512)

    @pytest.mark.parametrize("shelved", ["SDXL"], indirect=True)
    def test_a_mark_says_that_sdxl_predicts_v(self, written: tuple) -> None:
        path, *parts = written
        weights = {n: w.contiguous().clone() for n, w in original_weights(*parts).items()}
        save_file({**weights, "v_pred": torch.ones(0)}, path)
        assert load_base(path).process.prediction == "v_prediction"

    @pytest.mark.parametrize("shelved", ["SD 2.x"], indirect=True)
    def test_metadata_decides_the_prediction_type(self, written: tuple) -> None:
        path, *parts = written
        weights = {n: w.contiguous().clone() for n, w in original_weights(*parts).items()}
        save_file(weights, path, metadata={"modelspec.prediction_type": "epsilon"})
        assert load_base(path).process.prediction == "epsilon"

    def test_a_network_that_returns_the_noise_predicts_the_noise(self) -> None:
        class Returns(nn.Module):
            config = SimpleNamespace(in_channels=4, cross_attention_dim=8)
            dtype = torch.float32

            def forward(self, noisy: Tensor, timestep: int, text: Tensor) -> SimpleNamespace:
                assert timestep == 999
                return SimpleNamespace(sample=0.9 * noisy + 0.1)

        assert try_prediction(Returns()) == "epsilon"

    @pytest.mark.parametrize("shelved", ["SDXL"], indirect=True)
    def test_half_precision(self, shelved: tuple) -> None:
        base = load_base(shelved[0], dtype="bfloat16")
        texts = [model.dtype for model, _ in base.text_encoders]
        assert {base.denoiser.dtype, base.vae.dtype, *texts} == {torch.bfloat16}

    @pytest.mark.parametrize("shelved", ["SDXL"], indirect=True)
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

    @pytest.fixture(params=VERSIONS)
    def true_file(self, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
        version = request.param
        wide: dict[str, Any] = {}
        if version == "SDXL":
            wide = {"block_out_channels": (320, 640, 1280), "addition_time_embed_dim": 256}
            wide["projection_class_embeddings_input_dim"] = 2816
        width = {"SD 1.x": 768, "SD 2.x": 1024, "SDXL": 2048}[version]
        with torch.device("meta"):
            unet = UNet2DConditionModel(cross_attention_dim=width, **HEADS[version], **wide)
            vae = AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
            )
            texts = {
                "SD 1.x": [true_text(768, 12)],
                "SD 2.x": [true_text(1024, 23)],
                "SDXL": [true_text(768, 12), true_text(1280, 32, projected=True)],
            }[version]
            weights = original_weights(unet, vae, *texts)
        path = tmp_path / "true.safetensors"
        self.write(path, weights)
        return path, version

    @pytest.mark.slow
    def test_configs_come_from_the_header(self, true_file: tuple[Path, str]) -> None:
        """Numbers of parameters are those of the published bases, as diffusers counts them."""
        path, version = true_file
        configs = read_configs(path, read_shapes(path))
        assert read_family(path).name == version
        with torch.device("meta"):
            unet = UNet2DConditionModel(**configs["unet"])
            parts = [unet, AutoencoderKL(**configs["vae"])]
            parts.append(CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])))
            if version == "SDXL":
                second = CLIPTextConfig(**configs["text_encoder_2"])
                parts.append(CLIPTextModelWithProjection(second))
        assert [sum(p.numel() for p in part.parameters()) for part in parts] == {
            "SD 1.x": [859_520_964, 83_653_863, 123_060_480],
            "SD 2.x": [865_910_724, 83_653_863, 340_387_840],
            "SDXL": [2_567_463_684, 83_653_863, 123_060_480, 694_659_840],
        }[version]
        assert unet.config.attention_head_dim == HEADS[version]["attention_head_dim"]
        heads = [c["num_attention_heads"] for name, c in configs.items() if "text" in name]
        assert heads == {"SD 1.x": [12], "SD 2.x": [16], "SDXL": [12, 20]}[version]
        assert (
            sum(p.numel() for p in build_controlnet(unet).parameters())
            == {
                "SD 1.x": 361_279_120,
                "SD 2.x": 364_228_240,
                "SDXL": 1_251_014_160,
            }[version]
        )


def true_text(width: int, layers: int, *, projected: bool = False) -> nn.Module:
    """A text encoder of true size, with the activation that distinguishes CLIP from OpenCLIP."""
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        hidden_act="quick_gelu" if width == 768 else "gelu",
        projection_dim=width,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


class TestRefuses:
    def test_a_controlnet(self, tmp_path: Path) -> None:
        path = tmp_path / "control.safetensors"
        save_file({"control_model.input_hint_block.0.weight": torch.ones(1)}, path)
        with pytest.raises(CnctlError, match="is a ControlNet, not a base"):
            read_family(path)

    def test_the_refiner(self, tmp_path: Path) -> None:
        path = tmp_path / "refiner.safetensors"
        save_file({"conditioner.embedders.0.model.positional_embedding": torch.ones(1)}, path)
        with pytest.raises(CnctlError, match="is SDXL's refiner"):
            read_family(path)

    def test_something_else(self, tmp_path: Path) -> None:
        path = tmp_path / "other.safetensors"
        save_file({"weight": torch.ones(1)}, path)
        with pytest.raises(CnctlError, match="holds no U-Net"):
            read_family(path)

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"", "is empty"),
            (b"\xff" * 64, "is not a file of weights"),
            (b"\x40" + 7 * b"\0" + b"{}", "is not a whole safetensors file"),
        ],
    )
    def test_a_damaged_file(self, tmp_path: Path, content: bytes, what: str) -> None:
        path = tmp_path / "bad.safetensors"
        path.write_bytes(content)
        with pytest.raises(CnctlError, match=what):
            read_family(path)


def test_family_of_an_inpainting_base() -> None:
    config = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}
    assert shape_of({**config, "in_channels": 9}).name == "SD 1.x inpainting"
