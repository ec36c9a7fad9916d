"""What the recorded commands read: pictures, bases and ControlNets of small width, in many forms.

Nothing here imports cnctl, so that a change of cnctl cannot change its own inputs. The names of the
original implementation are written by hand.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, ControlNetUnionModel, DDIMScheduler
from diffusers import UNet2DConditionModel as UNet
from PIL import Image
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

EXAMPLES = Path(__file__).parents[3] / "examples"
WIDTHS = (16, 32, 32, 32)
TEXT_WIDTH = 32
UNET_NAMES = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
    "controlnet_mid_block": "middle_block_out.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "conv_in": "input_blocks.0.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
RESNET_NAMES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_NAMES = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "mid_block.attentions.0.to_": "mid.attn_1.",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0.conv": "downsample.conv",
    "upsamplers.0.conv": "upsample.conv",
    ".resnets.": ".block.",
}


def write_inputs(folder: Path) -> None:
    """Write them all into an empty folder; the same bytes each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _write_pictures(folder)
        _write_lists(folder)
        _write_shard(folder / "shard.tar")
        _write_sd(folder)
        _write_xl(folder)


def _write_pictures(folder: Path) -> None:
    for name in ("hints", "images"):
        shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("*.py"))
    left = np.zeros((128, 128), np.uint8)
    left[:, :64] = 255
    Image.fromarray(left).save(folder / "left.png")
    Image.fromarray(255 - left).save(folder / "right.png")
    (folder / "some").mkdir()
    shutil.copy(folder / "images/cat.jpg", folder / "some")
    (folder / "some/broken.png").write_bytes(b"not a picture")


def _write_lists(folder: Path) -> None:
    jobs = [
        {"image": "hints/canny-cat.png", "prompt": "an orange cat", "seed": 5},
        {"image": "hints/canny-car.png", "negative_prompt": "red", "seed": 6, "name": "a/car"},
        {"image": "hints/canny-ball.png", "seed": 7},
    ]
    (folder / "jobs.jsonl").write_text("".join(f"{json.dumps(job)}\n" for job in jobs))
    (folder / "prompts.txt").write_text("a red house\na blue house\n")


def _write_shard(path: Path) -> None:
    """Eight pairs of 96x96 pixels as WebDataset has them."""
    numbers = np.random.default_rng(0)
    with tarfile.open(path, "w") as file:
        for index in range(8):
            for kind in ("png", "hint.png"):
                pixels = numbers.integers(0, 256, (96, 96, 3), np.uint8)
                data = io.BytesIO()
                Image.fromarray(pixels).save(data, "png")
                _add(file, f"{index:04}.{kind}", data.getvalue())
            _add(file, f"{index:04}.txt", f"picture {index}".encode())


def _add(file: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    file.addfile(member, io.BytesIO(data))


# Stable Diffusion 1.x, at small width


def _write_sd(folder: Path) -> None:
    unet = UNet(
        sample_size=8,
        block_out_channels=WIDTHS,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=TEXT_WIDTH,
    )
    tokenizer, vae = _tokenizer(), _vae()
    text = _text_encoder(len(tokenizer))
    parts = {"vae": vae, "unet": unet, "text_encoder": text, "tokenizer": tokenizer}
    _save_base(folder / "sd", parts)
    control = _fill(ControlNetModel.from_unet(unet))
    control.save_pretrained(folder / "sd-control")
    before = _original_unet(unet, "model.diffusion_model.")
    named = _original_unet(control, "control_model.")
    _write_single_file(folder, before, vae, text)
    _write_forms(folder, named, before)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    unet.save_pretrained(folder / "sd-tuned/unet")
    _write_full(folder, named, before, _original_unet(unet, "model.diffusion_model."))
    _write_additions(folder, unet)


def _write_single_file(
    folder: Path, unet: dict[str, Tensor], vae: nn.Module, text: nn.Module
) -> None:
    """The base as the web interfaces have it, its tokenizer beside."""
    tensors = dict(unet)
    for name, tensor in vae.state_dict().items():
        flat = ".attentions." in name and tensor.ndim == 2
        tensors[f"first_stage_model.{_vae_name(name)}"] = (
            tensor[..., None, None] if flat else tensor
        )
    for name, tensor in text.state_dict().items():
        short = name.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{short}"] = tensor
    (folder / "single").mkdir()
    _save(tensors, folder / "single/sd.safetensors")
    shutil.copytree(folder / "sd/tokenizer", folder / "single/tokenizer")


def _write_forms(folder: Path, control: dict[str, Tensor], unet: dict[str, Tensor]) -> None:
    """The ControlNet in torch's files, new and old, and as a difference from its base."""
    torch.save(control, folder / "control.pth")
    torch.save(control, folder / "control-old.pth", _use_new_zipfile_serialization=False)
    half = {name: tensor.half() for name, tensor in control.items()}
    torch.save({"state_dict": half, "epoch": 1}, folder / "control-half.ckpt")
    difference = {"difference": torch.tensor(1.0)}
    for name, tensor in control.items():
        own = unet.get(name.replace("control_model.", "model.diffusion_model."))
        difference[name] = tensor if own is None else tensor + 0.02 - own
    _save(difference, folder / "difference.safetensors")


def _write_full(
    folder: Path,
    control: dict[str, Tensor],
    before: dict[str, Tensor],
    after: dict[str, Tensor],
) -> None:
    """Checkpoints of the original implementation's training, and a fine-tuned U-Net."""
    schedule = {"betas": torch.zeros(9)}
    trained = {"state_dict": control | before | schedule, "epoch": 3, "optimizer_states": [{}]}
    torch.save(trained, folder / "full.ckpt")
    decoder = ("model.diffusion_model.output_blocks", "model.diffusion_model.out.")
    moved = {name: after[name] if name.startswith(decoder) else before[name] for name in before}
    _save(control | moved | schedule, folder / "full-unlocked.safetensors")
    _save(after, folder / "tuned.safetensors")
    torch.save({"state_dict": after}, folder / "tuned.ckpt")


def _write_additions(folder: Path, unet: nn.Module) -> None:
    """A LoRA as kohya's trainer writes it, and a textual inversion of the web interfaces."""
    tensors = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            key = f"lora_unet_{name.replace('.', '_')}"
            tensors[f"{key}.lora_down.weight"] = 0.3 * torch.randn(2, layer.in_features)
            tensors[f"{key}.lora_up.weight"] = 0.3 * torch.randn(layer.out_features, 2)
            tensors[f"{key}.alpha"] = torch.tensor(3.0)
    _save(tensors, folder / "lora.safetensors")
    vectors = {"*": torch.randn(3, TEXT_WIDTH)}
    word = {"string_to_token": {"*": 265}, "string_to_param": vectors, "name": "toy", "step": 9}
    torch.save(word, folder / "toy.pt")


# SDXL, at small width


def _write_xl(folder: Path) -> None:
    unet = UNet(
        sample_size=8,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        norm_num_groups=8,
        attention_head_dim=(2, 2, 4),
        use_linear_projection=True,
        cross_attention_dim=TEXT_WIDTH + 24,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 8,
    )
    tokenizer = _tokenizer()
    parts = {
        "vae": _vae(),
        "unet": unet,
        "text_encoder": _text_encoder(len(tokenizer)),
        "text_encoder_2": _text_encoder(len(tokenizer), width=24, projected=True),
        "tokenizer": tokenizer,
        "tokenizer_2": _tokenizer(pad_token="!"),
    }
    known = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    _save_base(folder / "xl", parts, **known)
    _fill(ControlNetModel.from_unet(unet)).save_pretrained(folder / "xl-control")
    shape = {name: value for name, value in unet.config.items() if name in _union_parameters()}
    union = ControlNetUnionModel(
        **shape,
        conditioning_embedding_out_channels=(4, 8, 12, 16),
        num_trans_channel=16,
        num_trans_head=4,
        num_proj_channel=16,
    )
    _fill(union).save_pretrained(folder / "xl-union")


def _union_parameters() -> set[str]:
    own = {"sample_size", "_use_default_values"}
    return set(ControlNetUnionModel._get_init_keys(ControlNetUnionModel)) - own


# Parts


def _vae() -> nn.Module:
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )


