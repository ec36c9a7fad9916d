"""FLOPs and kept activations of one training step at Stable Diffusion 1.5's true size, per sample.

    python tests/benchmarks/training_cost.py

Nothing is computed: fake tensors of the true shapes (512 x 512 pixels, bfloat16) go through the
project's own networks and loss. FLOPs are those of matrix products and convolutions, both passes,
two for a multiply-add. Kept is what autograd holds between the passes, parameters left out. Exits
with 1 where a ControlNet's step takes more than 0.95 of the FLOPs or 0.90 of the memory of
fine-tuning the whole base, or where an epoch with caches saves less than a factor of 1.4.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from cnctl.core.controlnet import build_controlnet, lock, trainable_parameters
from cnctl.core.loss import noise_prediction_loss
from cnctl.core.memory import save_memory
from cnctl.core.text_features import TextFeatures
from cnctl.core.unlocking import unlockable_parameters
from cnctl.settings import TrainSettings

SIDE = 512
MOST_FLOPS, MOST_KEPT, LEAST_SAVED = 0.95, 0.90, 1.4


def main() -> None:
    with _fake():
        full = fine_tuning(in_channels=4)
        rows = {
            "fine-tuning the whole base": full,
            "input-concat, hint as its channels": fine_tuning(in_channels=7),
            "ControlNet": control(),
            "ControlNet, gradient checkpointing": control(gradient_checkpointing=True),
            "ControlNet, middle block only": control(connect="middle"),
            "ControlNet, decoder unlocked": control(unlock_after=1),
        }
        encoding = encoders()
    print(f"{'':<36}{'GFLOP':>8}{'ratio':>8}{'MiB kept':>10}{'ratio':>8}{'M trained':>11}")
    for name, (flops, kept, trained) in rows.items():
        ratios = flops / full[0], kept / full[1]
        print(
            f"{name:<36}{flops / 1e9:>8,.0f}{ratios[0]:>8.3f}{kept / 2**20:>10,.0f}"
            f"{ratios[1]:>8.3f}{trained / 1e6:>11.1f}"
        )
    flops, kept, _ = rows["ControlNet"]
    saved = (flops + encoding) / flops
    print(f"encoding image and prompt: {encoding / 1e9:,.0f} GFLOP; with caches {saved:.2f}x fewer")
    if flops > MOST_FLOPS * full[0] or kept > MOST_KEPT * full[1] or saved < LEAST_SAVED:
        sys.exit("a bar is missed")


def fine_tuning(*, in_channels: int) -> tuple[int, int, int]:
    """FLOPs, bytes kept and parameters trained, of the base without any ControlNet."""
    unet = _unet(in_channels)
    latents, timesteps, text, _ = _inputs()

    def loss() -> Tensor:
        noisy = latents.repeat(1, 2, 1, 1)[:, :in_channels]
        predicted = unet(noisy, timesteps, text, return_dict=False)[0]
        return F.mse_loss(predicted, latents)

    return *_cost(loss, [unet]), sum(p.numel() for p in unet.parameters())


def control(**changes: Any) -> tuple[int, int, int]:
    """The same of a ControlNet beside a locked base, as `cnctl train` has it."""
    settings = TrainSettings(**changes)
    unet = lock(_unet(4))
    with mock.patch.object(ControlNetModel, "to", lambda self, *_: self):  # fakes cannot be moved
        controlnet = build_controlnet(unet)
    base = SimpleNamespace(
        unet=unet,
        scheduler=DDIMScheduler(prediction_type="epsilon"),
        prediction_type="epsilon",
    )
    save_memory(base, controlnet, settings)
    trained = [*trainable_parameters(controlnet, connect=settings.connect).values()]
    if settings.unlock_after:
        opened = unlockable_parameters(unet, settings.unlock).values()
        trained += [parameter.requires_grad_(True) for parameter in opened]
    latents, timesteps, text, hint = _inputs()

    def loss() -> Tensor:
        return noise_prediction_loss(
            base,  # type: ignore[arg-type]
            controlnet,
            latents=latents,
            text=TextFeatures(text),
            hint=hint,
            timesteps=timesteps,
            noise=latents,
            connect=settings.connect,
        )

    return *_cost(loss, [unet, controlnet]), sum(p.numel() for p in trained)


def encoders() -> int:
    """FLOPs of what a cache spares: the autoencoder and the text encoder, once each."""
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=SIDE,
    )
    config = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    text_encoder = CLIPTextModel(config)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        vae.encode(torch.zeros(1, 3, SIDE, SIDE))
        text_encoder(torch.zeros(1, 77, dtype=torch.long))
    return counter.get_total_flops()


@contextmanager
def _fake() -> Iterator[None]:
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with FakeTensorMode():
            yield
    finally:
        torch.set_default_dtype(kept)


def _unet(in_channels: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=in_channels,
        cross_attention_dim=768,
        attention_head_dim=8,
    )


def _inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    side = SIDE // 8
    latents, text = torch.zeros(1, 4, side, side), torch.zeros(1, 77, 768)
    return latents, torch.zeros(1, dtype=torch.long), text, torch.zeros(1, 3, SIDE, SIDE)


def _cost(loss: Callable[[], Tensor], networks: list[nn.Module]) -> tuple[int, int]:
    own = {p.untyped_storage()._cdata for network in networks for p in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda t: t):
        loss().backward()
    held = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in own)
    return counter.get_total_flops(), held


if __name__ == "__main__":
    main()
