"""One file with Stable Diffusion's original keys, as diffusers' modules.

diffusers' own converters rename the keys. Only the tokenizers are in no such file.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
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
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from cnctl.errors import MissingError
from cnctl.models.fill import fill
from cnctl.models.reading import report_reading
from cnctl.models.unet.single_file_configs import (
    UNET,
    VAE,
    Config,
    is_open_clip,
    read_configs,
    read_prediction,
    read_shapes,
    text_prefixes,
)
from cnctl.tensorfiles.lazy import open_tensors
from cnctl.tensorfiles.listing import Listing, list_tensors

TOKENIZERS = (
    ("openai/clip-vit-large-patch14", ""),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "tokenizer/"),
    ("stabilityai/stable-diffusion-2-1", "tokenizer/"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "tokenizer/"),
)
"""Where the hub's cache may hold CLIP's vocabulary, which all families use."""
WHOLE = "the whole checkpoint of an SD 1.x, SD 2.x or SDXL base"


def load_parts(
    path: Path,
    *,
    dtypes: Mapping[str, torch.dtype],
    weights: bool = True,
    outlined: Container[str] = (),
) -> dict[str, Any]:
    """All components of the base in this file, on the CPU; dtypes by name of the component.

    Without weights the networks are on the meta device, from the file's header alone; those that
    are `outlined` are there in any case.
    """
    shapes = read_shapes(path)
    configs, prefixes = read_configs(path, shapes), text_prefixes(shapes)
    tokenizers = {
        part.replace("text_encoder", "tokenizer"): _load_tokenizer(path, prefix)
        for part, prefix in prefixes.items()
    }
    parts = {part: _outline(part, config, dtype=dtypes[part]) for part, config in configs.items()}
    listing = list_tensors(path)
    prediction = read_prediction(path)
    # Where only a trial shows what the U-Net predicts, no outline is enough.
    if weights or not prediction:
        report_reading(path.name, 0, path.stat().st_size)
        tensors = _read(path, listing, (UNET, VAE, *prefixes.values()))
        for part, renamed in _renamed(tensors, configs, prefixes).items():
            if part in outlined and prediction:
                continue
            fill(parts[part], renamed.items(), dtype=dtypes[part], whole=WHOLE)
    prediction = prediction or try_prediction(parts["unet"])
    is_sd2 = len(prefixes) == 1 and prediction == "v_prediction"
    if is_sd2:
        parts["unet"].register_to_config(sample_size=96)
    return {**parts, **tokenizers, "scheduler": _scheduler(prediction)}


def _read(path: Path, listing: Listing, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors whose names begin so; those of a torch file are copied from the mapped file."""
    names = [name for name in listing.tensors if name.startswith(prefixes)]
    opened = open_tensors(path, listing.container, listing.tensors, names)
    mapped = listing.container.startswith("torch")
    return {n: lazy.read().clone() if mapped else lazy.read() for n, lazy in opened.items()}


def try_prediction(unet: Any) -> str:
    """What a U-Net of SD 2.x predicts, "epsilon" or "v_prediction".

    At the noisiest step an image is nearly all noise: a U-Net that predicts the noise returns what
    it was given, one that predicts v does not.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, unet.config.in_channels, 32, 32, generator=generator)
    text = torch.zeros(1, 77, unet.config.cross_attention_dim, dtype=unet.dtype)
    with torch.no_grad():
        predicted = unet(noise.to(unet.dtype), 999, text).sample.float()
    alike = torch.cosine_similarity(predicted.flatten(), noise.flatten(), dim=0)
    return "epsilon" if alike > 0.5 else "v_prediction"


def _load_tokenizer(path: Path, prefix: str) -> CLIPTokenizer:
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
    padding = {"pad_token": "!"} if is_open_clip(prefix) else {}
    return CLIPTokenizer.from_pretrained(
        folders[0], local_files_only=True, model_max_length=77, **padding
    )


def _outline(part: str, config: Config, *, dtype: torch.dtype) -> Any:
    """A network without weights."""
    with init_empty_weights(include_buffers=False):
        if part in ("vae", "unet"):
            model = {"vae": AutoencoderKL, "unet": UNet2DConditionModel}[part].from_config(config)
        else:
            kind = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
            model = kind(CLIPTextConfig(**config))
    # diffusers' own `to` warns of what it does not do.
    return nn.Module.to(model, dtype).eval()


def _renamed(
    tensors: Mapping[str, Tensor], configs: Mapping[str, Config], prefixes: Mapping[str, str]
) -> dict[str, dict[str, Tensor]]:
    """Of each component its own, under its own names."""
    return {
        "vae": convert_ldm_vae_checkpoint(tensors, configs["vae"]),
        "unet": convert_ldm_unet_checkpoint(tensors, configs["unet"]),
        **{
            part: _rename_text_encoder(tensors, configs[part], prefix)
            for part, prefix in prefixes.items()
        },
    }


def _rename_text_encoder(
    weights: Mapping[str, Tensor], config: Config, prefix: str
) -> dict[str, Tensor]:
    own = {name: weight for name, weight in weights.items() if name.startswith(prefix)}
    if is_open_clip(prefix):
        unused = f"{prefix}transformer.resblocks.{config['num_hidden_layers']}."
        kept = {name: weight for name, weight in own.items() if not name.startswith(unused)}
        renamed = convert_open_clip_checkpoint(_Sized(config["hidden_size"]), kept, prefix)
    else:
        renamed = convert_ldm_clip_checkpoint(own)
    return {name: w for name, w in renamed.items() if not name.endswith("position_ids")}


class _Sized:
    """What diffusers' OpenCLIP converter asks of a model: its width."""

    def __init__(self, hidden_size: int) -> None:
        self.config = self
        self.hidden_size = hidden_size


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
