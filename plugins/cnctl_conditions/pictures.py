"""Hints that are pictures themselves: shuffle, tile, blur, ip2p (ControlNet 1.1, no weights)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cnctl.plugin import Condition, Metric, Option, TrainDefaults

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Hint, Image, OptionValue

MAX_SEED = 2**31 - 1
LARGEST_FACTOR = 8.0
USUAL_SIGMA = 9.0
NOT_THE_PAPERS = "not in the paper: ControlNet 1.1"
REFERENCE = "ControlNet 1.1, https://github.com/lllyasviel/ControlNet-v1-1-nightly"


def load_shuffle(device: str) -> Detector:
    def detect(image: Image, *, seed: int, scale: int) -> Hint:
        return shuffle_content(image, seed=seed, scale=scale)

    return detect


def shuffle_content(image: Image, *, seed: int, scale: int) -> Hint:
    """Move the picture's parts about along a smooth random flow; `scale` pixels long."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    x = _smooth_noise(rng, height, width, scale) * (width - 1)
    y = _smooth_noise(rng, height, width, scale) * (height - 1)
    return cv2.remap(image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, scale: int) -> np.ndarray:
    """(H, W) from 0 to 1: a coarse random grid, grown by cubic interpolation."""
    import cv2
    import numpy as np

    grid = rng.uniform(size=(height // scale + 2, width // scale + 2))
    grown = cv2.resize(
        grid, (width + 2 * scale, height + 2 * scale), interpolation=cv2.INTER_CUBIC
    )[scale : scale + height, scale : scale + width]
    return (grown - grown.min()) / max(np.ptp(grown), np.finfo(float).tiny)


def colour_distance(hint: Hint, detected: Hint) -> float:
    """How far the colours of one picture are from the other's, wherever in the picture they are.

    The sliced Wasserstein distance of the two sets of colours, in units of the full range, over the
    13 directions between a cube's opposite faces, edges and corners.
    """
    import numpy as np

    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3), axis=-1).reshape(-1, 3)[14:]
    directions = (steps / np.linalg.norm(steps, axis=1, keepdims=True)).T
    wanted, found = (
        np.sort(image.reshape(-1, 3).astype(np.float64) @ directions, axis=0)
        for image in (hint, detected)
    )
    return float(np.abs(wanted - found).mean() / 255)


def random_seed(rng: np.random.Generator) -> dict[str, OptionValue]:
    return {"seed": int(rng.integers(MAX_SEED))}


def load_tile(device: str) -> Detector:
    """Remove detail: shrink by the factor and enlarge again."""
    import cv2

    def detect(image: Image, *, factor: float) -> Hint:
        height, width = image.shape[:2]
        small = (max(1, round(width / factor)), max(1, round(height / factor)))
        shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)

    return detect


def random_factor(rng: np.random.Generator) -> dict[str, OptionValue]:
    """Draw a block size from 1 to 8, its logarithm uniform, for a hint of any lack of detail."""
    return {"factor": float(LARGEST_FACTOR ** rng.uniform())}


def load_blur(device: str) -> Detector:
    import cv2

    def detect(image: Image, *, sigma: float) -> Hint:
        return cv2.GaussianBlur(image, (0, 0), sigma)

    return detect


def random_sigma(rng: np.random.Generator) -> dict[str, OptionValue]:
    """Draw a blur from 1 to 9 pixels, the default, its logarithm uniform."""
    return {"sigma": float(USUAL_SIGMA ** rng.uniform())}


def load_ip2p(device: str) -> Detector:
    def detect(image: Image) -> Hint:
        return image.copy()

    return detect


shuffle = Condition(
    name="shuffle",
    summary="The picture distorted at random: its colours and textures, not its layout",
    load_detector=load_shuffle,
    options={
        "seed": Option(0, "seed of the random flow", minimum=0, maximum=MAX_SEED),
        "scale": Option(256, "length of the flow's waves, in pixels", minimum=8, maximum=1024),
    },
    training_options=random_seed,
    train=TrainDefaults(recipe=NOT_THE_PAPERS),
    metric=Metric(name="colour_distance", score=colour_distance, higher_is_better=False),
    licence="Apache-2.0",
    references=(REFERENCE,),
)

tile = Condition(
    name="tile",
    summary="The picture without its detail",
    load_detector=load_tile,
    options={
        "factor": Option(
            1.0,
            "block size in pixels; 1 keeps all detail",
            minimum=1.0,
            maximum=LARGEST_FACTOR,
        )
    },
    training_options=random_factor,
    train=TrainDefaults(recipe=NOT_THE_PAPERS),
    metric="rmse",
    licence="Apache-2.0",
    references=(REFERENCE,),
)

blur_gaussian = replace(
    tile,
    name="blur-gaussian",
    summary="The picture out of focus",
    load_detector=load_blur,
    options={
        "sigma": Option(
            USUAL_SIGMA, "standard deviation of the blur, in pixels", minimum=0.01, maximum=64.0
        )
    },
    training_options=random_sigma,
    train=TrainDefaults(
        recipe="not in the paper, nor of ControlNet 1.1: used by the web interfaces"
    ),
    references=("sd-webui-controlnet, preprocessor blur_gaussian, for tile models",),
)

ip2p = Condition(
    name="ip2p",
    summary="The picture itself, to be changed as the prompt says",
    load_detector=load_ip2p,
    train=TrainDefaults(
        recipe="not in the paper: ControlNet 1.1, on pairs before and after an edit; half of the "
        "prompts are instructions, half descriptions",
    ),
    metric="ssim",
    licence="Apache-2.0",
    references=(REFERENCE, "Brooks, Holynski, Efros: InstructPix2Pix, CVPR 2023"),
)
