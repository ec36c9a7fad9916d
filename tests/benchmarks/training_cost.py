"""What one training step costs at Stable Diffusion 1.5's true size, per sample.

    python tests/benchmarks/training_cost.py
    python tests/benchmarks/training_cost.py --device cuda --batch-size 8

Without a device nothing is computed: fake tensors of the true shapes (512 x 512 pixels, bfloat16)
go through the project's own networks and loss. FLOPs are those of matrix products and convolutions,
both passes, two for a multiply-add. Kept is what autograd holds between the passes, parameters left
out. Exits with 1 where a ControlNet's step takes more than 0.95 of the FLOPs or 0.90 of the memory
of fine-tuning the whole base, or where an epoch with caches saves less than a factor of 1.4.

On a device whole steps are run, AdamW's too, in the precisions of `cnctl train --dtype bfloat16`:
what learns in float32 under autocast, what is locked in bfloat16, with random weights. Time is the
median of some steps by the device's own clock, memory the highest that tensors took.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)
from transformers import CLIPTextConfig, CLIPTextModel

from cnctl.models.base import lock
from cnctl.models.text_features import TextFeatures
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.models.unet.unfreeze import unfreezable_parameters
from cnctl.settings import TrainSettings
from cnctl.training.loss import noise_prediction_loss
from cnctl.training.memory import save_memory
from cnctl.training.optimizer import make_optimizer

SIDE = 512
MOST_FLOPS, MOST_KEPT, LEAST_SAVED = 0.95, 0.90, 1.4


class Step(NamedTuple):
    """A training step. loss: runs forward; networks: all that take part; trained: what learns."""

    loss: Callable[[], Tensor]
    networks: Sequence[nn.Module]
    trained: Sequence[nn.Parameter]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", help="run there instead of counting, for example cuda")
    parser.add_argument("--batch-size", type=int, default=8, help="on a device")
    parser.add_argument("--steps", type=int, default=10, help="timed on a device")
    chosen = parser.parse_args()
    if chosen.device:
        with torch.device(chosen.device):
            measure(chosen.batch_size, chosen.steps)
    else:
        with _fake():
            count()


def steps(batch: int) -> dict[str, Callable[[], Step]]:
    """All that are compared, the first is what the others are compared with."""
    return {
        "fine-tuning the whole base": lambda: fine_tuning(batch, in_channels=4),
        "input-concat, hint as its channels": lambda: fine_tuning(batch, in_channels=7),
        "ControlNet": lambda: control(batch),
        "ControlNet, gradient checkpointing": lambda: control(batch, gradient_checkpointing=True),
        "ControlNet, middle block only": lambda: control(batch, connect="middle"),
        "ControlNet, decoder unfrozen": lambda: control(batch, unfreeze_after=1),
    }


def count() -> None:
    """Print FLOPs and what is kept, and hold them to their bars."""
    rows = {}
    for name, make in steps(1).items():
        step = make()
        rows[name] = *_cost(step), sum(p.numel() for p in step.trained)
    full = next(iter(rows.values()))
    encode = encoders(1)
    with _flop_counter() as counter:
        encode()
    encoding = counter.get_total_flops()
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


def measure(batch: int, timed: int) -> None:
    """Print time and memory of whole steps on the device that tensors are made on."""
    compared = steps(batch) | {
        "ControlNet, channels last": lambda: control(batch, channels_last=True),
        "ControlNet, diffusers' own modules": lambda: stock_control(batch),
        "ControlNet, compiled": lambda: control(batch, compile=True),
    }
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batches of {batch}")
    print(f"{'':<36}{'ms':>8}{'ratio':>8}{'GiB':>8}{'ratio':>8}{'again':>8}")
    full: tuple[float, float] | None = None
    for name, make in compared.items():
        step = make()
        milliseconds, memory, again = _run(step, timed)
        full = full or (milliseconds, memory)
        print(
            f"{name:<36}{milliseconds / batch:>8.2f}{milliseconds / full[0]:>8.3f}"
            f"{memory / 2**30:>8.2f}{memory / full[1]:>8.3f}{again / batch:>8.2f}",
            flush=True,
        )
        del step
        gc.collect()
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    milliseconds = _milliseconds(encoders(batch), timed)
    print(f"encoding image and prompt, which caches spare: {milliseconds / batch:.2f} ms")


def fine_tuning(batch: int, *, in_channels: int) -> Step:
    """A step of the base without any ControlNet."""
    unet = _unet(in_channels)
    latents, timesteps, text, _ = _inputs(batch)

    def loss() -> Tensor:
        noisy = latents.repeat(1, 2, 1, 1)[:, :in_channels]
        predicted = unet(noisy, timesteps, text, return_dict=False)[0]
        return F.mse_loss(predicted.float(), latents.float())

    return Step(loss, [unet], [*unet.parameters()])


def control(batch: int, **changes: Any) -> Step:
    """A step of a ControlNet beside a locked base, as `cnctl train` has it."""
    settings = TrainSettings(**changes)
    unet = lock(_unet(4))
    with mock.patch.object(ControlNetModel, "to", lambda self, *_: self):  # fakes cannot be moved
        controlnet = build_controlnet(unet)
    _place(controlnet, torch.float32)
    trained = [*controlnet.learning_parameters(connect=settings.connect).values()]
    if settings.unfreeze_after:
        opened = unfreezable_parameters(unet, settings.unfreeze).values()
        trained += [parameter.requires_grad_(True) for parameter in opened]
    else:
        _place(unet, torch.bfloat16)
    base = SimpleNamespace(
        unet=unet,
        scheduler=DDIMScheduler(prediction_type="epsilon"),
        prediction_type="epsilon",
    )
    save_memory(base, controlnet, settings)  # type: ignore[arg-type]
    latents, timesteps, text, hint = _inputs(batch)

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

    return Step(loss, [unet, controlnet], trained)


def stock_control(batch: int) -> Step:
    """A ControlNet's step as diffusers' example trains it: its modules as they are."""
    unet = _place(lock(_unet(4)), torch.bfloat16)
    controlnet = _place(ControlNetModel.from_unet(unet), torch.float32)
    scheduler = DDIMScheduler(prediction_type="epsilon")
    latents, timesteps, text, hint = _inputs(batch)

    def loss() -> Tensor:
        noisy = scheduler.add_noise(latents, latents, timesteps)
        down, middle = controlnet(noisy, timesteps, text, hint, return_dict=False)
        predicted = unet(
            noisy,
            timesteps,
            text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return F.mse_loss(predicted.float(), latents.float())

    return Step(loss, [unet, controlnet], [*controlnet.parameters()])


def encoders(batch: int) -> Callable[[], object]:
    """What a cache spares: the autoencoder and the text encoder, once each, in bfloat16."""
    autoencoder = AutoencoderKL(
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
    vae = _place(autoencoder, torch.bfloat16)
    text_encoder = _place(CLIPTextModel(config), torch.bfloat16)
    images = torch.zeros(batch, 3, SIDE, SIDE, dtype=torch.bfloat16)
    tokens = torch.zeros(batch, 77, dtype=torch.long)

    @torch.no_grad()
    def encode() -> None:
        vae.encode(images)
        text_encoder(tokens)

    return encode


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


def _inputs(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    side = SIDE // 8
    latents, text = torch.randn(batch, 4, side, side), torch.randn(batch, 77, 768)
    timesteps = torch.full((batch,), 500)
    return latents, timesteps, text, torch.rand(batch, 3, SIDE, SIDE)


def _place(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """On the device that is measured; where fakes are counted, which cannot be moved, as it is."""
    device = torch.get_default_device()
    return network if device.type == "cpu" else network.to(device, dtype)


def _cost(step: Step) -> tuple[int, int]:
    own = {p.untyped_storage()._cdata for network in step.networks for p in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with _flop_counter() as counter, saved_tensors_hooks(keep, lambda t: t):
        step.loss().backward()
    held = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in own)
    return counter.get_total_flops(), held


def _flop_counter() -> FlopCounterMode:
    """torch's, which does not know the CPU's own attention by itself."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    formulas = {
        attention: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
        backward: lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4]),
    }
    return FlopCounterMode(display=False, custom_mapping=formulas)


def _run(step: Step, timed: int) -> tuple[float, int, float]:
    """Milliseconds of a whole step, the most bytes that tensors took, and the time once more."""
    optimizer = make_optimizer(step.trained, TrainSettings())

    def train() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = step.loss()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    first = _milliseconds(train, timed)
    torch.cuda.reset_peak_memory_stats()
    again = _milliseconds(train, timed, warm_up=0)
    return first, torch.cuda.max_memory_allocated(), again


def _milliseconds(work: Callable[[], object], timed: int, *, warm_up: int = 3) -> float:
    """The median, by the device's clock."""
    for _ in range(warm_up):
        work()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(timed + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return median(a.elapsed_time(b) for a, b in itertools.pairwise(events))


if __name__ == "__main__":
    main()
