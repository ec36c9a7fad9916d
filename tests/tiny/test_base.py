"""diffusers' own pipelines run on the shipped parts."""

import json

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from cnctl.models.locate import EMBEDDED
from cnctl.tiny import WEIGHTS
from cnctl.tiny.autoencoder import PatchAutoencoder
from cnctl.tiny.scenes import HELD_OUT, render_scene


@pytest.fixture(scope="module")
def parts():
    return {
        "vae": PatchAutoencoder.from_pretrained(WEIGHTS / "vae", torch_dtype=torch.float32),
        "text_encoder": CLIPTextModel.from_pretrained(
            WEIGHTS / "text_encoder", dtype=torch.float32
        ),
        "tokenizer": CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer"),
        "unet": UNet2DConditionModel.from_pretrained(WEIGHTS / "unet", torch_dtype=torch.float32),
        "scheduler": DDIMScheduler.from_pretrained(WEIGHTS / "scheduler"),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


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
    hint = Image.fromarray(render_scene(HELD_OUT).outlines).convert("RGB")
    result = pipeline("a cat", image=hint, num_inference_steps=2, output_type="np")
    assert result.images.shape == (1, 128, 128, 3)


def test_the_unet_has_stable_diffusions_structure(parts):
    unet = parts["unet"]
    assert unet.config.addition_embed_type is None
    assert unet.config.layers_per_block == 2
    assert len(unet.config.block_out_channels) == 4
    assert sum(len(block.resnets) for block in unet.down_blocks) == 8
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
    assert len(control.controlnet_down_blocks) == 12


def test_the_weights_are_small_and_half_precision():
    files = [path for folder in EMBEDDED.values() for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 103e6
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".ckpt", ".pkl")]
    weights = [path for path in files if path.suffix == ".safetensors"]
    tensors = [tensor for path in weights for tensor in load_file(path).values()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float16}


def test_the_weights_do_not_say_where_they_were_made():
    found = [path for folder in EMBEDDED.values() for path in folder.rglob("config.json")]
    configs = [json.loads(path.read_text()) for path in found]
    assert len(configs) == 11
    assert not [config for config in configs if "_name_or_path" in config]
