"""The base with a transformer that the recipe makes: what trains it is what `cnctl` runs."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from cnctl.models.families import load_base
from cnctl.models.prompts import PromptOptions
from cnctl.tiny import WEIGHTS
from examples.tiny.flow import load_flow_base, make_flow_base, predict_velocity
from examples.tiny.optim import make_optimizers
from examples.tiny.train_transformer import OUTER, at_times, make_step

PROMPT = "a red car on the beach"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow") / "base"
    make_flow_base(folder, WEIGHTS)
    return folder


def test_prompts_are_read_as_by_cnctl_and_diffusers(folder: Path) -> None:
    states = load_flow_base(folder).embed([PROMPT])
    base = load_base(folder)
    features = base.family.prompts.encode(base, PROMPT, chunks=1, options=PromptOptions())
    pipeline = StableDiffusion3Pipeline(
        vae=None,
        transformer=base.denoiser,
        scheduler=base.process.scheduler,
        **{f"text_encoder{e}": m for e, (m, _) in zip(("", "_2"), base.text_encoders, strict=True)},
        **{f"tokenizer{e}": t for e, (_, t) in zip(("", "_2"), base.text_encoders, strict=True)},
        text_encoder_3=None,
        tokenizer_3=None,
    )
    tokens, _, pooled, _ = pipeline.encode_prompt(
        PROMPT, None, None, do_classifier_free_guidance=False, max_sequence_length=0
    )
    assert torch.allclose(features.tokens, tokens, atol=1e-5)
    assert torch.allclose(features.pooled, pooled, atol=1e-5)
    assert torch.allclose(torch.cat([states, states], -1)[:, :-1], tokens, atol=1e-5)
    assert torch.allclose(torch.cat([states, states], -1)[:, -1], pooled, atol=1e-5)


@pytest.mark.slow
def test_steps_learn_the_direction_from_latents_to_noise(folder: Path) -> None:
    torch.manual_seed(0)
    base = load_flow_base(folder)
    noise = torch.randn(4, 8, 16, 16)
    latents = torch.zeros_like(noise)
    times, states = torch.tensor([0.2, 0.5, 0.8, 1.0]), base.embed([PROMPT] * 4)
    noisy = at_times(latents, noise, times)
    assert torch.equal(noisy[3], noise[3])
    assert not predict_velocity(base.transformer, noisy, times, states).any()
    step = make_step(base.transformer.train(), make_optimizers(base.transformer, OUTER, rate=1.0))
    losses = [float(step(latents, noise, times, states)) for _ in range(16)]
    assert losses[0] == pytest.approx(float((noise - latents).square().mean()))
    assert losses[-1] < 0.8 * losses[0]
