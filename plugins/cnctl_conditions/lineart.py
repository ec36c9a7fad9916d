"""Line drawings: of photos by informative-drawings, of cartoons by Anime2Sketch (section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import BatchDetector, Condition, Option, TrainDefaults
from cnctl_conditions.shared.annotators import SECTION, annotator

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cnctl.plugin import Detector

SHRINKS_TWICE = 4
SHRINKS_EIGHT_TIMES = 256


def load_lineart(device: str, files: Mapping[str, Path]) -> Detector:
    """Loads the fine or the coarse network when it is first asked for."""
    from cnctl_conditions.shared.networks import import_network, load_network, to_batch

    generator = import_network("lineart", "Generator")
    networks: dict[str, torch.nn.Module] = {}

    def detect(images: np.ndarray, *, coarse: bool) -> np.ndarray:
        import torch

        key = "coarse" if coarse else "fine"
        if key not in networks:
            networks[key] = load_network(lambda: generator(3, 1, 3), files[key], device=device)
        batch = to_batch(images, device=device, multiple=SHRINKS_TWICE)
        with torch.inference_mode():
            drawings = networks[key](batch / 255)[:, 0]
        return white_on_black(drawings, size=images.shape[1:3])

    return BatchDetector(detect)


def load_cartoon(device: str, files: Mapping[str, Path]) -> Detector:
    import torch

    from cnctl_conditions.shared.networks import load_network, to_batch

    def rename(name: str) -> str:
        return name.replace("module.", "")

    network = load_network(build_anime2sketch(), files["net"], device=device, rename=rename)

    def detect(images: np.ndarray) -> np.ndarray:
        batch = to_batch(images, device=device, multiple=SHRINKS_EIGHT_TIMES)
        with torch.inference_mode():
            drawings = (network(batch / 127.5 - 1)[:, 0] + 1) / 2
        return white_on_black(drawings, size=images.shape[1:3])

    return BatchDetector(detect)


def build_anime2sketch() -> Callable[[], torch.nn.Module]:
    """Builder of the U-Net of Anime2Sketch: 8 halvings, instance norms without parameters."""
    from functools import partial

    import torch

    from cnctl_conditions.shared.networks import import_network

    norm = partial(torch.nn.InstanceNorm2d, affine=False, track_running_stats=False)
    unet = import_network("lineart_anime", "UnetGenerator")
    return partial(unet, 3, 1, 8, 64, norm_layer=norm, use_dropout=False)


def white_on_black(drawings: torch.Tensor, *, size: tuple[int, ...]) -> np.ndarray:
    """Black on white in [0, 1], as the networks draw it, (..., H', W') -> uint8 (..., H, W).

    Cut to size and inverted.
    """
    import numpy as np

    lines = (255 * drawings[..., : size[0], : size[1]]).clamp(0, 255).cpu().numpy().astype(np.uint8)
    return 255 - lines


def from_maps(maps: Mapping[str, Any], **_: bool) -> np.ndarray:
    """Make the hint of a renderer's outlines, which on drawn things are those that hed finds."""
    import numpy as np

    return (255 * maps["edges"]).clip(0, 255).astype(np.uint8)


lineart = Condition(
    name="lineart",
    summary="Line drawing of a photo, white on black",
    load_detector=load_lineart,
    files={
        "fine": annotator(
            "sk_model.pth",
            sha256="c686ced2a666b4850b4bb6ccf0748031c3eda9f822de73a34b8979970d90f0c6",
            size=17_200_000,
            licence="MIT",
        ),
        "coarse": annotator(
            "sk_model2.pth",
            sha256="30a534781061f34e83bb9406b4335da4ff2616c95d22a585c1245aa8363e74e0",
            size=17_200_000,
            licence="MIT",
        ),
    },
    options={"coarse": Option(False, "fewer, bolder lines")},
    train=TrainDefaults(recipe="not in the paper: ControlNet 1.1"),
    from_maps=from_maps,
    metric="ssim",
    licence="MIT",
    references=(
        "Chan, Durand, Isola: Learning to generate line drawings that convey geometry and "
        "semantics, CVPR 2022",
    ),
)

cartoon = Condition(
    name="cartoon",
    summary="Line drawing of a cartoon, white on black",
    load_detector=load_cartoon,
    files={
        "net": annotator(
            "netG.pth",
            sha256="ccabdcc3f5cf3c07cf65d58776acb21df7dfda825cdc70c9766a93fd62bfc488",
            size=217_700_000,
            licence="MIT",
        )
    },
    train=TrainDefaults(
        recipe="1M lineart-cartoon-caption pairs, the most popular of the internet's cartoons; "
        "300 A100 80G GPU-hours",
    ),
    from_maps=from_maps,
    metric="ssim",
    base="hakurei/waifu-diffusion",
    licence="MIT",
    references=(
        SECTION,
        "Xiang et al.: Adversarial Open Domain Adaptation for Sketch-to-Photo Synthesis, "
        "WACV 2022 (Anime2Sketch)",
    ),
)
