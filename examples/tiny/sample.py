"""A plain DDIM sampler for batches, used by the recipe's sheets and scores."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from examples.tiny.base import Base
from examples.tiny.dataset import to_pictures

SHEET_PROMPTS = (
    "a cat",
    "a brown dog",
    "a red car",
    "a house",
    "a green tree",
    "a blue boat on the sea",
    "a yellow star at night",
    "a pink flower",
    "an orange fish",
    "a person",
    "a white cup",
    "a red heart on a blue background",
    "a purple bird",
    "a sun",
    "a mountain in the snow",
    "a blue ball on the grass",
)


@torch.no_grad()
def sample(
    base: Base,
    prompts: Sequence[str],
    *,
    guidance_scale: float,
    seed: int = 0,
    steps: int = 20,
) -> NDArray[np.uint8]:
    """Pictures uint8 (N, 128, 128, 3)."""
    count = len(prompts)
    shape = (count, base.unet.config.in_channels, 16, 16)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    latents = latents.to(base.unet.device)
    context = torch.cat([base.embed([""]).expand(count, -1, -1), base.embed(list(prompts))])
    base.scheduler.set_timesteps(steps)
    for timestep in base.scheduler.timesteps:
        double = torch.cat([latents, latents])
        without, wanted = base.unet(double, timestep, context).sample.chunk(2)
        noise = without + guidance_scale * (wanted - without)
        latents = base.scheduler.step(noise, timestep, latents).prev_sample
    return to_pictures(base.vae.decode(latents / base.vae.config.scaling_factor).sample)


def write_grid(path: str, pictures: Sequence[NDArray[np.uint8]], *, columns: int) -> None:
    """Write pictures of one size as a PNG, row by row."""
    rows = [
        np.concatenate(list(pictures[start : start + columns]), axis=1)
        for start in range(0, len(pictures), columns)
    ]
    cv2.imwrite(path, np.concatenate(rows)[..., ::-1])