def _text_encoder(vocabulary: int, *, width: int = TEXT_WIDTH, projected: bool = False) -> Any:
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=TEXT_WIDTH,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def _tokenizer(**options: str) -> CLIPTokenizer:
    """CLIP's tokenizer whose words are single bytes: no text is unknown to it."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, **options)


def _save_base(folder: Path, parts: dict[str, Any], **index: Any) -> None:
    """A diffusers folder of these parts and Stable Diffusion's noise schedule."""
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    for name, part in {**parts, "scheduler": scheduler}.items():
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
    known = {"_class_name": "StableDiffusionPipeline", **index}
    (folder / "model_index.json").write_text(json.dumps(known))


def _fill(control: nn.Module) -> Any:
    """The same with random weights in place of zeros, so that it acts."""
    with torch.no_grad():
        for parameter in control.parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return control


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().clone() for name, tensor in tensors.items()}, path)


# Names of the original implementation


def _original_unet(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    state = network.state_dict().items()
    return {prefix + _unet_name(name): tensor.clone() for name, tensor in state}


def _unet_name(name: str) -> str:
    """For four resolutions of two layers each, the last without attention."""
    for ours, theirs in UNET_NAMES.items():
        if name.startswith(f"{ours}."):
            name = name.replace(ours, theirs)
    name = re.sub(r"^controlnet_down_blocks\.(\d+)", r"zero_convs.\1.0", name)
    hint = r"^controlnet_cond_embedding\.blocks\.(\d)"
    name = re.sub(hint, lambda found: f"input_hint_block.{2 * int(found[1]) + 2}", name)
    if found := re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(?:conv\.)?(.*)", name):
        name = _block_name(*found.groups())
    if re.match(r"(input_blocks|output_blocks)\.\d+\.0\.|middle_block\.[02]\.", name):
        for ours, theirs in RESNET_NAMES.items():
            name = name.replace(ours, theirs)
    return name


def _block_name(side: str, block: str, kind: str, layer: str, rest: str) -> str:
    first = 3 * int(block) + (side == "down")
    if kind == "downsamplers":
        return f"input_blocks.{first + 2}.0.op.{rest}"
    if kind == "upsamplers":  # behind the attention, which the lowest resolution has not
        return f"output_blocks.{first + 2}.{1 if block == '0' else 2}.conv.{rest}"
    blocks = "input_blocks" if side == "down" else "output_blocks"
    return f"{blocks}.{first + int(layer)}.{int(kind == 'attentions')}.{rest}"


def _vae_name(name: str) -> str:
    for ours, theirs in VAE_NAMES.items():
        name = name.replace(ours, theirs)
    name = re.sub(r"down_blocks\.(\d)", r"down.\1", name)
    return re.sub(r"up_blocks\.(\d)", lambda found: f"up.{3 - int(found[1])}", name)
