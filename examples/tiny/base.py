"""The tiny base's parts as an ordinary diffusers folder: make, save, load."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, ModelMixin, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from cnctl.tiny import WEIGHTS
from cnctl.tiny.autoencoder import PatchAutoencoder
from examples.tiny.tokenizer import MAX_LENGTH

SUMMARY = "a tiny Stable Diffusion for pictures of toys, trained by this project"
LIMITS = (
    "It draws sixteen toys (cat, dog, house, tree, car, boat, person, flower, cup, fish, bird, "
    "ball, star, heart, sun, mountain) in twelve colours before simple backgrounds, at 128x128. "
    "It knows no other words and no photographs."
)
TRAIN = {
    "steps": 300,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "snr_gamma": 5.0,
    "preview_every": 50,
    "preview_steps": 10,
    "checkpoint_every": 100,
}
"""How to train a ControlNet for this base on a CPU."""


@dataclass(frozen=True)
class Base:
    """The parts of a latent diffusion model, in evaluation mode, float32."""

    vae: PatchAutoencoder
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler

    def to(self, device: str) -> "Base":
        """Move the networks there."""
        for network in (self.vae, self.text_encoder, self.unet):
            network.to(device)
        return self

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> Tensor:
        """The text encoder's last hidden states, float32 (N, 32, width)."""
        batch = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=MAX_LENGTH
        )
        tokens = torch.tensor(batch.input_ids, device=self.text_encoder.device)
        return self.text_encoder(input_ids=tokens).last_hidden_state

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents as the U-Net sees them, of pictures (N, 3, H, W) in [-1, 1]."""
        latents = self.vae.encode(pictures.to(self.vae.device)).latent_dist.mode()
        return latents * self.vae.config.scaling_factor


def load_base(folder: Path = WEIGHTS) -> Base:
    """The parts from a diffusers folder."""
    return Base(
        PatchAutoencoder.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval(),
        CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval(),
        DDIMScheduler.from_pretrained(folder / "scheduler"),
    )


def fresh_unet() -> UNet2DConditionModel:
    """Stable Diffusion's U-Net at a small size: 12 skips and a middle block."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        layers_per_block=2,
        block_out_channels=(48, 64, 96, 128),
        norm_num_groups=16,
        cross_attention_dim=128,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def stable_diffusion_scheduler() -> DDIMScheduler:
    """Stable Diffusion's own noise schedule, as its DDIM configuration has it."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        timestep_spacing="leading",
    )


def write_index(folder: Path, *, guidance_scale: float) -> None:
    """Write model_index.json and the scheduler: what makes the parts one pipeline."""
    stable_diffusion_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "cnctl": {
            "guidance_scale": guidance_scale,
            "resolution": 128,
            "summary": SUMMARY,
            "limits": LIMITS,
            "default_prompt": "",
            "captioner": ["cnctl.tiny.captioner", "SceneCaptioner"],
            "train": TRAIN,
        },
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["cnctl.tiny.autoencoder", "PatchAutoencoder"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def read_guidance_scale(folder: Path) -> float:
    """The guidance scale that the base recommends in its model_index.json."""
    return float(json.loads((folder / "model_index.json").read_text())["cnctl"]["guidance_scale"])


def save_half(model: ModelMixin, folder: Path) -> None:
    """Save a copy in float16; the model itself stays as it is, and where it is."""
    copy.deepcopy(model).half().save_pretrained(folder)
    forget_origin(folder)


def forget_origin(folder: Path) -> None:
    """Drop the path that the weights once came from out of their configuration."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
