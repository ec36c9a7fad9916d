"""LoRAs for FLUX.1 that read hints as further input channels, from headers. Needs no torch.

`cnctl train --method input-concat` and diffusers' `train_control_lora_flux.py` make them;
black-forest-labs publishes FLUX.1 Canny and Depth so, with the original's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.flux import published
from cnctl.models.flux.shape import NAME
from cnctl.models.flux.xlabs import BLOCK, is_xlabs
from cnctl.models.input_concat import METHOD, check_channels, find_input_concat
from cnctl.models.transformer.format import DIFFUSERS, Form
from cnctl.models.transformer.shapes import count_layers, shape_of_tensor
from cnctl.models.weights_info import DTYPES, WeightsInfo
from cnctl.models.weights_place import find_description, read_metadata
from cnctl.models.weights_source import WeightsSource
from cnctl.tensorfiles.digest import sha256
from cnctl.tensorfiles.expected import check_dtypes
from cnctl.tensorfiles.header import Shape
from cnctl.tensorfiles.listing import Listing, list_tensors
from cnctl.tensorfiles.parts import weight_bytes

CLASS = "FluxTransformer2DModel"
FILE = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA in a folder."""
DOWN = ".lora_A."
ORIGINAL = Form(name="original", label="black-forest-labs", holds=is_xlabs)


@dataclass(frozen=True, kw_only=True)
class ControlLora(WeightsSource):
    """config: of the transformer that it makes of its base; {} where nothing says it."""

    form: Form
    metadata: Mapping[str, str]
    """Of the file."""

    @property
    def architecture(self) -> dict[str, Shape]:
        """The shapes of its tensors, by the file's names."""
        return {name: spec.shape for name, spec in self.tensors.items()}

    @property
    def base_config(self) -> dict[str, Any]:
        """Of the transformer that it was made for."""
        return self.config | {"in_channels": self.config["out_channels"]}

    @property
    def rank(self) -> int:
        """The largest."""
        ranks = [spec.shape[0] for name, spec in self.tensors.items() if DOWN in name]
        return max(ranks, default=0)


def find_control_lora(source: Path) -> ControlLora | None:
    """The LoRA in a run, a folder or a file; None for other weights. No tensor is read.

    CnctlError where a config does not fit it.
    """
    if found := find_input_concat(source, CLASS):
        listing = list_tensors(found.weights)
        return _open(found.weights, listing, found.config, found.description)
    path = source / FILE if source.is_dir() else source
    if not path.is_file():
        return None
    listing = list_tensors(path)
    if not any(DOWN in name for name in listing.tensors):
        return None
    written = read_metadata(listing.metadata)
    return _open(path, listing, written.get("config"), find_description(None, written))


def _open(path: Path, listing: Listing, config: Any, description: dict[str, Any]) -> ControlLora:
    check_dtypes(listing.tensors)
    form = ORIGINAL if ORIGINAL.holds(listing.tensors) else DIFFUSERS
    if not isinstance(config, dict):
        shapes = {name: spec.shape for name, spec in listing.tensors.items()}
        config = _read_config(shapes) if form is ORIGINAL else {}
    if config:
        check_channels(path, config)
    return ControlLora(
        path=path,
        container=listing.container,
        tensors=listing.tensors,
        full_names={name: name for name in listing.tensors},
        config=config,
        description=description or {"method": METHOD},
        form=form,
        metadata=listing.metadata,
    )


def _read_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """What the shapes of the original's tensors say: there, every layer has a LoRA."""
    width = shape_of_tensor(shapes, "img_in.lora_B.weight", 2)[0]
    (head_width,) = shape_of_tensor(shapes, f"{BLOCK}.0.img_attn.norm.query_norm.scale", 1)
    return {
        "_class_name": CLASS,
        "attention_head_dim": head_width,
        "guidance_embeds": "guidance_in.in_layer.lora_A.weight" in shapes,
        "in_channels": shape_of_tensor(shapes, "img_in.lora_A.weight", 2)[1],
        "joint_attention_dim": shape_of_tensor(shapes, "txt_in.lora_A.weight", 2)[1],
        "num_attention_heads": width // max(1, head_width),
        "num_layers": count_layers(shapes, BLOCK),
        "num_single_layers": count_layers(shapes, "single_blocks"),
        "out_channels": shape_of_tensor(shapes, "final_layer.linear.lora_B.weight", 2)[0],
        "pooled_projection_dim": shape_of_tensor(shapes, "vector_in.in_layer.lora_A.weight", 2)[1],
    }


def describe(lora: ControlLora, *, hash: bool = False, config: Path | None = None) -> WeightsInfo:
    """What `cnctl info` says of it. hash: also the file's sha256."""
    if config is not None:
        raise CnctlError(f"{lora.path} needs no config", hint="leave out --config")
    named = published.condition_of(lora.path)
    read = "no ControlNet: cnctl generate and diffusers' FluxControlPipeline read it"
    return WeightsInfo(
        path=lora.path,
        form=f"{lora.form.label}, a LoRA that reads a hint beside the latents, by input-concat",
        container=lora.container,
        family=NAME,
        condition=str(lora.description.get("condition", f"{named} (by its name)" if named else "")),
        hint_channels=3,
        dtype=", ".join(sorted(DTYPES[code] for code in lora.dtypes)),
        tensors=len(lora.tensors),
        parameters=lora.parameters,
        bytes=weight_bytes(lora.path),
        fits=f"bases of {NAME}, fine-tuned ones too",
        notes=(read, *published.recommended_guidance(lora.path)),
        rank=lora.rank,
        converted=lora.description.get("converted", {}),
        sha256=sha256(lora.path) if hash else "",
    )
