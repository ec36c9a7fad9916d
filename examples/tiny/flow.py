"""A transformer with the structure of Stable Diffusion 3 over the embedded base's own autoencoder
and text encoder: make, save, load, sample.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from cnctl.tiny.autoencoder import PatchAutoencoder
from examples.tiny import base as of_tiny
from examples.tiny.base import LIMITS, load_base, save_half
from examples.tiny.dataset import to_pictures
from examples.tiny.tokenizer import MAX_LENGTH

SUMMARY = "a tiny Stable Diffusion 3 for pictures of toys, trained by this project"
WIDTH, HEADS, BLOCKS = 128, 4, 8
TRAIN = {name: value for name, value in of_tiny.TRAIN.items() if name != "snr_gamma"}
TRAIN |= {"steps": 400, "learning_rate": 2e-3}
"""How to train a ControlNet for this base on a CPU."""
SHARED = {
    "captioner": "../weights/captioner",
    "text_encoder_2": "text_encoder",
    "tokenizer": "../weights/tokenizer",
    "tokenizer_2": "../weights/tokenizer",
    "vae": "../weights/vae",
}
"""Parts that the package holds once: where they are, as seen from the folder that is shipped."""


@dataclass(frozen=True)
class FlowBase:
    """The parts of a latent model that learns by flow matching, in evaluation mode, float32.

    Stable Diffusion 3 reads two CLIPs; here both are the one that `tiny` has.
    """

    vae: PatchAutoencoder
    text_encoder: CLIPTextModelWithProjection
    tokenizer: CLIPTokenizer
    transformer: SD3Transformer2DModel

    def to(self, device: str) -> "FlowBase":
        """Move the networks there."""
        for network in (self.vae, self.text_encoder, self.transformer):
            network.to(device)
        return self

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> Tensor:
        """What one CLIP makes of prompts, float32 (N, 32 + 1, width).

        The layer before the last, and behind it the prompt as a whole.
        """
        batch = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=MAX_LENGTH
        )
        tokens = torch.tensor(batch.input_ids, device=self.text_encoder.device)
        output = self.text_encoder(input_ids=tokens, output_hidden_states=True)
        return torch.cat([output.hidden_states[-2], output.text_embeds[:, None]], dim=1)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents of pictures (N, 3, H, W) in [-1, 1]."""
        latents = self.vae.encode(pictures.to(self.vae.device)).latent_dist.mode()
        return latents * self.vae.config.scaling_factor


def predict_velocity(
    transformer: SD3Transformer2DModel, noisy: Tensor, times: Tensor, states: Tensor
) -> Tensor:
    """Noise minus latents, (N, C, h, w), at times (N,) in [0, 1]; states as `FlowBase.embed`."""
    states = torch.cat([states, states], dim=-1)
    return transformer(
        hidden_states=noisy,
        timestep=1000 * times,
        encoder_hidden_states=states[:, :-1],
        pooled_projections=states[:, -1],
        return_dict=False,
    )[0]


@torch.no_grad()
def fresh_transformer() -> SD3Transformer2DModel:
    """4.7 M parameters; its blocks change nothing at first, and it predicts zero."""
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=8,
        out_channels=8,
        num_layers=BLOCKS,
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        caption_projection_dim=WIDTH,
        joint_attention_dim=256,
        pooled_projection_dim=256,
        pos_embed_max_size=32,
        qk_norm="rms_norm",
    )
    for name, module in transformer.named_modules():
        if name.endswith((".norm1.linear", ".norm1_context.linear")) or name == "proj_out":
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
    return transformer


def load_flow_base(folder: Path) -> FlowBase:
    """The parts from a diffusers folder."""
    return FlowBase(
        PatchAutoencoder.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval(),
        CLIPTextModelWithProjection.from_pretrained(
            folder / "text_encoder", dtype=torch.float32
        ).eval(),
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        SD3Transformer2DModel.from_pretrained(
            folder / "transformer", torch_dtype=torch.float32
        ).eval(),
    )


def make_flow_base(folder: Path, start: Path, *, seed: int = 0) -> None:
    """Write a base with a fresh transformer, and with the other parts of the base at `start`."""
    torch.manual_seed(seed)
    for part in ("vae", "tokenizer", "captioner"):
        shutil.copytree(start / part, folder / part)
    shutil.copytree(start / "tokenizer", folder / "tokenizer_2")
    for part in ("text_encoder", "text_encoder_2"):
        save_half(with_projection(load_base(start).text_encoder), folder / part)
    save_half(fresh_transformer(), folder / "transformer")
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    write_flow_index(folder)


@torch.no_grad()
def with_projection(text_encoder: nn.Module) -> CLIPTextModelWithProjection:
    """The same encoder with a projection of the prompt as a whole, which changes nothing."""
    config = CLIPTextConfig.from_dict(text_encoder.config.to_dict())
    projected = CLIPTextModelWithProjection(config)
    weights = {
        name if name.startswith("text_model.") else f"text_model.{name}": tensor
        for name, tensor in text_encoder.state_dict().items()
    }
    identity = torch.eye(config.projection_dim)
    projected.load_state_dict(weights | {"text_projection.weight": identity})
    return projected


def write_flow_index(folder: Path, *, guidance_scale: float = 3.0) -> None:
    """Write model_index.json: what makes the parts one pipeline."""
    index = {
        "_class_name": "StableDiffusion3Pipeline",
        "_diffusers_version": "0.42.1",
        "cnctl": {
            "guidance_scale": guidance_scale,
            "steps": 20,
            "resolution": 128,
            "summary": SUMMARY,
            "limits": LIMITS,
            "default_prompt": "",
            "max_sequence_length": 0,
            "parts": SHARED,
            "captioner": ["cnctl.tiny.captioner", "SceneCaptioner"],
            "train": TRAIN,
        },
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_3": [None, None],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "tokenizer_3": [None, None],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["cnctl.tiny.autoencoder", "PatchAutoencoder"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


@torch.no_grad()
def sample_flow(
    base: FlowBase,
    prompts: Sequence[str],
    *,
    guidance_scale: float,
    seed: int = 0,
    steps: int = 20,
) -> NDArray[np.uint8]:
    """Pictures uint8 (N, 128, 128, 3), by Euler's method at evenly spaced times."""
    count, device = len(prompts), base.transformer.device
    shape = (count, base.transformer.config.in_channels, 16, 16)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    states = torch.cat([base.embed([""]).expand(count, -1, -1), base.embed(list(prompts))])
    for step in range(steps, 0, -1):
        times = torch.full((2 * count,), step / steps, device=device)
        double = torch.cat([latents, latents])
        without, wanted = predict_velocity(base.transformer, double, times, states).chunk(2)
        latents = latents - (without + guidance_scale * (wanted - without)) / steps
    return to_pictures(base.vae.decode(latents / base.vae.config.scaling_factor).sample)
