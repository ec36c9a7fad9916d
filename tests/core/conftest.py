"""What tests of the core share."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from cnctl.core.base import Base

Counted = Callable[[nn.Module], AbstractContextManager[list[int]]]
SameLatents = Callable[[Tensor, Tensor], None]


@pytest.fixture
def own_base(random_base: Path, tmp_path: Path) -> Path:
    """A copy of the random base that a test may spoil."""
    return Path(shutil.copytree(random_base, tmp_path / "own"))


@pytest.fixture(scope="session")
def stock() -> Callable[..., Tensor]:
    """Latents by diffusers' own pipeline of this kind, with a base's parts and a ControlNet."""

    def run(
        kind: Any, base: Base, controlnet: nn.Module, *prompts: Any, **arguments: Any
    ) -> Tensor:
        parts: dict[str, Any] = {
            "vae": base.vae,
            "text_encoder": base.text_encoder,
            "tokenizer": base.tokenizer,
            "unet": base.unet,
            "controlnet": controlnet,
            "scheduler": arguments.pop("scheduler", base.scheduler),
        }
        if base.text_encoder_2:
            parts |= {"text_encoder_2": base.text_encoder_2, "tokenizer_2": base.tokenizer_2}
            parts |= {"add_watermarker": False}
        else:
            parts |= {"safety_checker": None, "feature_extractor": None}
            parts |= {"requires_safety_checker": False}
        pipeline = kind(**parts)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(*prompts, output_type="latent", **arguments).images

    return run


@pytest.fixture(scope="session")
def assert_same() -> SameLatents:
    """Equal to 1e-5 of the largest latent: rounding, which guidance of 9 makes 17 times larger."""

    def check(latents: Tensor, expected: Tensor) -> None:
        assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max()

    return check


@pytest.fixture(scope="session")
def counted() -> Counted:
    """What lists the batch sizes of a module's calls, as a context manager."""

    @contextmanager
    def count(module: nn.Module) -> Iterator[list[int]]:
        calls: list[int] = []
        hook = module.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
        try:
            yield calls
        finally:
            hook.remove()

    return count
