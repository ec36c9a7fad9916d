"""ControlNet, section 3 of the paper: a locked network, its trainable copy, zero convolutions.

`ControlledBlock` is equation 2 for any network block. `build_controlnet` applies the idea to the
encoder and the middle block of a diffusers U-Net (section 3.2). `ControlNet` is diffusers'
`ControlNetModel`, so that every other tool reads what is trained here, with a forward pass that
also takes a hint that is encoded already.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from cnctl.errors import CnctlError
from cnctl.models.adapters import has_adapters, low_rank_state
from cnctl.models.base import lock
from cnctl.models.residuals import EncodedHint
from cnctl.models.save import save_network
from cnctl.models.unet.branch import Branch, embed_time, run_encoder
from cnctl.models.unet.checkpoint.control_lora import save_control_lora

RELEASED_WIDTHS = (16, 32, 96, 256)
"""Widths of the released hint encoder beside Stable Diffusion's first block of 320 channels."""
PAPER_WIDTHS = (16, 32, 64, 128)
HINT_ENCODERS = ("released", "paper")
HINT_STARTS = ("gaussian", "torch")
SILU_GAIN = 1.6765
"""1 / sqrt(E[SiLU(z)^2]) for z from N(0, 1): what keeps a signal's variance from layer to layer."""


class ControlledBlock(nn.Module):
    """Equation 2: y_c = F(x; Θ) + Z(F(x + Z(c; Θz1); Θc); Θz2), for a network block F.

    block: any module that maps x (B, in_channels, H, W) to (B, out_channels, H, W), perhaps with
    further arguments. It is locked as it stands; the trainable copy is a deep copy of it.
    out_channels and hint_channels are in_channels unless given.
    """

    def __init__(
        self,
        block: nn.Module,
        in_channels: int,
        *,
        out_channels: int | None = None,
        hint_channels: int | None = None,
    ) -> None:
        super().__init__()
        out_channels = out_channels or in_channels
        self.trainable = copy.deepcopy(block).requires_grad_(True)
        self.locked = lock(block)
        self.zero_in = zero_conv(hint_channels or in_channels, in_channels)
        self.zero_out = zero_conv(out_channels, out_channels)

    def forward(self, x: Tensor, hint: Tensor, *others: object) -> Tensor:
        """Y_c (B, out_channels, H, W) of x and a hint of x's height and width."""
        controlled = self.trainable(x + self.zero_in(hint), *others)
        return self.locked(x, *others) + self.zero_out(controlled)

    def train(self, mode: bool = True) -> ControlledBlock:
        """Training mode for the trainable parts; in the locked one not even statistics move."""
        super().train(mode)
        self.locked.eval()
        return self


def zero_conv(in_channels: int, out_channels: int | None = None) -> nn.Conv2d:
    """A 1x1 convolution that starts with weight and bias zero (section 3.1)."""
    convolution = nn.Conv2d(in_channels, out_channels or in_channels, kernel_size=1)
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


class ControlNet(Branch, ControlNetModel):
    """A ControlNet for one kind of hint."""

    conv_in: Any
    register_to_config: Any

    def to_json_string(self) -> str:
        """The config under the name of diffusers' own class, so that diffusers loads the folder."""
        config = json.loads(super().to_json_string()) | {"_class_name": ControlNetModel.__name__}
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    @property
    def export_name(self) -> str:
        """A folder, or for low-rank adapters a file."""
        return "controlnet.safetensors" if self._has_adapters else "controlnet"

    @property
    def _has_adapters(self) -> bool:
        return has_adapters(self)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor | EncodedHint,
        *args: Any,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `ControlNetModel.forward`; of an encoded hint, the residuals as a pair."""
        if not isinstance(controlnet_cond, EncodedHint):
            given = (sample, timestep, encoder_hidden_states, controlnet_cond, *args)
            return super().forward(*given, added_cond_kwargs=added_cond_kwargs, **kwargs)
        time = embed_time(self, sample, timestep, added_cond_kwargs)
        sample = self.conv_in(sample) + controlnet_cond.features
        return run_encoder(self, sample, time, encoder_hidden_states)

    def save(
        self,
        target: Path,
        *,
        description: Mapping[str, Any],
        base_update: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a folder that diffusers reads, or low-rank adapters as a Control-LoRA's file."""
        if self._has_adapters:
            save_control_lora(target, low_rank_state(self), self, description=description)
        else:
            save_network(self, target, description=description, base_update=base_update)


