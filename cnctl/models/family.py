"""What a family of bases is: a frozen value, like a condition.

Each family lives in a folder beside this file. Outside `cnctl/models` nothing asks which family a
base is of: it calls what stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cnctl.models.checkpoint_layout import CheckpointLayout
from cnctl.models.guidance import guide
from cnctl.models.location import Location
from cnctl.models.residuals import Residuals
from cnctl.models.text_features import TextFeatures
from cnctl.weights import Weights

if TYPE_CHECKING:
    from cnctl.models.base import Base
    from cnctl.models.network import Network
    from cnctl.models.prompts import PromptOptions

    Generators = torch.Generator | list[torch.Generator] | None


class Latents(Protocol):
    """Between images, uint8 (B, H, W, 3), and latents, float32 (B, C, h, w)."""

    def factor(self, base: Base) -> int:
        """Pixels per latent, along a side."""

    def shape(self, base: Base, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of an image's latents."""

    def encode(self, base: Base, images: np.ndarray) -> Tensor:
        """What the autoencoder says of images: mean and log variance, (B, 2 C, h, w)."""

    def draw(self, base: Base, moments: Tensor, *, generator: Generators) -> Tensor:
        """Scaled latents from these; their mode where there is no generator."""

    def decode(self, base: Base, latents: Tensor) -> np.ndarray:
        """Images of scaled latents. Raises CnctlError where pixels are not finite."""

    def encode_hint(self, base: Base, pixels: Tensor, *, shifted: bool = True) -> Tensor:
        """Scaled latents (B, C, h, w) of pixels (B, 3, H, W) in [-1, 1]; the posterior's mode."""


class PromptReader(Protocol):
    """How prompts become text features; `cnctl.models.prompts` caches and moves."""

    def encode(
        self, base: Base, prompt: str, *, chunks: int, options: PromptOptions
    ) -> TextFeatures:
        """The features of one prompt, (1, L, D), in so many chunks."""

    def count_chunks(self, base: Base, prompts: Sequence[str], *, options: PromptOptions) -> int:
        """How many chunks hold the longest of these prompts whole; at least one."""

    def describe_length(self, base: Base, prompt: str, *, options: PromptOptions) -> str:
        """A sentence on a prompt that is longer than a text encoder reads at once; "" else."""

    def most_clip_skip(self, base: Base) -> int:
        """The largest `PromptOptions.clip_skip`; 1 where the family has no other layer to read."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of base model: SD 1.x, SDXL, ...

    name: what people call it. part: the name of its denoiser's folder in a diffusers base.
    """

    name: str
    part: str
    latents: Latents
    prompts: PromptReader

    layout: CheckpointLayout
    """How the files of its ControlNets are laid out."""
    load_base: Callable[..., Base]
    """load_base(location, family, device=, dtype=, low_memory=, weights=, outlined=) -> Base.

    outlined: networks that come without weights though others have them, by diffusers' names."""
    predict: Callable[[nn.Module, Tensor, Tensor, TextFeatures, Residuals | None], Tensor]
    """predict(denoiser, latents, timestep, text, residuals): its prediction (B, C, h, w), what
    ControlNets add to it."""
    guide: Callable[[Tensor, Tensor, float], Tensor] = guide
    """guide(without, with_prompt, scale): one prediction (B, C, h, w) of two."""
    controls_read_prompt: bool = False
    """Whether ControlNets run once, with the prompt, and act on both halves of the guidance."""
    repeated_blocks: tuple[str, ...] = ()
    """Classes of the blocks that its bases and ControlNets repeat."""

    build_network: Callable[..., Network]
    """build_network(base, method=, hint_channels=, hint_encoder=, hint_start=, layers=, rank=,
    seed=, condition=): a fresh network by one of METHODS, section 3.2 for this architecture.
    layers: blocks to copy; 0 for the family's own number. rank: above 0 a Control-LoRA of this
    rank. condition: its name; the published ControlNets for some have another form."""
    open_network: Callable[..., Network]
    """open_network(source, base, condition=, hint_channels=, masked=, control_type=, config=,
    dtype=): trained weights; CnctlError before they load where they do not fit. masked: whether
    hints carry a mask behind their channels. control_type: of a union. config: a config.json for
    weights that have none."""
    check_weights: Callable[..., tuple[str, ...]]
    """check_weights(source, location, condition=, hint_channels=, masked=, control_type=, config=):
    from headers and configs, what is assumed of trained weights or is odd, a sentence each;
    CnctlError where they do not fit the base at this place."""
    find_weights: Callable[[Path], Path | None]
    """Where a folder, such as a run of `cnctl train`, holds weights of a network."""
    weights_file: Callable[[Path], Path]
    """The (first) file of tensors of what `find_weights` has found."""
    count_residuals: Callable[[Path], int | None]
    """`Network.residual_count` of weights that `check_weights` has found to fit, from headers; None
    where they take the place of the base's network."""
    reads_tokens: Callable[[Path], bool] = lambda source: False
    """`Network.reads_tokens` of weights that `check_weights` has found to fit, from headers."""
    low_rank: tuple[str, ...] = ()
    """Of METHODS, those that may train low ranks, by `train --lora`."""
    hint_encoders: tuple[str, ...] = ()
    """Forms of hint encoder that a fresh ControlNet may have; the first is the default."""
    hint_starts: tuple[str, ...] = ()

    unfreezable: tuple[str, ...] = ()
    """Names of the parts of a base that may be unfrozen (section 3.4)."""
    parameters_to_unfreeze: Callable[[nn.Module, str], dict[str, nn.Parameter]]
    """parameters_to_unfreeze(denoiser, part): the parameters to unfreeze, by name."""
    blocks_before_control: Callable[[nn.Module], Iterable[Any]]
    """Blocks of a denoiser that run before any residual is added: no gradient passes them."""
    activation_bytes: Callable[[nn.Module, bool], float]
    """activation_bytes(denoiser, checkpointing): kept for the backward pass, per sample, latent
    pixel and byte of precision."""

    controlnets: Mapping[str, tuple[Weights, ...]] = field(default_factory=dict)
    """Condition -> published ControlNets, best first."""
    control_types: Mapping[str, int] = field(default_factory=dict)
    """Condition -> the kind that its hints are to a union, where unions of the family read it."""

    completed_by: Path | None = None
    """For a base in one file that lacks some of its networks: the folder that has them."""
    unsupported: Mapping[str, str] = field(default_factory=dict)
    """Settings of generate and train that must keep their defaults -> why, as half a sentence."""
    most_layers: Callable[[Base], int] = lambda base: 0
    """Blocks of a base that a fresh ControlNet may copy; 0 where it copies a fixed number."""

    read_lora: Callable[[Path, Mapping[str, Mapping[str, tuple[int, ...]]]], Iterable[Any]]
    read_embedding: Callable[[Path], tuple[str, Sequence[Tensor]]]
    add_embedding: Callable[[Base, str, Sequence[Tensor]], None]

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings of generate and train that this family's own published recipes give."""


UNDISTILLED = "the base reads no scale of guidance as an input"
"""Why `distilled_guidance` is unsupported, where it is."""

Recognise = Callable[[Location], Family | None]
"""recognise(location): the family of a base, from configs and headers alone; None for another's."""
