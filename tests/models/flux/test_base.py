"""Bases of FLUX.1: schedule, distilled guidance, prompts, refusals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.errors import CnctlError
from cnctl.images import write_image
from cnctl.models.base import Base
from cnctl.models.families import load_base, read_family
from cnctl.models.flux.places import image_ids
from cnctl.models.prompts import describe_length
from cnctl.models.transformer.packing import pack, unpack
from cnctl.sampling.schedulers import build_scheduler, set_timesteps


@pytest.fixture
def schnell(random_flux_base: Path, tmp_path: Path) -> Path:
    """A base that reads no scale of guidance, and does not shift by size."""
    folder = Path(shutil.copytree(random_flux_base, tmp_path / "schnell"))
    change(folder / "transformer" / "config.json", guidance_embeds=False)
    change(folder / "scheduler" / "scheduler_config.json", use_dynamic_shifting=False, shift=1.0)
    return folder


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_packing_is_that_of_diffusers_and_undone() -> None:
    latents = torch.randn(2, 16, 6, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pack(latents), FluxPipeline._pack_latents(latents, *latents.shape))
    assert torch.equal(unpack(pack(latents), 6, 8), latents)
    expected = FluxPipeline._prepare_latent_image_ids(2, 3, 4, "cpu", torch.float32)
    assert torch.equal(image_ids(latents), expected)


def test_the_schedule_shifts_with_the_size_of_the_image(flux_base: Base) -> None:
    """σ' = 1 / (1 + e^-μ (1 / σ - 1)), μ from 0.5 at 256 tokens to 1.15 at 4096."""
    for tokens, mu in ((256, 0.5), (4096, 1.15), (1024, 0.63)):
        schedule = build_scheduler(flux_base, "flow_match_euler")
        timesteps = set_timesteps(schedule, 4, flux_base.process, tokens=tokens)
        sigma = torch.linspace(1, 0.25, 4)
        expected = 1000 / (1 + np.exp(-mu) * (1 / sigma - 1))
        torch.testing.assert_close(timesteps, expected)


def test_defaults_are_those_of_the_model_cards(flux_base: Base, schnell: Path) -> None:
    own = {"steps": 28, "guidance_scale": 1.0, "distilled_guidance": 3.5}
    recipe = {"steps": 30_000, "learning_rate": 2e-5, "prompt_dropout": 0.2}
    assert flux_base.defaults == own | {"scheduler": "flow_match_euler", "train": recipe}
    fast = load_base(schnell, weights=False)
    assert (fast.defaults["steps"], fast.distilled_guidance) == (4, None)
    assert (flux_base.resolution, flux_base.size_multiple) == (1024, 16)


def test_a_prompt_longer_than_t5_reads_is_reported(flux_base: Base) -> None:
    assert describe_length(flux_base, "a " * 100) == ""
    assert "T5 reads the first 511 of 600 tokens" in describe_length(flux_base, "a " * 300)


class TestRefused:
    def test_distilled_guidance_where_the_base_reads_none(
        self, schnell: Path, write_controlnet: Callable[..., Path], tmp_path: Path
    ) -> None:
        write_image(tmp_path / "x.png", np.full((64, 64, 3), 40, np.uint8))
        request = GenerateRequest(
            controls=["canny"], images=[tmp_path / "x.png"], base=str(schnell), prompt="a",
            ready_hint=True, out=tmp_path / "o", settings={"distilled_guidance": 3.0},
            weights=[str(write_controlnet(tmp_path / "net"))],
        )  # fmt: skip
        with pytest.raises(CnctlError, match="--distilled-guidance is not supported on schnell"):
            list(generate(request))

    @pytest.mark.parametrize("channels", [128, 384])
    def test_bases_that_read_more_than_latents(self, schnell: Path, channels: int) -> None:
        """FLUX.1 Canny and Depth have twice the channels, Fill six times."""
        changes = {"in_channels": channels, "out_channels": 64}
        change(schnell / "transformer" / "config.json", **changes)
        with pytest.raises(CnctlError, match="reads more than latents") as caught:
            read_family(schnell)
        assert "flux-dev" in caught.value.hint
