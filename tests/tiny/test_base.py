"""diffusers' own pipelines run on the shipped parts."""

import json

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors.torch import load_file

from cnctl.tiny.base import WEIGHTS, load_base, write_index
from cnctl.tiny.dataset import held_out_scenes
from cnctl.tiny.optim import Average, Muon, cosine, orthogonal
from cnctl.tiny.sample import sample
from cnctl.tiny.scores import edges
from cnctl.tiny.train_unet import NOTHING_SAID, PRAISE, Latents, Noising


@pytest.fixture(scope="module")
def base():
    return load_base()


@pytest.fixture(scope="module")
def parts(base):
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return {name: getattr(base, name) for name in names} | absent


def test_the_stock_pipeline_runs(parts):
    pipeline = StableDiffusionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    result = pipeline("a red car", num_inference_steps=3, output_type="np", generator=generator)
    assert result.images.shape == (1, 128, 128, 3)
    assert np.isfinite(result.images).all()
    assert result.images.std() > 0.02


def test_the_stock_control_pipeline_runs(parts):
    control = ControlNetModel.from_pretrained(WEIGHTS / "controls" / "canny")
    pipeline = StableDiffusionControlNetPipeline(controlnet=control, **parts)
    pipeline.set_progress_bar_config(disable=True)
    hint = Image.fromarray(edges(held_out_scenes(1)[0].image)).convert("RGB")
    result = pipeline("a cat", image=hint, num_inference_steps=2, output_type="np")
    assert result.images.shape == (1, 128, 128, 3)


def test_our_sampler_agrees_with_the_stock_pipeline(base, parts):
    pipeline = StableDiffusionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    ours = sample(base, ["a red car"], guidance_scale=3.0, seed=5, steps=4)[0]
    theirs = pipeline(
        "a red car", guidance_scale=3.0, num_inference_steps=4, output_type="np",
        generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    np.testing.assert_allclose(ours / 255, theirs, atol=0.02)


def test_the_unet_has_stable_diffusions_structure(base):
    unet = base.unet
    assert unet.config.addition_embed_type is None
    assert unet.config.layers_per_block == 2
    assert len(unet.config.block_out_channels) == 4
    assert sum(len(block.resnets) for block in unet.down_blocks) == 8
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
    assert len(control.controlnet_down_blocks) == 12


def test_words_reach_the_picture(base):
    red, blue = sample(base, ["a red heart", "a blue heart"], guidance_scale=4.0, seed=1, steps=8)
    middle = slice(48, 80)
    red, blue = (p[middle, middle].reshape(-1, 3).mean(0) for p in (red, blue))
    assert red[0] - red[2] > blue[0] - blue[2] + 20


def test_the_index_recommends_defaults(tmp_path):
    shipped = json.loads((WEIGHTS / "model_index.json").read_text())
    write_index(tmp_path, guidance_scale=shipped["cnctl"]["guidance_scale"])
    assert json.loads((tmp_path / "model_index.json").read_text()) == shipped
    assert shipped["cnctl"]["resolution"] == 128
    assert shipped["_class_name"] == "StableDiffusionPipeline"


def test_the_weights_are_small_and_half_precision():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 80e6
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".ckpt", ".pkl")]
    tensors = [t for path in WEIGHTS.rglob("*.safetensors") for t in load_file(path).values()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float16}


def test_the_weights_tell_nothing_of_where_they_were_made():
    configs = [json.loads(path.read_text()) for path in WEIGHTS.rglob("config.json")]
    assert len(configs) == 12
    assert not [config for config in configs if "_name_or_path" in config]


def test_orthogonal_evens_out_singular_values():
    matrix = torch.randn(24, 60, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_muon_takes_matrices_of_one_shape_together_as_it_takes_each_alone():
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 4), (6, 4), (4, 6), (5, 2, 3, 3)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]
    together = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    alone = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    for optimizer in (Muon(together), *(Muon([parameter]) for parameter in alone)):
        for parameter, gradient in zip([*together, *alone], gradients * 2, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    for one, other, before in zip(together, alone, start, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4)  # products in bfloat16
        assert not torch.equal(one, before)


def test_timesteps_stay_in_the_schedule(monkeypatch):
    """The largest float32 below 1 rounds a place up to the end of 512."""
    below_one = float(np.nextafter(np.float32(1), np.float32(0)))
    monkeypatch.setattr(torch, "rand", lambda size, device: torch.full((size,), below_one))
    timesteps = Noising(torch.linspace(0.999, 0.01, 1000)).timesteps(512)
    assert timesteps.max() == 999
    assert timesteps.min() >= 0


def test_prompts_are_drawn_as_they_are_or_praised_or_saying_nothing(base, tmp_path):
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


def test_cosine_warms_up_and_ends_low():
    assert cosine(0.0, step=0, warm_up=10) == pytest.approx(0.1)
    assert cosine(0.0, step=50, warm_up=10) == pytest.approx(1)
    assert cosine(1.0, step=50, warm_up=10) == pytest.approx(0.01)


def test_average_swaps_back_and_forth():
    layer = torch.nn.Linear(2, 2)
    average = Average(layer.parameters(), 0.5)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)
    average.update()
    average.swap()
    assert torch.all(layer.weight > before)
    assert torch.all(layer.weight < before + 1)
    average.swap()
    torch.testing.assert_close(layer.weight.detach(), before + 1)
