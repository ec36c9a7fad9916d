"""The converted weights mean the same: the original's network, written down on its own names.

`OriginalControlNet` is the forward pass of the original implementation in plain functions, read
from its description (eight heads, GroupNorm, SiLU, GEGLU, one hint encoder, 13 outputs).
"""

import math

import pytest
import torch
from diffusers import ControlNetModel
from torch import Tensor
from torch.nn import functional as F

from cnctl.models.unet.load import load_controlnet


class OriginalControlNet:
    """heads: of every attention. groups: of every GroupNorm in residual layers (eps 1e-5)."""

    def __init__(self, tensors: dict[str, Tensor], *, heads: int, groups: int) -> None:
        self.tensors, self.heads, self.groups = tensors, heads, groups

    def run(self, x: Tensor, hint: Tensor, t: int, text: Tensor) -> list[Tensor]:
        time = self.time(t)
        guide = self.hint(hint)
        outputs = []
        for n in range(12):
            if n == 0:
                x = self.conv("input_blocks.0.0", x) + guide
            elif self.has(f"input_blocks.{n}.0.op"):
                x = self.conv(f"input_blocks.{n}.0.op", x, stride=2)
            else:
                x = self.resnet(f"input_blocks.{n}.0", x, time)
                if self.has(f"input_blocks.{n}.1.norm"):
                    x = self.attention(f"input_blocks.{n}.1", x, text)
            outputs.append(self.conv(f"zero_convs.{n}.0", x))
        x = self.resnet("middle_block.0", x, time)
        x = self.attention("middle_block.1", x, text)
        x = self.resnet("middle_block.2", x, time)
        return [*outputs, self.conv("middle_block_out.0", x)]

    def time(self, t: int) -> Tensor:
        width = self.tensors["time_embed.0.weight"].shape[1]
        rates = torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
        waves = torch.cat([torch.cos(t * rates), torch.sin(t * rates)])[None]
        return self.linear("time_embed.2", F.silu(self.linear("time_embed.0", waves)))

    def hint(self, hint: Tensor) -> Tensor:
        for place in (0, 2, 4, 6, 8, 10, 12):
            stride = 2 if place in (4, 8, 12) else 1
            hint = F.silu(self.conv(f"input_hint_block.{place}", hint, stride=stride))
        return self.conv("input_hint_block.14", hint)

    def resnet(self, name: str, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv(f"{name}.in_layers.2", F.silu(self.norm(f"{name}.in_layers.0", x, 1e-5)))
        h = h + self.linear(f"{name}.emb_layers.1", F.silu(time))[:, :, None, None]
        h = self.conv(f"{name}.out_layers.3", F.silu(self.norm(f"{name}.out_layers.0", h, 1e-5)))
        skip = f"{name}.skip_connection"
        return h + (self.conv(skip, x) if self.has(skip) else x)

    def attention(self, name: str, x: Tensor, text: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        h = self.conv(f"{name}.proj_in", self.norm(f"{name}.norm", x, 1e-6))
        h = h.flatten(2).transpose(1, 2)
        block = f"{name}.transformer_blocks.0"
        normed = self.layer_norm(f"{block}.norm1", h)
        h = h + self.attend(f"{block}.attn1", normed, normed)
        h = h + self.attend(f"{block}.attn2", self.layer_norm(f"{block}.norm2", h), text)
        wide = self.linear(f"{block}.ff.net.0.proj", self.layer_norm(f"{block}.norm3", h))
        value, gate = wide.chunk(2, dim=-1)
        h = h + self.linear(f"{block}.ff.net.2", value * F.gelu(gate))
        h = h.transpose(1, 2).reshape(batch, channels, height, width)
        return x + self.conv(f"{name}.proj_out", h)

    def attend(self, name: str, x: Tensor, context: Tensor) -> Tensor:
        def split(tensor: Tensor) -> Tensor:
            return tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q = split(self.linear(f"{name}.to_q", x))
        k, v = (split(self.linear(f"{name}.{part}", context)) for part in ("to_k", "to_v"))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return self.linear(f"{name}.to_out.0", (weights @ v).transpose(1, 2).flatten(2))

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        return F.conv2d(x, weight, self.tensors[f"{name}.bias"], stride, weight.shape[-1] // 2)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.group_norm(x, self.groups, weight, bias, eps)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias)

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.tensors


def inputs() -> tuple[Tensor, Tensor, int, Tensor]:
    random = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 4, 8, 8, generator=random)
    hint = torch.rand(2, 2, 64, 64, generator=random)
    return latents, hint, 421, torch.randn(2, 7, 24, generator=random)


def largest_difference(controlnet: ControlNetModel, expected: list[Tensor]) -> float:
    latents, hint, t, text = inputs()
    down, middle = controlnet(latents, torch.tensor(t), text, hint, return_dict=False)
    return max(float((a - b).abs().max()) for a, b in zip([*down, middle], expected, strict=True))


def test_thirteen_residuals_are_those_of_the_original_network(original, write) -> None:
    path = write({f"control_model.{name}": tensor for name, tensor in original.items()})
    controlnet, _ = load_controlnet(path)
    expected = OriginalControlNet(original, heads=4, groups=8).run(*inputs())
    assert len(expected) == 13
    assert min(float(residual.abs().max()) for residual in expected) > 0.01
    with torch.no_grad():
        assert largest_difference(controlnet, expected) < 1e-5


def test_one_swapped_pair_would_be_seen(original, write) -> None:
    name = "input_blocks.4.1.transformer_blocks.0.attn1.{}.weight"
    swapped = original | {
        name.format("to_q"): original[name.format("to_k")],
        name.format("to_k"): original[name.format("to_v")],
        name.format("to_v"): original[name.format("to_q")],
    }
    controlnet, _ = load_controlnet(write(swapped))
    expected = OriginalControlNet(original, heads=4, groups=8).run(*inputs())
    with torch.no_grad():
        assert largest_difference(controlnet, expected) > 1e-3


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_the_number_of_heads_matters(original, write, heads) -> None:
    """So it must never be guessed."""
    controlnet, _ = load_controlnet(write(original))
    expected = OriginalControlNet(original, heads=heads, groups=8).run(*inputs())
    with torch.no_grad():
        assert largest_difference(controlnet, expected) > 1e-3
