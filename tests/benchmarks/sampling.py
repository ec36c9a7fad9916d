"""Our denoising loop beside diffusers' own pipeline, same weights, same work, in turn.

    python tests/benchmarks/sampling.py [--base tiny] [--runs 5]
    python tests/benchmarks/sampling.py --changes [--true-width]

Prints seconds per image (least of the runs) and the ratio to the stock pipeline, for control over
the whole run, over its first half (paper, figure 27) and at scale 0, and the largest difference
of the pictures where both do the same, and the operations of a step. --changes: what fused
projections, another memory layout and the like would gain in our loop, on tiny or at Stable
Diffusion 1.5's true width in bfloat16 with random weights, 256 pixels.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline
from loop_changes import compare_additions, compare_changes, operations_of_a_step
from random_bases import build_base, fresh_network, text_features
from torch import Tensor

from cnctl.models.control import Control, ControlRunner
from cnctl.models.device import pick_device
from cnctl.models.families import load_base
from cnctl.models.prompts import encode_prompts
from cnctl.models.unet.load import load_controlnet
from cnctl.sampling.denoise import denoise, draw_noise, sample


def least_seconds(makers: dict[str, Callable[[], np.ndarray]], runs: int) -> dict[str, float]:
    """The least wall time of each, the makers taking turns."""
    least = dict.fromkeys(makers, float("inf"))
    for _ in range(runs + 1):
        for name, make in makers.items():
            start = time.perf_counter()
            make()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default=None)
    parser.add_argument("--changes", action="store_true")
    parser.add_argument("--true-width", action="store_true", help="for --changes")
    arguments = parser.parse_args()
    if arguments.changes:
        changes(arguments)
        return

    base = load_base(arguments.base, device=arguments.device)
    controlnet, _ = load_controlnet(
        base.path / "controls" / "canny", device=base.device, dtype=base.dtype
    )
    side = base.resolution
    hint = torch.zeros(1, controlnet.config.conditioning_channels, side, side)
    hint[..., side // 4 : 3 * side // 4, side // 4] = 1
    stock = StableDiffusionControlNetPipeline(
        vae=base.vae,
        text_encoder=base.text_encoders[0].model,
        tokenizer=base.text_encoders[0].tokenizer,
        unet=base.denoiser,
        controlnet=controlnet,
        scheduler=DDIMScheduler.from_config(base.process.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    stock.set_progress_bar_config(disable=True)

    # Drawn in float32, as `sample` does: half precision draws other noise from the same seed.
    shape = (1, base.denoiser.config.in_channels, side // 8, side // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    noise = noise.to(base.device, base.dtype)

    def by_stock(end: float = 1.0, scale: float = 1.0, steps: int = 20) -> np.ndarray:
        return stock(
            "a red house",
            image=hint,
            height=side,
            width=side,
            num_inference_steps=steps,
            guidance_scale=3.0,
            latents=noise,
            controlnet_conditioning_scale=scale,
            control_guidance_end=end,
            output_type="np",
        ).images[0]

    def by_us(end: float = 1.0, scale: float = 1.0, steps: int = 20) -> np.ndarray:
        control = Control(controlnet, hint, scale=scale, end=end)
        return sample(
            base,
            [control],
            ["a red house"],
            seeds=[0],
            height=side,
            width=side,
            steps=steps,
            guidance_scale=3.0,
        )[0]

    difference = np.abs(by_stock() * 255 - by_us()).max()
    print(f"{base.name}, {side} px, 20 steps, {base.device} {base.dtype}")
    print(f"largest difference of a pixel: {difference:.2f} of 255 (half a level is rounding)")
    stock_count, count = (
        operations_of_a_step(lambda n, make=make: make(steps=n)) for make in (by_stock, by_us)
    )
    print(f"operations of a step: stock {stock_count:.0f}, cnctl {count:.0f}")
    for name, options in {
        "control throughout": {},
        "control in the first half": {"end": 0.5},
        "control at scale 0": {"scale": 0.0},
    }.items():
        makers = {
            "stock": lambda options=options: by_stock(**options),
            "cnctl": lambda options=options: by_us(**options),
        }
        took = least_seconds(makers, arguments.runs)
        print(
            f"{name:26} stock {took['stock']:.3f} s  cnctl {took['cnctl']:.3f} s  "
            f"ratio {took['cnctl'] / took['stock']:.2f}"
        )


def changes(asked: argparse.Namespace) -> None:
    """Print what each of CHANGES gains."""
    device = pick_device(asked.device)
    if asked.true_width:
        base = build_base("SD 1.5", device=device, dtype=torch.bfloat16)
        network, side, steps = fresh_network(base), 256, 1
        text, negative = (
            text_features("SD 1.5", base, 1, reduced=False, seed=seed) for seed in (1, 2)
        )
    else:
        base = load_base(asked.base, device=device)
        network, _ = load_controlnet(
            base.path / "controls" / "canny", device=base.device, dtype=base.dtype
        )
        side, steps = base.resolution, 2
        text, negative = (encode_prompts(base, [prompt]) for prompt in ("a red house", ""))
    generators = [torch.Generator().manual_seed(0)]
    noise = draw_noise(base, generators, height=side, width=side)
    control = Control(network, torch.rand(1, 3, side, side))

    def run(steps: int = steps) -> Tensor:
        return denoise(base, [control], noise, text=text, negative_text=negative, steps=steps)

    print(f"{base.name}, {side} px, {steps} step(s) of 2 images, {base.device} {base.dtype}")
    compare_changes(run, base, network, rounds=asked.runs)
    begin = time.process_time()
    run()
    step_seconds = (time.process_time() - begin) / steps
    runner = ControlRunner(base, [control], steps=1, guided=False)
    with torch.inference_mode():
        residuals = runner.residuals(0, noise, torch.tensor(500), text, guided=False)
    compare_additions(step_seconds, residuals)


if __name__ == "__main__":
    main()
