"""Parameters, bytes and arithmetic of bases and fresh ControlNets of transformers, at true size.

Counted on the meta device from the published configs: nothing is loaded, and no GPU is needed.

    python tests/benchmarks/transformer_sizes.py
"""

from __future__ import annotations

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
from torch.utils.flop_counter import FlopCounterMode

from cnctl.models.base import Base
from cnctl.models.family import Family
from cnctl.models.flux.family import FLUX
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
    """Print one line for each base."""
    print(f"at {PIXELS}x{PIXELS} pixels; one step, one image, bfloat16 weights")
    print(f"{'base':14}{'parameters':>24}{'bytes':>20}{'TFLOP a step':>20}")
    print(
        f"{'':14}{'base':>12}{'control':>12}{'base':>10}{'control':>10}{'base':>10}{'control':>10}"
    )
    for case in CASES:
        print(_line(case))


def _line(case: Case) -> str:
    base = _outline(case)
    network = case.family.build_network(base, hint_channels=3).requires_grad_(False)
    counts = [sum(p.numel() for p in net.parameters()) for net in (base.denoiser, network)]
    latents, text, time = (
        torch.empty(LATENTS, device="meta"),
        _text(case),
        torch.empty((), device="meta"),
    )
    hint = EncodedHint(pack(latents) if case.family in (FLUX, QWEN) else latents)
    flops = [
        _flops(lambda: case.family.predict(base.denoiser, latents, time, text, None)),
        _flops(lambda: network.residuals(base, latents, time, text, hint)),
    ]
    columns = [f"{n / 1e9:.2f} G".rjust(12) for n in counts]
    columns += [f"{2 * n / 1e9:.1f} GB".rjust(10) for n in counts]
    columns += [f"{n / 1e12:.1f}".rjust(10) for n in flops]
    return case.name.ljust(14) + "".join(columns)


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
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
