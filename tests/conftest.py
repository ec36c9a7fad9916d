"""What many tests share: one thread, no network, and a base model with random weights."""

import importlib.util
import inspect
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Torch, tokenizers and the hub's client read these when they are imported, which is later.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"  # two threads must not spin for a core that another has
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

# A shell's background job ignores Ctrl-C, and so would the commands that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    import torch
    from diffusers import ControlNetModel, ControlNetUnionModel
    from transformers import CLIPTokenizer

    from cnctl.models.base import Base

TEXT_WIDTH = 32


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """What a test draws does not depend on the tests before it."""
    random.seed(0)
    if np := sys.modules.get("numpy"):
        np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`serve` of range_server.py; what is kept of shards goes to a cache of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = Path(__file__).with_name("range_server.py")
    spec = importlib.util.spec_from_file_location("range_server", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.serve


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner of the paper's class with random weights."""
    import torch
    import transformers as t

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, "a", "red", "cat", "on", "grass", "house"]
    folder = tmp_path_factory.mktemp("captioners") / "blip"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = {"vocab_size": len(words), "num_attention_heads": 2, "initializer_range": 0.5}
    tokens = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    seen = {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "initializer_range": 0.5}
    config = t.BlipConfig(
        text_config={**small, **text, **tokens, "encoder_hidden_size": 32},
        vision_config={**small, **seen},
        projection_dim=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = t.BlipForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    images = t.BlipImageProcessor(size={"height": 32, "width": 32})
    t.BlipProcessor(images, t.BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve of 40x80 pixels, of which training at 64 pixels sees a part."""
    import numpy as np

    from cnctl.images import write_image

    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    lines = []
    for number in range(12):
        write_image(folder / f"{number}.png", rng.integers(0, 256, (40, 80, 3), dtype=np.uint8))
        lines.append(json.dumps({"image": f"{number}.png", "prompt": f"a {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of Stable Diffusion's structure at small width, with random weights.

    64x64 pixels, latents 4x8x8, 4 resolutions with one layer each, where the published ones have
    two: 8 skips and a middle block. The embedded base has all 12 skips.
    """
    import torch

    tokenizer = _tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {"vae": _vae(), "unet": _unet(), "text_encoder": _text_encoder(len(tokenizer))}
    return _save_base(
        tmp_path_factory.mktemp("bases") / "random", {**models, "tokenizer": tokenizer}
    )


@pytest.fixture(scope="session")
def random_sd2_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the structure of Stable Diffusion 2.x: linear projections, heads by block, v."""
    import torch

    tokenizer = _tokenizer(pad_token="!")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {
            "vae": _vae(),
            "unet": _unet(attention_head_dim=(2, 4, 4, 4), use_linear_projection=True),
            "text_encoder": _text_encoder(len(tokenizer), hidden_act="gelu"),
        }
    return _save_base(
        tmp_path_factory.mktemp("bases") / "random-sd2",
        {**models, "tokenizer": tokenizer},
        prediction_type="v_prediction",
    )


@pytest.fixture(scope="session")
def random_sdxl_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in SDXL's structure: two text encoders, three resolutions, sizes as inputs.

    64x64 pixels, latents 4x8x8; 6 skips and a middle block.
    """
    import torch

    tokenizer, tokenizer_2 = _tokenizer(), _tokenizer(pad_token="!")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {
            "vae": _vae(scaling_factor=0.13025),
            "unet": _sdxl_unet(),
            "text_encoder": _text_encoder(len(tokenizer)),
            "text_encoder_2": _text_encoder(len(tokenizer), width=24, projected=True),
        }
    return _save_base(
        tmp_path_factory.mktemp("bases") / "random-sdxl",
        {**models, "tokenizer": tokenizer, "tokenizer_2": tokenizer_2},
        _class_name="StableDiffusionXLPipeline",
        force_zeros_for_empty_prompt=True,
    )


@pytest.fixture(scope="session")
def random_sd3_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the structure of Stable Diffusion 3.5: a transformer, two CLIPs and T5, flow.

    64x64 pixels, latents 16x8x8, 4 blocks of tokens of 2x2 latents, two with a second attention.
    """
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    tokenizer, tokenizer_2, tokenizer_3 = _tokenizer(), _tokenizer(pad_token="!"), _t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {
            "vae": _vae(
                scaling_factor=1.5305,
                shift_factor=0.0609,
                latent_channels=16,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            "transformer": _sd3_transformer(),
            "text_encoder": _text_encoder(len(tokenizer), projected=True),
            "text_encoder_2": _text_encoder(len(tokenizer), width=24, projected=True),
            "text_encoder_3": _t5(len(tokenizer_3)),
        }
    tokenizers = {"tokenizer": tokenizer, "tokenizer_2": tokenizer_2, "tokenizer_3": tokenizer_3}
    return _save_base(
        tmp_path_factory.mktemp("bases") / "random-sd3",
        {**models, **tokenizers, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0)},
        _class_name="StableDiffusion3Pipeline",
    )


@pytest.fixture(scope="session")
def random_flux_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the structure of FLUX.1 dev: blocks of two streams and of one, CLIP and T5."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    tokenizer, tokenizer_2 = _tokenizer(), _t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {
            "vae": _vae(
                scaling_factor=0.3611,
                shift_factor=0.1159,
                latent_channels=16,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            "transformer": FluxTransformer2DModel(
                num_layers=3,
                num_single_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=2 * TEXT_WIDTH,
                pooled_projection_dim=TEXT_WIDTH,
                guidance_embeds=True,
                axes_dims_rope=(4, 6, 6),
            ),
            "text_encoder": _text_encoder(len(tokenizer)),
            "text_encoder_2": _t5(len(tokenizer_2)),
        }
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return _save_base(
        tmp_path_factory.mktemp("bases") / "random-flux",
        {**models, "tokenizer": tokenizer, "tokenizer_2": tokenizer_2, "scheduler": scheduler},
        _class_name="FluxPipeline",
    )


@pytest.fixture(scope="session")
def random_zimage_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the structure of Z-Image-Turbo: image and prompt as one sequence, and Qwen3."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel

    tokenizer = _qwen_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = ZImageTransformer2DModel(
            dim=32,
            n_layers=10,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=TEXT_WIDTH,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 64, 64],
        )
        for token in (transformer.x_pad_token, transformer.cap_pad_token):
            torch.nn.init.normal_(token)
        models = {
            "vae": _vae(
                scaling_factor=0.3611,
                shift_factor=0.1159,
                latent_channels=16,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            "transformer": transformer,
            "text_encoder": _qwen(len(tokenizer)),
        }
    return _save_base(
        tmp_path_factory.mktemp("bases") / "random-zimage",
        {
            **models,
            "tokenizer": tokenizer,
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        },
        _class_name="ZImagePipeline",
        cnctl={"resolution": 64},
    )


@pytest.fixture(scope="session")
def random_qwen_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the structure of Qwen-Image: a language model, an autoencoder for video."""
    import torch
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": TEXT_WIDTH,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {
            "vae": AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1),
            "transformer": QwenImageTransformer2DModel(
                num_layers=3,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=TEXT_WIDTH,
                axes_dims_rope=(4, 6, 6),
            ),
            "text_encoder": Qwen2_5_VLForConditionalGeneration(
                Qwen2_5_VLConfig(text_config=text, vision_config=vision)
            ),
        }
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=0.9,
        max_image_seq_len=8192,
        shift_terminal=0.02,
    )
    return _save_base(
        tmp_path_factory.mktemp("bases") / "random-qwen",
        {**models, "tokenizer": tokenizer, "scheduler": scheduler},
        _class_name="QwenImagePipeline",
    )


