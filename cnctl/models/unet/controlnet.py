"""ControlNet, section 3 of the paper: a locked network, its trainable copy, zero convolutions.

`ControlledBlock` is equation 2 for any network block. `build_controlnet` applies the idea to the
encoder and the middle block of a diffusers U-Net (section 3.2) and gives a diffusers
`ControlNetModel`, so that every other tool reads what is trained here. `control_residuals` runs
that branch and `predict_noise` adds what it says to the locked U-Net.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from cnctl.errors import CnctlError
from cnctl.models.text_features import TextFeatures
from cnctl.models.unet.union import OneKind

RELEASED_WIDTHS = (16, 32, 96, 256)
"""Widths of the released hint encoder beside Stable Diffusion's first block of 320 channels."""
PAPER_WIDTHS = (16, 32, 64, 128)
HINT_ENCODERS = ("released", "paper")
HINT_STARTS = ("gaussian", "torch")
SILU_GAIN = 1.6765
"""1 / sqrt(E[SiLU(z)^2]) for z from N(0, 1): what keeps a signal's variance from layer to layer."""
CONNECTIONS = ("all", "middle")


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


def lock(module: nn.Module) -> nn.Module:
    """The same module, in evaluation mode and closed to gradients."""
    return module.requires_grad_(False).eval()


