"""Rows of gpu.py on images: our denoising loop beside diffusers' pipeline, in turns.

Both get the same noise, hint and (random) text features, and decode their latents to pixels on the
host; text encoders do not run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers import (
    StableDiffusion3ControlNetPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from random_bases import (
    KINDS,
    arithmetic_speed,
    build_base,
    fresh_network,
    synchronize,
    text_features,
)
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from cnctl.models.base import Base
from cnctl.models.compiling import compile_blocks
from cnctl.models.control import Control
from cnctl.models.latents import decode_latents
from cnctl.models.network import Network
from cnctl.sampling.denoise import denoise

PIPELINES = {
    "SD 1.5": StableDiffusionControlNetPipeline,
    "SDXL": StableDiffusionXLControlNetPipeline,
    "SD3.5 medium": StableDiffusion3ControlNetPipeline,
}
GUIDANCE = 7.5
ROUND_SECONDS = 30.0
"""After so many no further round begins."""
Sides = dict[str, Callable[[], np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """Images of one kind of base. ours, stock: how the control acts, for each side.

    pixels: None for those of the kind.
    """

    kind: str
    batch: int = 1
    pixels: int | None = None
    steps: int = 20
    compiled: bool = False
    how: str = "control throughout"
    ours: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1
    stock: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in the table, and skipped by."""
        compiled = ", compiled" if self.compiled else ""
        return f"{self.kind}, batch {self.batch}{compiled}: {self.how}"

    def measure(self, *, device: torch.device, dtype: torch.dtype, reduced: bool) -> dict[str, Any]:
        """Seconds of both sides, and what they mean."""
        base = build_base(self.kind, device=device, dtype=dtype, reduced=reduced)
        network = fresh_network(base)
        sides = self.sides(base, network, reduced=reduced)
        with flop_counter() as counter:
            sides["cnctl"]()
        if self.compiled:
            # Narrow networks are traced and not compiled, which takes minutes on a CPU.
            backend = "eager" if reduced else "inductor"
            # Their own modules: what is compiled in place stays so.
            other = build_base(self.kind, device=device, dtype=dtype, reduced=reduced)
            theirs = fresh_network(other)
            sides["diffusers"] = self.sides(other, theirs, reduced=reduced)["diffusers"]
            for part in (base.denoiser, network):
                compile_blocks(part, base.family, backend=backend)
            for part in (other.denoiser, theirs):
                part.compile(backend=backend, fullgraph=True)
        warm_up = {name: _seconds(side) for name, side in sides.items()}
        seconds, memory = _take_turns(sides, device, rounds=1 if reduced else 5)
        flops = counter.get_total_flops()
        return {
            "first_s": warm_up,
            "seconds": seconds,
            "working_gib": memory,
            "images_a_second": self._batch(reduced) / median(seconds["cnctl"]),
            "ratio": median(seconds["cnctl"]) / median(seconds["diffusers"]),
            "tflop": flops / 1e12,
            "share_of_floor": flops / arithmetic_speed(device, dtype) / median(seconds["cnctl"]),
        }

    def _batch(self, reduced: bool) -> int:
        return min(self.batch, 2) if reduced else self.batch

    def sides(self, base: Base, network: Network, *, reduced: bool) -> Sides:
        """What each side does."""
        steps, pixels = self.steps, self.pixels or KINDS[self.kind].pixels
        if reduced:
            steps, pixels = 6, 32
        batch = self._batch(reduced)
        text, negative = (
            text_features(self.kind, base, batch, reduced=reduced, seed=seed) for seed in (1, 2)
        )
        hint = torch.zeros(1, 3, pixels, pixels)
        hint[..., pixels // 4 : -pixels // 4, pixels // 4] = 1
        shape = (batch, *base.family.latents.shape(base, pixels, pixels))
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(base.device)
        control = Control(network, hint, **self.ours)

        def by_us() -> np.ndarray:
            latents = denoise(
                base,
                [control],
                noise,
                text=text,
                negative_text=negative,
                steps=steps,
                guidance_scale=GUIDANCE,
                scheduler=base.process.schedulers[0],
                control_every=self.every,
            )
            return decode_latents(base, latents)

        pipeline = _pipeline(self.kind, base, network)
        hint_name = "control_image" if "SD3" in self.kind else "image"
        pooled = (
            {}
            if text.pooled is None
            else {
                "pooled_prompt_embeds": text.pooled,
                "negative_pooled_prompt_embeds": negative.pooled,
            }
        )

        def by_stock() -> np.ndarray:
            return pipeline(
                **{hint_name: hint.expand(batch, -1, -1, -1)},
                height=pixels,
                width=pixels,
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                latents=noise.to(base.dtype),
                prompt_embeds=text.tokens,
                negative_prompt_embeds=negative.tokens,
                output_type="np",
                **pooled,
                **self.stock,
            ).images

        return {"cnctl": by_us, "diffusers": by_stock}


IMAGE_ROWS = (
    ImageRow(kind="SD 1.5"),
    ImageRow(kind="SD 1.5", batch=16),
    ImageRow(kind="SD 1.5", compiled=True),
    ImageRow(
        kind="SD 1.5",
        how="control in the first half",
        ours={"end": 0.5},
        stock={"control_guidance_end": 0.5},
    ),
    ImageRow(
        kind="SD 1.5",
        how="control at scale 0",
        ours={"scale": 0.0},
        stock={"controlnet_conditioning_scale": 0.0},
    ),
    ImageRow(kind="SD 1.5", how="control in every 4th step, diffusers' throughout", every=4),
    ImageRow(kind="SDXL"),
    ImageRow(kind="SD3.5 medium"),
    ImageRow(kind="SD 1.5", batch=16, compiled=True),
    ImageRow(kind="SDXL", compiled=True),
    ImageRow(kind="SD3.5 medium", compiled=True),
)


def flop_counter() -> FlopCounterMode:
    """torch's, which does not know the CPU's own attention by itself."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    formula = {attention: lambda *shapes, **_: sdpa_flop_count(*shapes[:3])}
    return FlopCounterMode(display=False, custom_mapping=formula)


def _pipeline(kind: str, base: Base, network: Network) -> Any:
    pipeline_class = PIPELINES[kind]
    parts: dict[str, Any] = {
        "vae": base.vae,
        base.family.part: base.denoiser,
        "controlnet": network,
        "scheduler": type(base.process.scheduler).from_config(base.process.scheduler.config),
    }
    for name in ("text_encoder", "tokenizer"):
        parts |= {f"{name}{end}": None for end in ("", "_2", "_3")}
    if kind == "SD 1.5":
        parts |= {"safety_checker": None, "requires_safety_checker": False}
        parts |= {"feature_extractor": None}
    if kind == "SDXL":
        parts |= {"add_watermarker": False}
    known = pipeline_class.__init__.__code__.co_varnames
    pipeline = pipeline_class(**{name: part for name, part in parts.items() if name in known})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _take_turns(
    sides: Sides, device: torch.device, *, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of some rounds, and GiB that each takes beyond what lies there (on CUDA)."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    memory: dict[str, float] = {}
    begin = time.perf_counter()
    for _ in range(rounds):
        for name, side in sides.items():
            before = _reset_memory(device)
            seconds[name].append(_seconds(side))
            if device.type == "cuda":
                memory[name] = (torch.cuda.max_memory_allocated(device) - before) / 2**30
        if time.perf_counter() - begin > ROUND_SECONDS:
            break
    return seconds, memory


def _reset_memory(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _seconds(side: Callable[[], np.ndarray]) -> float:
    """Of a side, whose pixels on the host are the end of all work."""
    begin = time.perf_counter()
    side()
    return time.perf_counter() - begin