def build_controlnet(
    unet: UNet2DConditionModel,
    *,
    hint_channels: int = 3,
    hint_encoder: str = "released",
    hint_start: str = "gaussian",
    seed: int = 0,
) -> ControlNet:
    """A fresh ControlNet for this U-Net: section 3.2, in float32, on the U-Net's device.

    The trainable copy holds the U-Net's encoder blocks and middle block, as many as it has; the
    hint encoder starts from `seed`, all that connects starts from zero.
    hint_encoder: "released" is the form of every published ControlNet, its widths in proportion to
    the U-Net's; "paper" is `PaperHintEncoder`. hint_start: how the released form starts, see
    `start_gaussian`; "torch" leaves it to PyTorch, as the released code does.
    """
    if hint_encoder not in HINT_ENCODERS:
        raise CnctlError(f"unknown hint encoder {hint_encoder!r}", hint='use "released" or "paper"')
    if hint_start not in HINT_STARTS:
        raise CnctlError(f"unknown hint start {hint_start!r}", hint='use "gaussian" or "torch"')
    on_meta = unet.device.type == "meta"
    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        torch.manual_seed(seed)
        controlnet = ControlNet.from_unet(
            unet,
            conditioning_embedding_out_channels=released_widths(unet.config.block_out_channels[0]),
            conditioning_channels=hint_channels,
        )
        if hint_encoder == "paper":
            use_paper_hint_encoder(controlnet)
        elif hint_start == "gaussian":
            start_gaussian(controlnet.controlnet_cond_embedding)
    return controlnet.to(unet.device)


def released_widths(width: int) -> tuple[int, ...]:
    """Widths of the hint encoder for a U-Net whose first block has this many channels."""
    return tuple(max(8, 8 * round(released * width / 320 / 8)) for released in RELEASED_WIDTHS)


def start_gaussian(hint_encoder: nn.Module) -> None:
    """Give the released form the Gaussian weights that the paper's text gives to its own.

    They keep the hint's variance from layer to layer. PyTorch's start makes it about a thousand
    times smaller before it meets the zero convolution, whose gradient is as small as what it reads:
    training then stands still until these layers have grown, and converges "suddenly" when they
    have. `python tests/benchmarks/hint_start.py` shows both.
    """
    *layers, _zero = (m for m in hint_encoder.modules() if isinstance(m, nn.Conv2d))
    for layer in layers:
        nn.init.normal_(layer.weight, std=SILU_GAIN / math.sqrt(layer.weight[0].numel()))
        nn.init.zeros_(cast(Tensor, layer.bias))


def use_paper_hint_encoder(controlnet: ControlNetModel) -> None:
    """Replace the hint encoder by a fresh one in the paper's form; the config says so from then on.

    diffusers does not know this form: what loads such a ControlNet calls this before the weights.
    """
    controlnet.controlnet_cond_embedding = PaperHintEncoder(
        controlnet.config.conditioning_channels, controlnet.config.block_out_channels[0]
    )
    controlnet.register_to_config(hint_encoder="paper")


class PaperHintEncoder(nn.Module):
    """E(·) of equation 9: four 4x4 convolutions, ReLU, 16/32/64/128 channels, Gaussian weights.

    The paper gives every convolution a stride of 2, which turns 512 pixels into 32, and says that
    512 become 64 in the same sentence. Latents are 64, so the last convolution has stride 1 here.
    A zero convolution leads to the U-Net's channels, as Z(c; Θz1) does in equation 2. The paper
    leaves the Gaussian's width open; He's keeps the signal's variance through ReLU.
    hint (B, hint_channels, H, W) -> (B, out_channels, H / 8, W / 8).
    """

    def __init__(self, hint_channels: int, out_channels: int) -> None:
        super().__init__()
        sizes = zip((hint_channels, *PAPER_WIDTHS), PAPER_WIDTHS, (2, 2, 2, 1), strict=False)
        self.layers = nn.ModuleList(_gaussian_conv(i, o, stride) for i, o, stride in sizes)
        self.zero_conv = zero_conv(PAPER_WIDTHS[-1], out_channels)

    def forward(self, hint: Tensor) -> Tensor:
        """Features of a hint."""
        for layer in self.layers:
            # An even kernel at stride 1 keeps the size only with one pixel more on one side.
            padding = (1, 1, 1, 1) if layer.stride == (2, 2) else (1, 2, 1, 2)
            hint = F.relu(layer(F.pad(hint, padding)))
        return self.zero_conv(hint)


def _gaussian_conv(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, 4, stride)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer
