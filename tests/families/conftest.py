"""The families that the contract suite runs over, each as a base of reduced width."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    MultiControlNetModel,
    QwenImageControlNetModel,
    QwenImageControlNetPipeline,
    QwenImageImg2ImgPipeline,
    QwenImageInpaintPipeline,
    SD3ControlNetModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    ZImageControlNetModel,
    ZImageControlNetPipeline,
    ZImageImg2ImgPipeline,
    ZImageInpaintPipeline,
)
from diffusers.models.controlnets.controlnet_flux import FluxMultiControlNetModel
from diffusers.models.controlnets.controlnet_sd3 import SD3MultiControlNetModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.network import Network
from cnctl.models.text_features import TextFeatures
from cnctl.settings import TrainSettings

Sizes = list[tuple[int, ...]]


def kl_encoded(base: Base, pixels: Tensor) -> Tensor:
    config = base.vae.config
    mode = base.vae.encode(pixels).latent_dist.mode()
    return (mode - (config.shift_factor or 0.0)) * config.scaling_factor


def kl_decoded(base: Base, latents: Tensor) -> Tensor:
    config = base.vae.config
    unscaled = latents / config.scaling_factor + (config.shift_factor or 0.0)
    return base.vae.decode(unscaled).sample


@dataclass(frozen=True, kw_only=True)
class Reference:
    """diffusers' own classes for a family, and how they are called.

    text_to_image, image_to_image, inpainting: pipelines; None where it has none. hint_argument:
    what the first calls its hint; own_hint: a hint in [0, 1] as it takes it. own_network: a
    ControlNet of ours as it takes it. several: what makes one of several; None where it takes one
    alone. edits_with_control: whether the other pipelines take one. guided: the arguments that mean
    guidance of this scale. latents: of what a pipeline returns, at 64x80 pixels. read: tokens and
    pooled prompts of what its `encode_prompt` returns. encode: scaled latents of (base, pixels in
    [-1, 1]) by the autoencoder; decode: the reverse. residuals: by its network, of (base, network,
    latents, timesteps, text, hint, sizes). predict: by the base's, of (base, latents, timesteps,
    text, sizes, residuals).
    """

    denoiser: str = "UNet2DConditionModel"
    controlnet: Any = ControlNetModel
    several: Any = MultiControlNetModel
    scheduler: Any = EulerDiscreteScheduler
    text_to_image: Any = StableDiffusionControlNetPipeline
    image_to_image: Any = StableDiffusionControlNetImg2ImgPipeline
    inpainting: Any = StableDiffusionControlNetInpaintPipeline
    hint_argument: str = "image"
    own_hint: Callable[[Tensor], Tensor] = lambda hint: hint
    own_network: Callable[[Any], Any] = lambda network: network
    edits_with_control: bool = True
    guided: Callable[[float], dict[str, float]] = lambda scale: {"guidance_scale": scale}
    latents: Callable[[Tensor], Tensor] = lambda returned: returned
    read: Callable[..., tuple[Tensor, Any]] = lambda tokens, _, pooled=None, *others: (
        tokens,
        pooled,
    )
    encode: Callable[[Base, Tensor], Tensor] = kl_encoded
    decode: Callable[[Base, Tensor], Tensor] = kl_decoded
    residuals: Callable[..., list[Tensor]]
    predict: Callable[..., Tensor]


def extra_conditions(text: TextFeatures, sizes: Sizes) -> dict[str, Any]:
    """What SDXL's networks read besides the prompt; nothing where there are no pooled texts."""
    if text.pooled is None:
        return {}
    return {"added_cond_kwargs": {"text_embeds": text.pooled, "time_ids": torch.tensor(sizes)}}


def unet_residuals(
    base: Base, network: Any, latents: Tensor, timesteps: Tensor, text: TextFeatures, hint: Tensor,
    sizes: Sizes,
) -> list[Tensor]:  # fmt: skip
    down, middle = ControlNetModel.forward(
        network, latents, timesteps, text.tokens, hint, return_dict=False,
        **extra_conditions(text, sizes),
    )  # fmt: skip
    return [*down, middle]


def unet_prediction(
    base: Base, latents: Tensor, timesteps: Tensor, text: TextFeatures, sizes: Sizes,
    residuals: list[Tensor],
) -> Tensor:  # fmt: skip
    *down, middle = residuals
    return base.denoiser(
        latents, timesteps, text.tokens, down_block_additional_residuals=down,
        mid_block_additional_residual=middle, **extra_conditions(text, sizes),
    ).sample  # fmt: skip


def sd3_residuals(
    base: Base, network: Any, latents: Tensor, timesteps: Tensor, text: TextFeatures, hint: Tensor,
    sizes: Sizes,
) -> list[Tensor]:  # fmt: skip
    """As diffusers' pipeline calls it, with the mode in place of a sample of the hint's latents."""
    config, pooled = base.vae.config, text.pooled
    zeros = network.config.force_zeros_for_pooled_projection
    shift = 0 if zeros else config.shift_factor
    encoded = base.vae.encode(2 * hint - 1).latent_dist.mode()
    [samples] = SD3ControlNetModel.forward(
        network, latents, (encoded - shift) * config.scaling_factor, return_dict=False,
        timestep=timesteps.expand(len(latents)), encoder_hidden_states=text.tokens,
        pooled_projections=torch.zeros_like(pooled) if zeros else pooled,
    )  # fmt: skip
    return list(samples)


def sd3_prediction(
    base: Base, latents: Tensor, timesteps: Tensor, text: TextFeatures, sizes: Sizes,
    residuals: list[Tensor],
) -> Tensor:  # fmt: skip
    return base.denoiser(
        latents, text.tokens, text.pooled, timesteps.expand(len(latents)), residuals
    ).sample


def flux_places(base: Base, latents: Tensor, text: TextFeatures) -> dict[str, Tensor]:
    """As diffusers' pipeline makes them."""
    rows, columns = (side // 2 for side in latents.shape[2:])
    places = FluxControlNetPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float)
    return {"img_ids": places, "txt_ids": torch.zeros(text.tokens.shape[1], 3)}


def flux_packed(latents: Tensor) -> Tensor:
    return FluxControlNetPipeline._pack_latents(latents, *latents.shape)


def flux_residuals(
    base: Base, network: Any, latents: Tensor, timesteps: Tensor, text: TextFeatures, hint: Tensor,
    sizes: Sizes,
) -> list[Tensor]:  # fmt: skip
    config, count = base.vae.config, len(latents)
    encoded = base.vae.encode(2 * hint - 1).latent_dist.mode()
    encoded = (encoded - config.shift_factor) * config.scaling_factor
    double, single = FluxControlNetModel.forward(
        network, flux_packed(latents), flux_packed(encoded),
        timestep=timesteps.expand(count) / 1000, encoder_hidden_states=text.tokens,
        pooled_projections=text.pooled, guidance=torch.full((count,), 3.5), return_dict=False,
        **flux_places(base, latents, text),
    )  # fmt: skip
    return [*double, *(single or ())]


def flux_prediction(
    base: Base, latents: Tensor, timesteps: Tensor, text: TextFeatures, sizes: Sizes,
    residuals: list[Tensor],
) -> Tensor:  # fmt: skip
    count = len(latents)
    tokens = base.denoiser(
        flux_packed(latents), text.tokens, text.pooled, timesteps.expand(count) / 1000,
        guidance=torch.full((count,), 3.5), controlnet_block_samples=residuals,
        **flux_places(base, latents, text),
    ).sample  # fmt: skip
    height, width = (8 * side for side in latents.shape[2:])
    return FluxControlNetPipeline._unpack_latents(tokens, height, width, 8)


def zimage_network(network: Any) -> Any:
    """diffusers', which takes layers of the base into itself."""
    config = {name: value for name, value in network.config.items() if name[0] != "_"}
    own = ZImageControlNetModel(**config)
    own.load_state_dict(network.state_dict())
    return own


def zimage_inputs(latents: Tensor, timesteps: Tensor, text: TextFeatures) -> tuple[Any, ...]:
    """As diffusers' pipeline has them."""
    masks = text.tokens.new_ones(text.tokens.shape[:2]).bool() if text.mask is None else text.mask
    captions = [tokens[mask] for tokens, mask in zip(text.tokens, masks, strict=True)]
    time = (1000 - timesteps.expand(len(latents))) / 1000
    return list(latents.unsqueeze(2).unbind()), time, captions


def zimage_residuals(
    base: Base, network: Any, latents: Tensor, timesteps: Tensor, text: TextFeatures, hint: Tensor,
    sizes: Sizes,
) -> list[Tensor]:  # fmt: skip
    config = base.vae.config
    encoded = base.vae.encode(2 * hint - 1).latent_dist.mode()
    encoded = (encoded - config.shift_factor) * config.scaling_factor
    own = ZImageControlNetModel.from_transformer(zimage_network(network), base.denoiser)
    found = own(*zimage_inputs(latents, timesteps, text), encoded.unsqueeze(2))
    return [*found.values()]


def zimage_prediction(
    base: Base, latents: Tensor, timesteps: Tensor, text: TextFeatures, sizes: Sizes,
    residuals: list[Tensor],
) -> Tensor:  # fmt: skip
    added = {5 * number: residual for number, residual in enumerate(residuals)}
    given = zimage_inputs(latents, timesteps, text)
    predicted = base.denoiser(*given, controlnet_block_samples=added).sample
    return -torch.stack(predicted).squeeze(2)


OF_ZIMAGE: dict[str, Any] = {
    "denoiser": "ZImageTransformer2DModel",
    "controlnet": ZImageControlNetModel,
    "several": None,
    "scheduler": FlowMatchEulerDiscreteScheduler,
    "text_to_image": ZImageControlNetPipeline,
    "image_to_image": ZImageImg2ImgPipeline,
    "inpainting": ZImageInpaintPipeline,
    "hint_argument": "control_image",
    "own_hint": lambda hint: 2 * hint - 1,
    "own_network": zimage_network,
    "edits_with_control": False,
    "guided": lambda scale: {"guidance_scale": scale - 1},
    "read": lambda tokens, _: (pad_sequence(tokens, batch_first=True), None),
    "residuals": zimage_residuals,
    "predict": zimage_prediction,
}
OF_FLUX: dict[str, Any] = {
    "denoiser": "FluxTransformer2DModel",
    "controlnet": FluxControlNetModel,
    "several": FluxMultiControlNetModel,
    "scheduler": FlowMatchEulerDiscreteScheduler,
    "text_to_image": FluxControlNetPipeline,
    "image_to_image": FluxImg2ImgPipeline,
    "inpainting": FluxInpaintPipeline,
    "hint_argument": "control_image",
    "own_hint": lambda hint: 2 * hint - 1,
    "edits_with_control": False,
    "guided": lambda scale: {"true_cfg_scale": scale, "guidance_scale": 3.5},
    "latents": lambda tokens: FluxControlNetPipeline._unpack_latents(tokens, 64, 80, 8),
    "read": lambda tokens, pooled, ids: (tokens, pooled),
    "residuals": flux_residuals,
    "predict": flux_prediction,
}


def qwen_statistics(base: Base) -> list[Tensor]:
    config = base.vae.config
    known = (config.latents_mean, config.latents_std)
    return [torch.tensor(values).view(1, config.z_dim, 1, 1, 1) for values in known]


def qwen_encoded(base: Base, pixels: Tensor) -> Tensor:
    mean, deviation = qwen_statistics(base)
    encoded = base.vae.encode(pixels.unsqueeze(2)).latent_dist.mode()
    return ((encoded - mean) / deviation).squeeze(2)


def qwen_decoded(base: Base, latents: Tensor) -> Tensor:
    mean, deviation = qwen_statistics(base)
    return base.vae.decode(latents.unsqueeze(2) * deviation + mean).sample[:, :, 0]