@pytest.fixture(scope="session")
def loaded_zimage_base(random_zimage_base: Path) -> "Base":
    """The random base of Z-Image, loaded in float32 on the CPU. Do not change it."""
    from cnctl.models.families import load_base

    return load_base(random_zimage_base)


@pytest.fixture(scope="session")
def loaded_sd3_base(random_sd3_base: Path) -> "Base":
    """The random SD3 base, loaded in float32 on the CPU. Do not change it."""
    from cnctl.models.families import load_base

    return load_base(random_sd3_base)


@pytest.fixture(scope="session")
def loaded_random_base(random_base: Path) -> "Base":
    """The random base, loaded in float32 on the CPU. Do not change it."""
    from cnctl.models.families import load_base

    return load_base(random_base)


@pytest.fixture(scope="session")
def loaded_sdxl_base(random_sdxl_base: Path) -> "Base":
    """The random SDXL base, loaded in float32 on the CPU. Do not change it."""
    from cnctl.models.families import load_base

    return load_base(random_sdxl_base)


@pytest.fixture(scope="session")
def sdxl_controlnet(loaded_sdxl_base: "Base") -> "ControlNetModel":
    """A ControlNet for it whose zero convolutions are not zero. Do not change it."""
    from cnctl.models.unet.controlnet import build_controlnet

    return fill_zero_convs(build_controlnet(loaded_sdxl_base.denoiser, seed=1), seed=1).eval()


@pytest.fixture(scope="session")
def sdxl_union(loaded_sdxl_base: "Base") -> "ControlNetUnionModel":
    """A union for it, of six kinds of hint, random all over. Do not change it."""
    import torch
    from diffusers import ControlNetUnionModel

    unet = loaded_sdxl_base.denoiser.config
    known = {
        name: unet[name]
        for name in inspect.signature(ControlNetUnionModel).parameters
        if name in unet
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        union = ControlNetUnionModel(
            **known,
            conditioning_embedding_out_channels=(4, 8, 12, 16),
            num_trans_channel=unet.block_out_channels[0],
            num_trans_head=4,
            num_proj_channel=unet.block_out_channels[0],
        )
    return fill_zero_convs(union, seed=3).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def random_controlnet(loaded_random_base: "Base") -> "ControlNetModel":
    """A ControlNet for the random base whose zero convolutions are not zero. Do not change it."""
    from cnctl.models.unet.controlnet import build_controlnet

    return fill_zero_convs(build_controlnet(loaded_random_base.denoiser, seed=1), seed=1).eval()


@pytest.fixture
def own_base(random_base: Path, tmp_path: Path) -> Path:
    """A copy of the random base that a test may spoil."""
    return Path(shutil.copytree(random_base, tmp_path / "own"))


@pytest.fixture(scope="session")
def stock_of() -> "Callable[..., Any]":
    """Diffusers' own pipeline of this kind, with a base's parts and a ControlNet."""

    def build(
        kind: Any, base: "Base", controlnet: "torch.nn.Module | None", scheduler: Any = None
    ) -> Any:
        parts: dict[str, Any] = {
            "vae": base.vae,
            "text_encoder": base.text_encoders[0].model,
            "tokenizer": base.text_encoders[0].tokenizer,
            base.family.part: base.denoiser,
            "controlnet": controlnet,
            "scheduler": scheduler or base.process.scheduler,
            "add_watermarker": False,
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        for number in (2, 3):
            present = number <= len(base.text_encoders)
            encoder = base.text_encoders[number - 1] if present else None
            parts |= {
                f"text_encoder_{number}": encoder.model if encoder else None,
                f"tokenizer_{number}": encoder.tokenizer if encoder else None,
            }
        taken = inspect.signature(kind).parameters
        pipeline = kind(**{name: part for name, part in parts.items() if name in taken})
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return build


@pytest.fixture(scope="session")
def stock(stock_of: Any) -> "Callable[..., torch.Tensor]":
    """Latents by diffusers' own pipeline of this kind, with a base's parts and a ControlNet."""

    def run(
        kind: Any,
        base: "Base",
        controlnet: "torch.nn.Module",
        *prompts: Any,
        scheduler: Any = None,
        **arguments: Any,
    ) -> "torch.Tensor":
        pipeline = stock_of(kind, base, controlnet, scheduler)
        return pipeline(*prompts, output_type="latent", **arguments).images

    return run


@pytest.fixture(scope="session")
def assert_same() -> "Callable[[torch.Tensor, torch.Tensor], None]":
    """Equal to 1e-5 of the largest latent: rounding, which guidance of 9 makes 17 times larger."""

    def check(latents: "torch.Tensor", expected: "torch.Tensor") -> None:
        assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max()

    return check


@pytest.fixture(scope="session")
def counted() -> "Callable[[torch.nn.Module], AbstractContextManager[list[int]]]":
    """What lists the batch sizes of a module's calls, as a context manager."""

    @contextmanager
    def count(module: "torch.nn.Module") -> Iterator[list[int]]:
        calls: list[int] = []
        hook = module.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
        try:
            yield calls
        finally:
            hook.remove()

    return count


def fill_zero_convs(controlnet: "ControlNetModel", *, seed: int) -> "ControlNetModel":
    """The same ControlNet with random weights where a fresh one has zeros, so that it acts."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in controlnet.parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return controlnet


def _unet(**changes: Any) -> "torch.nn.Module":
    from diffusers import UNet2DConditionModel

    config: dict[str, Any] = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (16, 32, 32, 32),
        "norm_num_groups": 8,
        "attention_head_dim": 2,
        "cross_attention_dim": TEXT_WIDTH,
    }
    return UNet2DConditionModel(**{**config, **changes})


def _sdxl_unet() -> "torch.nn.Module":
    from diffusers import UNet2DConditionModel

    pooled = TEXT_WIDTH
    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        norm_num_groups=8,
        attention_head_dim=(2, 2, 4),
        use_linear_projection=True,
        cross_attention_dim=TEXT_WIDTH + 24,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=pooled + 6 * 8,
    )


def _sd3_transformer() -> "torch.nn.Module":
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        num_layers=4,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=2 * TEXT_WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=16,
        qk_norm="rms_norm",
        dual_attention_layers=(0, 1),
    )


def _t5(vocabulary: int) -> "torch.nn.Module":
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=2 * TEXT_WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )


def _t5_tokenizer() -> Any:
    """T5's tokenizer whose words are single letters."""
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    letters = [(chr(code), -1.0) for code in range(33, 127)]
    return T5Tokenizer(vocab=special + letters, extra_ids=0, model_max_length=512)


def _qwen(vocabulary: int) -> "torch.nn.Module":
    from transformers import Qwen3Config, Qwen3Model

    return Qwen3Model(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )


def _qwen_tokenizer() -> Any:
    """Qwen's tokenizer whose words are single bytes, with a frame of a chat as Qwen3's."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    letters = sorted(ByteLevel.alphabet())
    return Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate(letters)} | {"<|endoftext|>": 256},
        merges=[],
        chat_template="{% for message in messages %}<{{ message.role }}>{{ message.content }}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
        "{% if not enable_thinking %}<think></think>{% endif %}",
    )


def _vae(**changes: Any) -> "torch.nn.Module":
    from diffusers import AutoencoderKL

    config: dict[str, Any] = {
        "layers_per_block": 1,
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 64,
    }
    return AutoencoderKL(**{**config, **changes})


def _text_encoder(
    vocabulary: int, *, width: int = TEXT_WIDTH, projected: bool = False, **changes: Any
) -> "torch.nn.Module":
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    encoder = kind(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=TEXT_WIDTH,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
            **changes,
        )
    )
    # Weighed words keep the mean of the features, which is 0 but for rounding after a fresh layer.
    (last,) = (m for name, m in encoder.named_modules() if name.endswith("final_layer_norm"))
    last.bias.data.fill_(0.1)
    return encoder


def _tokenizer(**options: str) -> "CLIPTokenizer":
    """CLIP's tokenizer whose words are single bytes: no text is unknown to it."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, **options)


def _save_base(
    folder: Path, parts: dict[str, Any], *, prediction_type: str = "epsilon", **index: Any
) -> Path:
    """Write a diffusers folder of these parts and Stable Diffusion's noise schedule."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    for name, part in {"scheduler": scheduler, **parts}.items():
        part.save_pretrained(folder / name)
        library = type(part).__module__.partition(".")[0]
        index[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "StableDiffusionPipeline", **index})
    )
    return folder
