"""Configs of a base in one file, from its tensors' shapes, so that nothing needs to be fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.architecture import Architecture, read_encoder
from cnctl.models.unet.checkpoint.config import (
    UnknownHeadsError,
    check_blocks,
    known_heads,
)
from cnctl.models.weights_place import read_config
from cnctl.tensorfiles.listing import list_tensors

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT_ENCODERS: tuple[dict[str, str], ...] = (
    {"text_encoder": "cond_stage_model.transformer."},
    {"text_encoder": "cond_stage_model.model."},
    {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
)
"""What the text encoders' keys begin with in SD 1.x, SD 2.x and SDXL, by diffusers' names."""
V_PREDICTION_MARK = "v_pred"
"""A tensor of this name stands in SDXL checkpoints that predict v."""
UNDETERMINED = ("attention_head_dim", "num_attention_heads", "upcast_attention", "norm_num_groups")
"""What no shape determines of a U-Net."""

Config = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(path: Path) -> Shapes:
    """Shapes of a base's tensors by name. CnctlError for a damaged file, or what is not a base."""
    shapes = {name: spec.shape for name, spec in list_tensors(path).tensors.items()}
    _check_whole(path, shapes)
    return shapes


def read_configs(path: Path, shapes: Shapes) -> dict[str, Config]:
    """Configs of "unet", "vae" and the text encoders of the base in this file."""
    texts = {
        part: text_config(shapes, prefix, single=len(text_prefixes(shapes)) == 1)
        for part, prefix in text_prefixes(shapes).items()
    }
    return {"unet": read_unet_config(path, shapes), "vae": _vae_config(shapes), **texts}


def text_prefixes(shapes: Shapes) -> dict[str, str]:
    """What the keys of each text encoder begin with; {} where there is none."""
    for prefixes in TEXT_ENCODERS:
        if all(_has(shapes, prefix) for prefix in prefixes.values()):
            return prefixes
    return {}


def is_open_clip(prefix: str) -> bool:
    """Whether a text encoder's keys are OpenCLIP's, which are not those of transformers."""
    return prefix.endswith(".model.")


def text_config(shapes: Shapes, prefix: str, *, single: bool) -> Config:
    """A CLIPTextConfig's fields. single: whether the base has no other text encoder."""
    if is_open_clip(prefix):
        layer = f"{prefix}transformer.resblocks.{{}}.mlp.c_fc.weight"
        vocabulary = shapes[f"{prefix}token_embedding.weight"]
        positions = shapes[f"{prefix}positional_embedding"]
    else:
        inner = prefix + ("text_model." if _has(shapes, f"{prefix}text_model.") else "")
        layer = f"{inner}encoder.layers.{{}}.mlp.fc1.weight"
        vocabulary = shapes[f"{inner}embeddings.token_embedding.weight"]
        positions = shapes[f"{inner}embeddings.position_embedding.weight"]
    count = next(n for n in range(99) if layer.format(n) not in shapes)
    projection = shapes.get(f"{prefix}text_projection", (0, vocabulary[1]))
    return {
        "vocab_size": vocabulary[0],
        "hidden_size": vocabulary[1],
        "intermediate_size": shapes[layer.format(0)][0],
        # SD 2.x reads OpenCLIP's last layer but one as if it were the last.
        "num_hidden_layers": count - 1 if is_open_clip(prefix) and single else count,
        "num_attention_heads": max(1, vocabulary[1] // 64),
        "max_position_embeddings": positions[0],
        "hidden_act": "gelu" if is_open_clip(prefix) else "quick_gelu",
        "projection_dim": projection[1],
        "bos_token_id": vocabulary[0] - 2,
        "eos_token_id": vocabulary[0] - 1,
    }


def _check_whole(path: Path, shapes: Shapes) -> None:
    """CnctlError where a base lacks one of its networks."""
    whole = "give the whole checkpoint of an SD 1.x, SD 2.x or SDXL base, or a diffusers folder"
    found = {
        "U-Net": _has(shapes, UNET),
        "autoencoder": _has(shapes, VAE),
        "text encoder": bool(text_prefixes(shapes)),
    }
    for part, is_there in found.items():
        if not is_there:
            raise CnctlError(
                f"{path} holds no {part} under Stable Diffusion's original keys", hint=whole
            )


def _has(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def read_unet_config(path: Path, shapes: Shapes) -> Config:
    """The config of the U-Net in this file, as `UNet2DConditionModel` takes it.

    What no shape determines, such as the number of attention heads, comes from the known families,
    or from a diffusers config beside the file (see `config_beside`). UnknownHeadsError where
    neither says it.
    """
    own = {name.removeprefix(UNET): s for name, s in shapes.items() if name.startswith(UNET)}
    a = read_encoder(own)
    added = _added_config(shapes)
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in a.depths]
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(a.depths)]
    return {
        "sample_size": 128 if added else 64,
        "in_channels": a.in_channels,
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": a.widths,
        "layers_per_block": a.layers,
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "transformer_layers_per_block": tuple(max(1, depth) for depth in a.depths),
        "cross_attention_dim": a.text_width,
        "use_linear_projection": a.linear,
        **added,
        **_undetermined_by_shapes(path, a),
    }