def build_controlnet(
    unet: UNet2DConditionModel,
    *,
    hint_channels: int = 3,
    hint_encoder: str = "released",
    hint_start: str = "gaussian",
    seed: int = 0,
) -> ControlNetModel:
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
        controlnet = ControlNetModel.from_unet(
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


@dataclass(frozen=True)
class Residuals:
    """What a ControlNet adds: one tensor per skip connection, and one for the middle block.

    A zero-dimensional tensor adds its value everywhere.
    """

    down: tuple[Tensor, ...]
    middle: Tensor

    def scaled(self, scale: float | Sequence[float]) -> Residuals:
        """All of them by one number, or each by its own: the skips from the top, then the middle.

        Raises CnctlError when the number of scales is not the number of residuals.
        """
        count = len(self.down) + 1
        scales = [float(scale)] * count if isinstance(scale, int | float) else list(scale)
        if len(scales) != count:
            raise CnctlError(
                f"{len(scales)} control scales for {count} residuals",
                hint=f"give one number, or {count}: the skips from the top, then the middle block",
            )
        if all(one == 1 for one in scales):
            return self
        *down, middle = (r * s for r, s in zip((*self.down, self.middle), scales, strict=True))
        return Residuals(tuple(down), middle)

    def within(self, region: Tensor) -> Residuals:
        """Each times the region, (1 or B, 1, H, W), at its own size: the mean of each place."""
        down = tuple(r * _at_size(region, r) for r in self.down)
        return Residuals(down, self.middle * _at_size(region, self.middle))

    def on_second_half(self) -> Residuals:
        """For twice as many images: nothing for the first half, these for the second."""
        down = tuple(torch.cat([torch.zeros_like(r), r]) for r in self.down)
        return Residuals(down, torch.cat([torch.zeros_like(self.middle), self.middle]))

    def __add__(self, other: Residuals) -> Residuals:
        down = tuple(a + b for a, b in zip(self.down, other.down, strict=True))
        return Residuals(down, self.middle + other.middle)


def _at_size(region: Tensor, residual: Tensor) -> Tensor:
    return F.interpolate(region.to(residual), size=residual.shape[2:], mode="area")


@dataclass(frozen=True)
class EncodedHint:
    """A hint that has been through the hint encoder: features (B, C, H / 8, W / 8)."""

    features: Tensor


def hint_tensor(hints: Iterable[np.ndarray], *, channels: int) -> Tensor:
    """Hints of one size -> float (B, channels, H, W) in [0, 1], as a network reads them.

    hints: uint8 or uint16 (H, W, C). One with a channel more than the network reads carries a mask
    in its last; where that is below half the network reads -1, as inpainting ControlNets were
    trained to.
    """
    return torch.stack([_hint_tensor(hint, channels) for hint in hints])


def _hint_tensor(hint: np.ndarray, channels: int) -> Tensor:
    values = (
        torch.from_numpy(np.ascontiguousarray(hint)).permute(2, 0, 1).float()
        / np.iinfo(hint.dtype).max
    )
    if len(values) == channels:
        return values
    colours, mask = values.split([channels, 1])
    return colours.masked_fill(mask < 0.5, -1)


def encode_hint(controlnet: ControlNetModel | OneKind, hint: Tensor) -> EncodedHint:
    """Run the hint encoder once; it depends neither on the timestep nor on the prompt.

    hint: float (B, hint_channels, H, W) as `hint_tensor` makes it.
    """
    if controlnet.config.controlnet_conditioning_channel_order == "bgr":
        hint = hint.flip(1)
    first = next(controlnet.parameters())
    return EncodedHint(controlnet.controlnet_cond_embedding(hint.to(first.device, first.dtype)))


def control_residuals(
    controlnet: nn.Module,
    latents: Tensor,
    timestep: Tensor,
    text: TextFeatures,
    hint: Tensor | EncodedHint,
    *,
    connect: str = "all",
) -> Residuals:
    """Run the branch: equation 2's second term at each skip connection and the middle block.

    latents: noisy, (B, C, h, w); timestep: () or (B,);
    hint: float (B or 1, hint_channels, H, W) in [0, 1], or encoded (then nothing may wrap the
    ControlNet). connect: "all", or "middle" for the middle block alone (section 3.4).
    """
    if connect not in CONNECTIONS:
        raise CnctlError(f"unknown connection {connect!r}", hint='use "all" or "middle"')
    dtype = next(controlnet.parameters()).dtype
    text = text.to(dtype)
    if isinstance(hint, EncodedHint):
        # One hint for all images; a union would not broadcast it.
        condition = hint.features.expand(len(latents), -1, -1, -1)
        controlnet = _with_hint_encoded(controlnet, condition)
    else:
        condition = hint
    down, middle = controlnet(
        latents.to(dtype),
        timestep,
        text.tokens,
        condition.to(dtype),
        added_cond_kwargs=text.added(),
        return_dict=False,
    )
    if connect == "middle":
        # The U-Net ignores a middle residual that comes without the others: give it zeros.
        down = [latents.new_zeros(())] * len(down)
    return Residuals(tuple(down), middle)


def predict_noise(
    unet: UNet2DConditionModel,
    latents: Tensor,
    timestep: Tensor,
    text: TextFeatures,
    residuals: Residuals | None = None,
) -> Tensor:
    """ε_θ(z_t, t, c_t, c_f): what the U-Net predicts, (B, C, h, w), with control or without.

    Where the U-Net is locked, its encoder and middle block store nothing for the way back:
    gradient enters only where the residuals are added, which is after them.
    """
    dtype = next(unet.parameters()).dtype  # unet.dtype walks all modules to find this
    latents, text = latents.to(dtype), text.to(dtype)
    given = {"added_cond_kwargs": text.added(), "return_dict": False}
    if residuals is None:
        return unet(latents, timestep, text.tokens, **given)[0]
    return unet(
        latents,
        timestep,
        text.tokens,
        down_block_additional_residuals=[r.to(dtype) for r in residuals.down],
        mid_block_additional_residual=residuals.middle.to(dtype),
        **given,
    )[0]


def trainable_parameters(network: nn.Module, *, connect: str = "all") -> dict[str, nn.Parameter]:
    """The parameters that gradient reaches, by name: all, or all that lead to the middle block.

    Without those that are locked, as most of a copy with low-rank adapters is.
    """
    unused = "controlnet_down_blocks." if connect == "middle" else None
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return {name: p for name, p in named.items() if not (unused and name.startswith(unused))}


class _Given(nn.Module):
    """Stands where the hint encoder was, and says what the hint encoder said."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, _: Tensor) -> Tensor:
        return self.features


def _with_hint_encoded(controlnet: nn.Module, features: Tensor) -> nn.Module:
    """A view of the ControlNet, sharing all its weights, that has its hint already."""
    view = copy.copy(controlnet)
    view._modules = {**controlnet._modules, "controlnet_cond_embedding": _Given(features)}
    return view
