"""The families that the contract suite runs over, each as a base of reduced width."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
)
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.network import Network


@dataclass(frozen=True, kw_only=True)
class FamilyCase:
    """What the contract suite needs to know of a family.

    name: of `Family`. published: the config of the denoiser that the family is known by.
    base: the fixture of a folder, or a short name. text_to_image, image_to_image, inpainting:
    diffusers' own pipelines; None where it has none. forms: the layouts of a ControlNet's file
    that convert writes. rounding: by how much two orders of the same sums differ after a few
    steps, as a share of the largest latent; trained weights make it larger than random ones.
    """

    name: str
    published: Mapping[str, Any]
    base: str
    text_to_image: Any = StableDiffusionControlNetPipeline
    image_to_image: Any = StableDiffusionControlNetImg2ImgPipeline
    inpainting: Any = StableDiffusionControlNetInpaintPipeline
    forms: tuple[str, ...] = ("diffusers", "original", "bare")
    rounding: float = 1e-5


SD_WIDTHS = [320, 640, 1280, 1280]
CASES = (
    FamilyCase(
        name="SD 1.x",
        published={"block_out_channels": SD_WIDTHS, "cross_attention_dim": 768},
        base="random_base",
    ),
    FamilyCase(
        name="SD 2.x",
        published={"block_out_channels": SD_WIDTHS, "cross_attention_dim": 1024},
        base="random_sd2_base",
    ),
    FamilyCase(
        name="SDXL",
        published={"block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048},
        base="random_sdxl_base",
        text_to_image=StableDiffusionXLControlNetPipeline,
        image_to_image=StableDiffusionXLControlNetImg2ImgPipeline,
        inpainting=StableDiffusionXLControlNetInpaintPipeline,
    ),
    FamilyCase(
        name="tiny",
        published={
            "block_out_channels": [48, 64, 96, 128],
            "cross_attention_dim": 128,
            "in_channels": 8,
            "out_channels": 8,
        },
        base="tiny",
        rounding=5e-5,
        inpainting=None,  # diffusers keeps what is masked on latents of 4 channels only
    ),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a case over all of them; what asks for `inpainting`, where there is one."""
    if "case" in metafunc.fixturenames:
        needs = "inpainting" in metafunc.fixturenames
        cases = [case for case in CASES if case.inpainting or not needs]
        metafunc.parametrize("case", cases, ids=lambda case: case.name, scope="session")


@pytest.fixture(scope="session")
def inpainting(case: FamilyCase) -> Any:
    return case.inpainting


@pytest.fixture(scope="session")
def source(case: FamilyCase, request: pytest.FixtureRequest) -> str:
    """What `--base` is given."""
    return case.base if case.base == "tiny" else str(request.getfixturevalue(case.base))


@pytest.fixture(scope="session")
def base(source: str) -> Base:
    """Loaded in float32 on the CPU. Do not change it."""
    return load_base(source)


@pytest.fixture(scope="session")
def build(base: Base) -> Callable[..., Network]:
    """A ControlNet for the base; its zero convolutions are not zero unless it is `fresh`."""

    def run(*, seed: int = 1, fresh: bool = False) -> Network:
        network = base.family.build_network(
            base,
            method="controlnet",
            hint_channels=3,
            hint_encoder=base.family.hint_encoders[0],
            hint_start=base.family.hint_starts[0],
            seed=seed,
        ).eval()
        if not fresh:
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter in network.parameters():
                    if not parameter.any():
                        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        return network

    return run


@pytest.fixture(scope="session")
def network(build: Callable[..., Network]) -> Network:
    return build().requires_grad_(False)


@pytest.fixture(scope="session")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 72, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 72, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def assert_same(case: FamilyCase) -> Callable[[Tensor, Tensor], None]:
    """Equal but for rounding."""

    def check(latents: Tensor, expected: Tensor) -> None:
        assert (latents - expected).abs().max() <= case.rounding * expected.abs().max()

    return check


@pytest.fixture
def saved(network: Network, tmp_path: Path) -> Path:
    """The ControlNet as a training run saves it."""
    network.save(tmp_path / "source", description={"condition": "canny"})
    return tmp_path / "source"