def read_prediction(path: Path) -> str:
    """What the U-Net predicts: "epsilon", "v_prediction", or "" where only a trial shows it.

    SD 1.x and SDXL predict the noise unless the file says otherwise; SD 2.x has both kinds.
    """
    listing = list_tensors(path)
    said = listing.metadata.get("modelspec.prediction_type")
    if said == "v" or V_PREDICTION_MARK in listing.tensors:
        return "v_prediction"
    own = {n.removeprefix(UNET): s.shape for n, s in listing.tensors.items() if n.startswith(UNET)}
    encoder = read_encoder(own)
    is_sd2 = encoder.linear and not encoder.label_width
    return "" if is_sd2 and said != "epsilon" else "epsilon"


def config_beside(path: Path) -> Path:
    """Where the diffusers config of a U-Net of unusual width may lie: NAME.unet.json."""
    return path.with_name(f"{path.stem}.unet.json")


def _undetermined_by_shapes(path: Path, architecture: Architecture) -> Config:
    beside = config_beside(path)
    if beside.is_file():
        config = read_config(beside)
        check_blocks(config, architecture)
        determined = {name: config[name] for name in UNDETERMINED if name in config}
        return {n: tuple(v) if isinstance(v, list) else v for n, v in determined.items()}
    try:
        family = known_heads(architecture)
    except UnknownHeadsError as error:
        raise UnknownHeadsError(
            f"{path}: {error}",
            hint=f"put its diffusers config (unet/config.json) beside it as {beside.name}, or give "
            "the base as a diffusers folder",
        ) from error
    return {
        "attention_head_dim": family.heads,
        "upcast_attention": family.upcast,
        "norm_num_groups": family.groups,
    }


def _added_config(shapes: Shapes) -> Config:
    """How SDXL's U-Net reads sizes and the prompt as a whole; {} in other families."""
    embedding = shapes.get(f"{UNET}label_emb.0.0.weight")
    if embedding is None or "text_encoder_2" not in (prefixes := text_prefixes(shapes)):
        return {}
    pooled = text_config(shapes, prefixes["text_encoder_2"], single=False)["projection_dim"]
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (embedding[1] - pooled) // 6,
        "projection_class_embeddings_input_dim": embedding[1],
    }


def _vae_config(shapes: Shapes) -> Config:
    first = f"{VAE}encoder.down.{{}}.block.0.conv1.weight"
    count = next(n for n in range(99) if first.format(n) not in shapes)
    layers = next(
        n for n in range(99) if f"{VAE}encoder.down.0.block.{n}.conv1.weight" not in shapes
    )
    is_sdxl = "text_encoder_2" in text_prefixes(shapes)
    return {
        "block_out_channels": tuple(shapes[first.format(n)][0] for n in range(count)),
        "down_block_types": ("DownEncoderBlock2D",) * count,
        "up_block_types": ("UpDecoderBlock2D",) * count,
        "layers_per_block": layers,
        "latent_channels": shapes[f"{VAE}post_quant_conv.weight"][1],
        "sample_size": 1024 if is_sdxl else 512,
        "scaling_factor": 0.13025 if is_sdxl else 0.18215,
    }