def qwen_residuals(
    base: Base, network: Any, latents: Tensor, timesteps: Tensor, text: TextFeatures, hint: Tensor,
    sizes: Sizes,
) -> list[Tensor]:  # fmt: skip
    return QwenImageControlNetModel.forward(
        network, flux_packed(latents), flux_packed(qwen_encoded(base, 2 * hint - 1)),
        encoder_hidden_states=text.tokens, encoder_hidden_states_mask=text.mask,
        timestep=timesteps.expand(len(latents)) / 1000, return_dict=False,
        img_shapes=[(1, *(side // 2 for side in latents.shape[2:]))] * len(latents),
    )  # fmt: skip


def qwen_prediction(
    base: Base, latents: Tensor, timesteps: Tensor, text: TextFeatures, sizes: Sizes,
    residuals: list[Tensor],
) -> Tensor:  # fmt: skip
    tokens = base.denoiser(
        flux_packed(latents), text.tokens, text.mask, timesteps.expand(len(latents)) / 1000,
        [(1, *(side // 2 for side in latents.shape[2:]))] * len(latents),
        controlnet_block_samples=residuals,
    ).sample  # fmt: skip
    height, width = (8 * side for side in latents.shape[2:])
    return FluxControlNetPipeline._unpack_latents(tokens, height, width, 8)


OF_QWEN: dict[str, Any] = {
    "denoiser": "QwenImageTransformer2DModel",
    "controlnet": QwenImageControlNetModel,
    "several": None,
    "scheduler": FlowMatchEulerDiscreteScheduler,
    "text_to_image": QwenImageControlNetPipeline,
    "image_to_image": QwenImageImg2ImgPipeline,
    "inpainting": QwenImageInpaintPipeline,
    "hint_argument": "control_image",
    "own_hint": lambda hint: 2 * hint - 1,
    "edits_with_control": False,
    "guided": lambda scale: {"true_cfg_scale": scale},
    "latents": lambda tokens: FluxControlNetPipeline._unpack_latents(tokens, 64, 80, 8),
    "read": lambda tokens, mask: (tokens, None),
    "encode": qwen_encoded,
    "decode": qwen_decoded,
    "residuals": qwen_residuals,
    "predict": qwen_prediction,
}
OF_UNET: dict[str, Any] = {"residuals": unet_residuals, "predict": unet_prediction}
OF_SDXL: dict[str, Any] = OF_UNET | {
    "text_to_image": StableDiffusionXLControlNetPipeline,
    "image_to_image": StableDiffusionXLControlNetImg2ImgPipeline,
    "inpainting": StableDiffusionXLControlNetInpaintPipeline,
}
OF_SD3: dict[str, Any] = {
    "denoiser": "SD3Transformer2DModel",
    "controlnet": SD3ControlNetModel,
    "several": SD3MultiControlNetModel,
    "scheduler": FlowMatchHeunDiscreteScheduler,
    "text_to_image": StableDiffusion3ControlNetPipeline,
    "image_to_image": StableDiffusion3Img2ImgPipeline,
    "inpainting": StableDiffusion3InpaintPipeline,
    "hint_argument": "control_image",
    "own_hint": lambda hint: 2 * hint - 1,  # for it scales images, and not tensors
    "edits_with_control": False,
    "residuals": sd3_residuals,
    "predict": sd3_prediction,
}


@dataclass(frozen=True, kw_only=True)
class FamilyCase:
    """What the contract suite needs to know of a family.

    name: of `Family`. part: of its denoiser. published: the config of the denoiser that the family
    is known by. base: the fixture of a folder, or a short name. schedulers: one by one step, one by
    two, by their short names. forms: the layouts of a ControlNet's file that convert writes.
    rounding: by how much two orders of the same sums differ after a few steps, as a share of the
    largest latent; trained weights make it larger than random ones.
    """

    name: str
    part: str = "unet"
    published: Mapping[str, Any]
    base: str
    reference: Reference
    scheduler: str = "ddim"
    another_scheduler: str = "euler"
    forms: tuple[str, ...] = ("diffusers", "original", "bare")
    rounding: float = 1e-5


SD_WIDTHS = [320, 640, 1280, 1280]
CASES = (
    FamilyCase(
        name="SD 1.x",
        published={"block_out_channels": SD_WIDTHS, "cross_attention_dim": 768},
        base="random_base",
        reference=Reference(**OF_UNET),
    ),
    FamilyCase(
        name="SD 2.x",
        published={"block_out_channels": SD_WIDTHS, "cross_attention_dim": 1024},
        base="random_sd2_base",
        reference=Reference(**OF_UNET),
    ),
    FamilyCase(
        name="SDXL",
        published={"block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048},
        base="random_sdxl_base",
        reference=Reference(**OF_SDXL),
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
        rounding=1e-4,
        # diffusers keeps what is masked on latents of 4 channels only
        reference=Reference(**OF_UNET, inpainting=None),
    ),
    FamilyCase(
        name="SD3.5 medium",
        part="transformer",
        published={
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "qk_norm": "rms_norm",
            "dual_attention_layers": list(range(13)),
        },
        base="random_sd3_base",
        scheduler="flow_match_euler",
        another_scheduler="flow_match_heun",
        forms=("diffusers",),
        reference=Reference(**OF_SD3),
    ),
    FamilyCase(
        name="FLUX.1",
        part="transformer",
        published={"num_layers": 19, "num_single_layers": 38, "guidance_embeds": True},
        base="random_flux_base",
        scheduler="flow_match_euler",
        another_scheduler="flow_match_euler",
        forms=("diffusers",),
        reference=Reference(**OF_FLUX),
    ),
    FamilyCase(
        name="Z-Image",
        part="transformer",
        published={"dim": 3840, "n_heads": 30, "n_layers": 30},
        base="random_zimage_base",
        scheduler="flow_match_euler",
        another_scheduler="flow_match_euler",
        forms=("diffusers",),
        reference=Reference(**OF_ZIMAGE),
    ),
    FamilyCase(
        name="Qwen-Image",
        part="transformer",
        published={"num_layers": 60},
        base="random_qwen_base",
        scheduler="flow_match_euler",
        another_scheduler="flow_match_euler",
        forms=("diffusers",),
        reference=Reference(**OF_QWEN),
    ),
)


WHOLE_COMMANDS = (
    "test_training_moves_the_copy_and_resumes_bit_for_bit",
    "test_generates_and_makes_the_same_again",
    "test_it_trains_resumes_and_generates",
)
"""Tests that take seconds: slow ones but for one U-Net and one transformer."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a case over all; for inpainting, several or transformer, where it is."""
    if "case" in metafunc.fixturenames:
        needs = {"inpainting", "several"} & {*metafunc.fixturenames}
        cases = [case for case in CASES if all(getattr(case.reference, one) for one in needs)]
        if "transformer" in metafunc.fixturenames:
            cases = [case for case in cases if case.part == "transformer"]
        # SD 2.x is SD 1.x but for what test_single_file.py covers; `tiny` runs in many other tests.
        seldom = {"SD 2.x", "tiny"}
        if metafunc.function.__name__ in WHOLE_COMMANDS:
            seldom |= {case.name for case in cases} - {"SD 1.x", "Z-Image"}
        marked = [
            pytest.param(
                case,
                id=case.name,
                marks=[pytest.mark.slow] if case.name in seldom else [],
            )
            for case in cases
        ]
        metafunc.parametrize("case", marked, scope="session")


@pytest.fixture(scope="session")
def inpainting(case: FamilyCase) -> Any:
    return case.reference.inpainting


@pytest.fixture(scope="session")
def transformer(case: FamilyCase) -> str:
    return case.part


@pytest.fixture(scope="session")
def several(case: FamilyCase) -> Any:
    return case.reference.several


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
            hint_encoder=TrainSettings().hint_encoder,
            hint_start=TrainSettings().hint_start,
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
    return torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 80, 3), dtype=np.uint8)


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
