"""One safetensors file with Stable Diffusion's original keys, as diffusers' modules.

Configs are read off the tensors' shapes in the file's header, so that nothing has to be fetched;
diffusers' own converters rename the keys. Only the tokenizer is in no such file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cnctl.errors import CnctlError, MissingError

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."
TOKENIZERS = (
    ("openai/clip-vit-large-patch14", ""),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "tokenizer/"),
    ("stabilityai/stable-diffusion-2-1", "tokenizer/"),
)
"""Where the hub's cache may hold CLIP's vocabulary, which both families use."""

KINDS = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
Shapes = Mapping[str, tuple[int, ...]]


def read_configs(path: Path) -> dict[str, dict[str, Any]]:
    """Configs of "unet", "vae" and "text_encoder", from the file's header alone.

    Raises CnctlError when the file is damaged or holds no base of the families SD 1.x and 2.x.
    """
    shapes = _read_shapes(path)
    _check_kind(path, shapes)
    return {
        "unet": _unet_config(shapes),
        "vae": _vae_config(shapes),
        "text_encoder": _text_config(shapes),
    }


def load_parts(path: Path, *, dtypes: Mapping[str, torch.dtype]) -> dict[str, Any]:
    """All components of the base in this file, on the CPU; dtypes by name of the component."""
    configs = read_configs(path)
    tokenizer = _load_tokenizer(path, is_open_clip=_is_open_clip(_read_shapes(path)))
    with safe_open(path, framework="pt") as file:
        ours = [name for name in file.keys() if name.startswith((UNET, VAE, CLIP, OPEN_CLIP))]  # noqa: SIM118
        weights = {name: file.get_tensor(name) for name in ours}
        metadata = file.metadata() or {}
    renamed = {
        "vae": convert_ldm_vae_checkpoint(weights, configs["vae"]),
        "unet": convert_ldm_unet_checkpoint(weights, configs["unet"]),
        "text_encoder": _rename_text_encoder(weights, configs["text_encoder"]),
    }
    parts = {
        part: _fill(kind, configs[part], renamed[part], dtype=dtypes[part])
        for part, kind in KINDS.items()
    }
    prediction = find_prediction_type(parts["unet"], metadata)
    if prediction == "v_prediction":
        parts["unet"].register_to_config(sample_size=96)
    return {**parts, "tokenizer": tokenizer, "scheduler": _scheduler(prediction)}


def find_prediction_type(unet: Any, metadata: Mapping[str, str]) -> str:
    """What the U-Net predicts: said in the metadata, known of SD 1.x, else tried.

    At the noisiest step an image is nearly all noise: a U-Net that predicts the noise returns what
    it was given, one that predicts v does not.
    """
    said = metadata.get("modelspec.prediction_type")
    if said in ("epsilon", "v"):
        return "epsilon" if said == "epsilon" else "v_prediction"
    if not unet.config.use_linear_projection:
        return "epsilon"
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, unet.config.in_channels, 32, 32, generator=generator)
    text = torch.zeros(1, 77, unet.config.cross_attention_dim, dtype=unet.dtype)
    with torch.no_grad():
        predicted = unet(noise.to(unet.dtype), 999, text).sample.float()
    alike = torch.cosine_similarity(predicted.flatten(), noise.flatten(), dim=0)
    return "epsilon" if alike > 0.5 else "v_prediction"


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CnctlError(
            f"{path} is not a whole safetensors file: {error}", hint="fetch it again"
        ) from error


def _check_kind(path: Path, shapes: Shapes) -> None:
    """Refuse by name what is no base of the known families."""
    if any(name.startswith("conditioner.embedders.") for name in shapes):
        raise CnctlError(
            f"{path} is an SDXL base, which has two text encoders; bases here have one",
            hint="use a base of the families SD 1.x or SD 2.x, or 'tiny'",
        )
    if any("input_hint_block" in name or "controlnet_" in name for name in shapes):
        raise CnctlError(f"{path} is a ControlNet, not a base", hint="give it as --control")
    for part, prefixes in {
        "U-Net": (UNET,),
        "autoencoder": (VAE,),
        "text encoder": (CLIP, OPEN_CLIP),
    }.items():
        if not any(name.startswith(prefixes) for name in shapes):
            raise CnctlError(
                f"{path} holds no {part} under Stable Diffusion's original keys",
                hint="give the whole checkpoint of an SD 1.x or SD 2.x base, or a diffusers folder",
            )


def _unet_config(shapes: Shapes) -> dict[str, Any]:
    blocks = f"{UNET}input_blocks"
    stride = next(n for n in range(2, 99) if f"{blocks}.{n}.0.op.weight" in shapes)
    starts = [n for n in range(1, 99, stride) if f"{blocks}.{n}.0.out_layers.3.weight" in shapes]
    widths = tuple(shapes[f"{blocks}.{n}.0.out_layers.3.weight"][0] for n in starts)
    attends = [f"{blocks}.{n}.1.proj_in.weight" in shapes for n in starts]
    linear = len(shapes[f"{blocks}.1.1.proj_in.weight"]) == 2
    down = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends]
    up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)]
    return {
        "sample_size": 64,
        "in_channels": shapes[f"{blocks}.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": stride - 1,
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "cross_attention_dim": shapes[f"{blocks}.1.1.transformer_blocks.0.attn2.to_k.weight"][1],
        # SD 1.x has 8 heads everywhere (this is what diffusers' misnamed option counts), 2.x has
        # heads of 64 channels and overflows half precision unless attention is upcast.
        "attention_head_dim": tuple(max(1, w // 64) for w in widths) if linear else 8,
        "use_linear_projection": linear,
        "upcast_attention": linear,
    }


def _vae_config(shapes: Shapes) -> dict[str, Any]:
    first = f"{VAE}encoder.down.{{}}.block.0.conv1.weight"
    count = next(n for n in range(99) if first.format(n) not in shapes)
    layers = next(
        n for n in range(99) if f"{VAE}encoder.down.0.block.{n}.conv1.weight" not in shapes
    )
    return {
        "block_out_channels": tuple(shapes[first.format(n)][0] for n in range(count)),
        "down_block_types": ("DownEncoderBlock2D",) * count,
        "up_block_types": ("UpDecoderBlock2D",) * count,
        "layers_per_block": layers,
        "latent_channels": shapes[f"{VAE}post_quant_conv.weight"][1],
        "sample_size": 512,
        "scaling_factor": 0.18215,
    }


def _text_config(shapes: Shapes) -> dict[str, Any]:
    if _is_open_clip(shapes):
        layer = f"{OPEN_CLIP}transformer.resblocks.{{}}.mlp.c_fc.weight"
        vocabulary = shapes[f"{OPEN_CLIP}token_embedding.weight"]
        positions = shapes[f"{OPEN_CLIP}positional_embedding"]
    else:
        inner = CLIP + ("text_model." if any(f"{CLIP}text_model." in n for n in shapes) else "")
        layer = f"{inner}encoder.layers.{{}}.mlp.fc1.weight"
        vocabulary = shapes[f"{inner}embeddings.token_embedding.weight"]
        positions = shapes[f"{inner}embeddings.position_embedding.weight"]
    count = next(n for n in range(99) if layer.format(n) not in shapes)
    return {
        "vocab_size": vocabulary[0],
        "hidden_size": vocabulary[1],
        "intermediate_size": shapes[layer.format(0)][0],
        # SD 2.x reads OpenCLIP's last layer but one, so the last is left out.
        "num_hidden_layers": count - 1 if _is_open_clip(shapes) else count,
        "num_attention_heads": max(1, vocabulary[1] // 64),
        "max_position_embeddings": positions[0],
        "hidden_act": "gelu" if _is_open_clip(shapes) else "quick_gelu",
    }


def _is_open_clip(shapes: Shapes) -> bool:
    return any(name.startswith(OPEN_CLIP) for name in shapes)


def _load_tokenizer(path: Path, *, is_open_clip: bool) -> CLIPTokenizer:
    """CLIP's tokenizer from a folder `tokenizer` beside the file, or from the hub's cache."""
    folder = path.parent / "tokenizer"
    folders = [folder] if folder.is_dir() else []
    for hub_id, subfolder in TOKENIZERS:
        found = try_to_load_from_cache(hub_id, f"{subfolder}vocab.json")
        folders += [Path(found).parent] if isinstance(found, str) else []
    if not folders:
        raise MissingError(
            f"{path} needs CLIP's tokenizer, which is not in the hub cache",
            hint=f"fetch it with: cnctl models pull {TOKENIZERS[0][0]}, or put its files into a "
            "folder 'tokenizer' beside the weights",
        )
    padding = {"pad_token": "!"} if is_open_clip else {}
    return CLIPTokenizer.from_pretrained(
        folders[0], local_files_only=True, model_max_length=77, **padding
    )


def _rename_text_encoder(
    weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> dict[str, Tensor]:
    if any(name.startswith(OPEN_CLIP) for name in weights):
        left_out = (
            f"{OPEN_CLIP}transformer.resblocks.{config['num_hidden_layers']}.",
            f"{OPEN_CLIP}text_projection",
        )
        kept = {name: w for name, w in weights.items() if not name.startswith(left_out)}
        renamed = convert_open_clip_checkpoint(_Sized(config["hidden_size"]), kept)
    else:
        renamed = convert_ldm_clip_checkpoint(weights)
    plain = {name.removeprefix("text_model."): w for name, w in renamed.items()}
    plain.pop("embeddings.position_ids", None)
    return plain


class _Sized:
    """What diffusers' OpenCLIP converter asks of a model: its width."""

    def __init__(self, hidden_size: int) -> None:
        self.config = self
        self.hidden_size = hidden_size


def _fill(
    kind: Any, config: Mapping[str, Any], weights: Mapping[str, Tensor], *, dtype: torch.dtype
) -> Any:
    """A model with these tensors in it, none missing and none left over."""
    with init_empty_weights(include_buffers=False):
        is_text = kind is CLIPTextModel
        model = kind(CLIPTextConfig(**config)) if is_text else kind.from_config(config)
    cast = {name: w.to(dtype).contiguous() for name, w in weights.items()}
    try:
        # Before 5.6, transformers kept the text model one level deeper.
        getattr(model, "text_model", model).load_state_dict(cast, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CnctlError(
            f"the file does not hold a whole {kind.__name__}: {reason}",
            hint="give the whole checkpoint of an SD 1.x or SD 2.x base",
        ) from error
    return model.eval()


def _scheduler(prediction_type: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
