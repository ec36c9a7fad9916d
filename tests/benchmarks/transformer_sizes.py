"""Parameters, bytes and arithmetic of bases and fresh ControlNets of transformers, at true size.

Counted on the meta device from the published configs: nothing is loaded, and no GPU is needed.

    python tests/benchmarks/transformer_sizes.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cnctl.models.base import Base
from cnctl.models.family import Family
from cnctl.models.flux.family import FLUX
from cnctl.models.network import Network
from cnctl.models.process import FlowMatching
from cnctl.models.qwen.family import QWEN
from cnctl.models.residuals import EncodedHint
from cnctl.models.sd3.family import SD3
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.packing import pack
from cnctl.models.zimage.family import ZIMAGE

PIXELS = 1024
LATENTS = (1, 16, PIXELS // 8, PIXELS // 8)


class Case(NamedTuple):
    """A base by its published config. text: tokens and width, and the pooled width or 0."""

    name: str
    family: Family
    transformer: type
    config: Mapping[str, Any]
    text: tuple[int, int, int]


CASES = (
    Case(
        "SD3.5 medium",
        SD3,
        SD3Transformer2DModel,
        {
            "sample_size": 128,
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "qk_norm": "rms_norm",
            "dual_attention_layers": tuple(range(13)),
            "pos_embed_max_size": 384,
        },
        (333, 4096, 2048),
    ),
    Case(
        "SD3.5 large",
        SD3,
        SD3Transformer2DModel,
        {
            "sample_size": 128,
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "qk_norm": "rms_norm",
            "pos_embed_max_size": 192,
        },
        (333, 4096, 2048),
    ),
    Case("FLUX.1 dev", FLUX, FluxTransformer2DModel, {"guidance_embeds": True}, (512, 4096, 768)),
    Case("Z-Image", ZIMAGE, ZImageTransformer2DModel, {}, (64, 2560, 0)),
    Case("Qwen-Image", QWEN, QwenImageTransformer2DModel, {}, (64, 3584, 0)),
)


def main() -> None:
    """Print two lines for each base: a step of sampling, and a step of training."""
    print(f"at {PIXELS}x{PIXELS} pixels; one step, one image, bfloat16 weights")
    print(f"{'sampling':14}{'parameters':>24}{'bytes':>20}{'TFLOP a step':>20}")
    print(
        f"{'':14}{'base':>12}{'control':>12}{'base':>10}{'control':>10}{'base':>10}{'control':>10}"
    )
    outlines = [(case, _outline(case)) for case in CASES]
    fresh = [(case, base, _fresh_network(case, base)) for case, base in outlines]
    for one in fresh:
        print(_sampling_line(*one), flush=True)
    print()
    print(f"{'training':14}{'base':>10}{'learning':>10}{'activations':>20}{'TFLOP a step':>20}")
    print(f"{'':34}{'all kept':>10}{'again':>10}")
    for one in fresh:
        print(_training_line(*one), flush=True)
    print("activations are estimates; again: computed again, by --gradient-checkpointing")


def _fresh_network(case: Case, base: Base) -> Network:
    return case.family.build_network(base, method="controlnet", hint_channels=3).requires_grad_(
        False
    )


def _sampling_line(case: Case, base: Base, network: Network) -> str:
    counts = [sum(p.numel() for p in net.parameters()) for net in (base.denoiser, network)]
    latents, text, time = _inputs(case)
    hint = _hint(case, latents)
    with torch.no_grad():
        flops = [
            _flops(lambda: case.family.predict(base.denoiser, latents, time, text, None)),
            _flops(lambda: network.residuals(base, latents, time, text, hint)),
        ]
    columns = [f"{n / 1e9:.2f} G".rjust(12) for n in counts]
    columns += [_gigabytes(2 * n) for n in counts]
    columns += [f"{n / 1e12:.1f}".rjust(10) for n in flops]
    return case.name.ljust(14) + "".join(columns)


def _training_line(case: Case, base: Base, network: Network) -> str:
    """The base in bfloat16; weights that learn, gradients and AdamW's moments in float32."""
    network.requires_grad_(True)
    locked = dataclasses.replace(base, vae=torch.nn.Module(), dtype=torch.bfloat16)
    weights = 2 * sum(p.numel() for p in base.denoiser.parameters())
    learning = 16 * sum(p.numel() for p in network.parameters())
    activations = [_activation_bytes(locked, checkpointing) for checkpointing in (False, True)]
    columns = [_gigabytes(n) for n in (weights, learning, *activations)]
    columns.append(f"{_training_flops(case, base, network) / 1e12:.1f}".rjust(20))
    return case.name.ljust(14) + "".join(columns)


def _activation_bytes(base: Base, checkpointing: bool) -> float:
    """As `cnctl train --dry-run` estimates them."""
    each = base.family.activation_bytes(base.denoiser, checkpointing)
    return each * LATENTS[2] * LATENTS[3] * base.dtype.itemsize


def _training_flops(case: Case, base: Base, network: Network) -> int:
    """Forward through both networks, and backward to the ControlNet through the locked base.

    Without gradient checkpointing, which runs the forward pass of what it covers once more.
    """
    latents, text, time = _inputs(case)
    hint = _hint(case, latents)

    def step() -> None:
        residuals = network.residuals(base, latents, time, text, hint)
        case.family.predict(base.denoiser, latents, time, text, residuals).sum().backward()

    return _flops(step)


def _inputs(case: Case) -> tuple[Tensor, TextFeatures, Tensor]:
    return torch.empty(LATENTS, device="meta"), _text(case), torch.empty((), device="meta")


def _hint(case: Case, latents: Tensor) -> EncodedHint:
    return EncodedHint(pack(latents) if case.family in (FLUX, QWEN) else latents)


def _outline(case: Case) -> Base:
    """The base with networks that have sizes and compute nothing."""
    with torch.device("meta"):
        denoiser = case.transformer(**case.config).requires_grad_(False)
    return Base(
        name=case.name,
        family=case.family,
        vae=None,
        text_encoders=(),
        denoiser=denoiser,
        process=FlowMatching(FlowMatchEulerDiscreteScheduler()),
        device=torch.device("meta"),
        dtype=torch.float32,
        path=None,  # type: ignore[arg-type]
        trained_resolution=PIXELS,
    )


def _text(case: Case) -> TextFeatures:
    length, width, pooled = case.text
    return TextFeatures(
        torch.empty(1, length, width, device="meta"),
        pooled=torch.empty(1, pooled, device="meta") if pooled else None,
        guidance=torch.empty(1, device="meta") if "guidance_embeds" in case.config else None,
    )


def _flops(run: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB".rjust(10)


if __name__ == "__main__":
    main()
