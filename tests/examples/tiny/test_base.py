"""The recipe's sampler and index, on the shipped parts."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from cnctl.tiny import WEIGHTS
from examples.tiny.base import load_base, write_index
from examples.tiny.sample import sample


@pytest.fixture(scope="module")
def base():
    return load_base()


def test_our_sampler_agrees_with_the_stock_pipeline(base):
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(**vars(base), **absent)
    pipeline.set_progress_bar_config(disable=True)
    ours = sample(base, ["a red car"], guidance_scale=3.0, seed=5, steps=4)[0]
    theirs = pipeline(
        "a red car", guidance_scale=3.0, num_inference_steps=4, output_type="np",
        generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    np.testing.assert_allclose(ours / 255, theirs, atol=0.02)


@pytest.mark.slow
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
