"""How the recipe draws timesteps and prompts for the U-Net."""

import json

import numpy as np
import pytest
import torch

from examples.tiny.base import load_base
from examples.tiny.latents import NOTHING_SAID, PRAISE, Latents
from examples.tiny.train_unet import Noising


def test_timesteps_stay_in_the_schedule(monkeypatch):
    """The largest float32 below 1 rounds a place up to the end of 512."""
    below_one = float(np.nextafter(np.float32(1), np.float32(0)))
    monkeypatch.setattr(torch, "rand", lambda size, device: torch.full((size,), below_one))
    timesteps = Noising(torch.linspace(0.999, 0.01, 1000)).timesteps(512)
    assert timesteps.max() == 999
    assert timesteps.min() >= 0


def test_prompts_are_drawn_as_they_are_or_praised_or_saying_nothing(tmp_path):
    base = load_base()
    prompts = ["a cat", "a red car", "a cat"]
    np.save(
        tmp_path / "latents-00000000.npy", np.arange(6, dtype=np.float16).reshape(2, 3, 1, 1, 1)
    )
    (tmp_path / "scenes-00000000.json").write_text(json.dumps(prompts))
    data = Latents(tmp_path, base)
    latents, states = data.draw(4000, torch.Generator().manual_seed(0))
    places = latents.flatten().long() % 3
    said = [*NOTHING_SAID, *prompts, *(prompt + PRAISE for prompt in prompts)]
    known = base.embed(said).half().float()
    shares = {text: (states == state).all((1, 2)) for text, state in zip(said, known, strict=True)}
    assert torch.stack([*shares.values()]).any(0).all()
    assert shares[""].float().mean() == pytest.approx(0.1, abs=0.02)
    assert shares[NOTHING_SAID[1]].float().mean() == pytest.approx(0.05, abs=0.02)
    assert set(places[shares["a red car"]].tolist()) == {1}
    assert set(places[shares["a cat" + PRAISE]].tolist()) == {0, 2}
    assert (shares["a cat" + PRAISE] | shares["a red car" + PRAISE]).float().mean() < 0.08
