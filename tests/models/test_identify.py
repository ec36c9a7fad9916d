"""Weights are recognised by tensors and classes, and named."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from cnctl.errors import CnctlError
from cnctl.models.identify import check_role, find_class, find_signature, identify
from cnctl.models.layouts import find_layout
from cnctl.models.signatures import (
    BASE,
    CONTROLNET,
    EMBEDDING,
    FLAGS,
    LORA,
    OTHER,
    SIGNATURES,
    Signature,
)
from cnctl.tensorfiles.header import TensorSpec

ONE: dict[str, Any] = {"num_layers": 1}
# Networks of diffusers: the names of their tensors are the reference.
NETWORKS = {
    "AuraFlowTransformer2DModel": ("a base of AuraFlow", {"num_mmdit_layers": 1}),
    "AutoencoderKL": ("a VAE", {}),
    "AutoencoderKLWan": ("a VAE", {}),
    "AutoencoderTiny": ("a VAE", {}),
    "ChromaTransformer2DModel": ("a base of Chroma", ONE | {"num_single_layers": 1}),
    "CogVideoXTransformer3DModel": ("a base of CogVideoX", ONE),
    "ControlNetModel": ("a ControlNet", {}),
    "ControlNetXSAdapter": ("a ControlNet-XS", {}),
    "CosmosControlNetModel": ("a ControlNet of Cosmos", {}),
    "Flux2Transformer2DModel": ("a base of FLUX.2", ONE | {"num_single_layers": 1}),
    "FluxControlNetModel": ("a ControlNet of FLUX", ONE | {"num_single_layers": 1}),
    "FluxTransformer2DModel": ("a base of FLUX", ONE | {"num_single_layers": 1}),
    "HunyuanVideoTransformer3DModel": (
        "a base of HunyuanVideo",
        ONE | {"num_single_layers": 1, "num_refiner_layers": 1},
    ),
    "LTXVideoTransformer3DModel": ("a base of LTX-Video", ONE),
    "Lumina2Transformer2DModel": ("a base of Lumina", ONE),
    "MochiTransformer3DModel": ("a base of Mochi", ONE),
    "MotionAdapter": ("a motion module (AnimateDiff)", {}),
    "PixArtTransformer2DModel": ("a base of PixArt", ONE),
    "QwenImageControlNetModel": ("a ControlNet of Qwen-Image", ONE),
    "QwenImageTransformer2DModel": ("a base of Qwen-Image", ONE),
    "SD3ControlNetModel": ("a ControlNet of Stable Diffusion 3", ONE),
    "SD3Transformer2DModel": ("a base of Stable Diffusion 3", {"num_layers": 2}),
    "SanaControlNetModel": ("a ControlNet of Sana", ONE),
    "SanaTransformer2DModel": ("a base of Sana", ONE),
    "SparseControlNetModel": ("a SparseCtrl, a ControlNet of AnimateDiff", {}),
    "StableCascadeUNet": ("a base of Stable Cascade", {}),
    "T2IAdapter": ("a T2I-Adapter", {}),
    "UNet2DConditionModel": ("a U-Net without the rest of its base", {}),
    "UNetMotionModel": ("a base for video (AnimateDiff)", {}),
    "UNetSpatioTemporalConditionModel": ("a base for video (Stable Video Diffusion)", {}),
    "WanTransformer3DModel": ("a base of Wan", ONE),
    "WanVACETransformer3DModel": ("a ControlNet of Wan (VACE)", ONE | {"vace_layers": [0]}),
    "ZImageTransformer2DModel": ("a base of Z-Image", {"n_layers": 1, "n_refiner_layers": 1}),
}
# Forms that diffusers has no class for: some of their names, as their published files have them.
FORMS: dict[str, tuple[str, ...]] = {
    "a CtrLoRA": ("control_model.input_blocks.1.1.proj_in.lora_layer.down.weight",),
    "an IP-Adapter for faces (FaceID)": ("image_proj.proj.0.weight", "ip_adapter.1.to_k_ip.weight"),
    "a LoHa of LyCORIS": ("lora_unet_down_blocks_0_resnets_0_conv1.hada_w1_a",),
    "a LoKr of LyCORIS": ("lycoris_down_blocks_0_resnets_0_conv1.lokr_w1",),
    "a DoRA": ("unet.mid_block.attentions.0.proj_in.lora_magnitude_vector", "unet.x.lora_A.weight"),
    "a LoRA for FLUX": ("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight",),
    "a LoRA for Qwen-Image": ("transformer_blocks.0.img_mlp.net.2.lora_A.default.weight",),
    "a LoRA for Z-Image": ("diffusion_model.layers.0.attention.to_q.lora_A.weight",),
    "a LoRA for Wan": ("diffusion_model.blocks.0.cross_attn.k.lora_down.weight",),
    "a LoRA for Stable Diffusion 3": (
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        "transformer.transformer_blocks.0.ff_context.net.2.lora_A.weight",
    ),
    "a difference of LyCORIS": ("lora_unet_down_blocks_0_resnets_0_conv1.diff",),
    "weights of a detector": (
        "depth_head.projects.0.weight",
        "pretrained.blocks.0.attn.qkv.weight",
    ),
    "a LoRA for a diffusion transformer": ("transformer_blocks.0.attn.to_q.lora_A.weight",),
    "a LoRA": ("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",),
    "a ControlNet-LLLite": ("lllite_unet_input_blocks_4_1.down.0.weight",),
    "a ControlNet-XS": (
        "control_model.enc_zero_convs_out.0.0.weight",
        "control_model.input_hint_block.0.weight",
    ),
    "a Uni-ControlNet": ("local_adapter.feature_extractor.pre_extractor.0.weight",),
    "a ControlNet of Kolors": (
        "controlnet_cond_embedding.conv_in.weight",
        "encoder_hid_proj.weight",
    ),
    "a ControlNet of HunyuanDiT": ("after_proj_list.0.weight", "blocks.0.attn1.Wqkv.weight"),
    "a ControlNet of PixArt": ("controlnet.0.copied_block.attn.qkv.weight",),
    "a ControlNet of FLUX (XLabs' form)": (
        "controlnet_blocks.0.weight",
        "double_blocks.0.x.weight",
    ),
    "a ControlNet of FLUX (MistoLine's form)": (
        "controlnet_blocks.0.linear.weight",
        "double_blocks.0.img_attn.qkv.weight",
    ),
    "a ControlNet of Z-Image": ("control_layers.0.before_proj.weight",),
    "a ControlNet-Union by other names than diffusers'": (
        "task_embedding",
        "input_hint_block.0.weight",
    ),
    "a ControlNet without a hint encoder": ("control_model.time_embed.0.weight",),
    "an IP-Adapter of FLUX": (
        "double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight",
        "ip_adapter_proj_model.proj.weight",
    ),
    "a PuLID": ("pulid_ca.0.norm1.weight", "pulid_encoder.latents"),
    "a T2I-Adapter for style": ("style_embedding", "transformer_layes.0.attn.in_proj_weight"),
    "a T2I-Adapter": ("body.0.in_conv.weight", "body.0.body.0.block1.weight"),
    "an ELLA": ("connector.perceiver_blocks.0.mlp.c_fc.weight", "connector.latents"),
    "a GLIGEN": ("position_net.linears.0.weight", "x.transformer_blocks.0.fuser.alpha_attn"),
    "a base of Stable Diffusion": (
        "model.diffusion_model.input_blocks.0.0.weight",
        "first_stage_model.decoder.conv_in.weight",
    ),
    "SDXL's refiner": (
        "model.diffusion_model.input_blocks.0.0.weight",
        "conditioner.embedders.0.model.positional_embedding",
    ),
    "a base of FLUX": (
        "model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale",
        "vae.decoder.conv_in.weight",
    ),
    "a base of Stable Diffusion 3": ("joint_blocks.0.context_block.attn.qkv.weight",),
    "a base of Z-Image": ("cap_pad_token", "cap_embedder.0.weight"),
    "a base of HunyuanDiT": ("mlp_t5.0.weight",),
    "a base of Wan": ("head.modulation", "blocks.0.cross_attn.k.weight"),
    "a T5 text encoder": ("encoder.block.0.layer.0.SelfAttention.q.weight",),
    "a CLIP text encoder": ("text_model.embeddings.token_embedding.weight",),
    "an image encoder": ("vision_model.embeddings.class_embedding",),
    "a language model": ("model.layers.0.self_attn.q_proj.weight",),
    "an upscaler (ESRGAN)": ("body.0.rdb1.conv1.weight", "conv_first.weight"),
    "an upscaler": ("layers.0.residual_group.blocks.0.attn.relative_position_bias_table",),
}


FLUX_LORA = "a LoRA for FLUX"
FLUX_HINT_LORA = "a LoRA for FLUX.1 that reads hints as input channels"


def specs(names: tuple[str, ...], shape: tuple[int, ...] = (4, 4)) -> dict[str, TensorSpec]:
    return dict.fromkeys(names, TensorSpec("F32", shape))


def what(row: Signature | None) -> str:
    return row.what if row else ""


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_networks_of_diffusers_are_told_by_tensors_and_by_class(name: str) -> None:
    expected, options = NETWORKS[name]
    with torch.device("meta"):
        state = getattr(diffusers, name)(**options).state_dict()
    found = {key: TensorSpec("F32", tuple(tensor.shape)) for key, tensor in state.items()}
    assert what(find_signature(found)) == expected
    assert what(find_class(name)) == expected
    parallel = {f"module.{key}": spec for key, spec in found.items()}
    assert what(find_signature(parallel)) == expected


@pytest.mark.parametrize("expected", FORMS)
def test_other_published_forms_are_told_by_their_tensors(expected: str) -> None:
    assert what(find_signature(specs(FORMS[expected]))) == expected


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (4, "a base of Stable Diffusion"),
        (5, "a base that reads depth"),
        (7, "an upscaler of Stable Diffusion"),
        (8, "a base that follows instructions (InstructPix2Pix)"),
    ],
)
def test_a_shape_tells_what_names_do_not(channels: int, expected: str) -> None:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    assert what(find_signature(specs((name,), (320, channels, 3, 3)))) == expected


@pytest.mark.parametrize(
    ("channels", "names", "expected"),
    [
        (64, ("img_in.weight", "double_blocks.0.img_mod.lin.weight"), "a base of FLUX"),
        (
            384,
            ("img_in.weight", "double_blocks.0.img_mod.lin.weight"),
            "a base of FLUX that reads more than latents (Fill, Canny, Depth)",
        ),
        (64, ("img_in.lora_A.weight", "double_blocks.0.img_mod.lin.lora_A.weight"), FLUX_LORA),
        (128, ("img_in.lora_A.weight", "vector_in.in_layer.lora_A.weight"), FLUX_HINT_LORA),
        (128, ("img_in.lora_A.weight", "double_blocks.0.img_attn.qkv.lora_A.weight"), FLUX_LORA),
    ],
)
def test_the_first_layer_of_flux_tells_what_it_reads(
    channels: int, names: tuple[str, ...], expected: str
) -> None:
    """The last is a LoRA of FLUX.2, whose latents have 128 channels."""
    assert what(find_signature(specs(names, (16, channels)))) == expected


def test_a_single_tensor_of_a_text_encoders_width_is_an_embedding() -> None:
    assert what(find_signature(specs(("<cat>",), (2, 768)))) == "an embedding (textual inversion)"
    assert find_signature(specs(("<cat>",), (2, 770))) is None
    assert find_signature(specs(("a", "b"), (2, 768))) is None


@pytest.mark.parametrize(
    ("names", "role", "message", "hint"),
    [
        (FORMS["a LoRA"], CONTROLNET, "is a LoRA, not a ControlNet", "give it with --lora"),
        (FORMS["a LoRA for FLUX"], CONTROLNET, "a LoRA for FLUX, not a", "give it with --lora"),
        (
            FORMS["a base of Stable Diffusion"],
            CONTROLNET,
            "not a ControlNet",
            "give it with --base",
        ),
        (
            FORMS["a base of HunyuanDiT"],
            BASE,
            "is a base of HunyuanDiT$",
            "--base takes those of Stable",
        ),
        (
            FORMS["a ControlNet of HunyuanDiT"],
            CONTROLNET,
            "is a ControlNet of HunyuanDiT$",
            "--control",
        ),
        (("controlnet_cond_embedding.x",), LORA, "is a ControlNet, not a LoRA", "with --control"),
        (("emb_params",), LORA, "an embedding .*, not a LoRA", "give it with --embedding"),
        (
            FORMS["an upscaler"],
            EMBEDDING,
            "an upscaler, not an embedding",
            "cnctl reads bases, ",
        ),
    ],
)
def test_a_refusal_says_what_it_is_and_which_flag_takes_it(
    tmp_path: Path, names: tuple[str, ...], role: str, message: str, hint: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(2) for name in names}, path)
    with pytest.raises(CnctlError, match=message) as caught:
        check_role(path, role)
    assert str(path) in str(caught.value)
    assert hint in caught.value.hint


def test_a_checkpoint_with_control_and_base_serves_as_either(tmp_path: Path) -> None:
    path = tmp_path / "full.safetensors"
    names = ("control_model.input_hint_block.0.weight", "model.diffusion_model.input_blocks.0.0.x")
    save_file({name: torch.zeros(2) for name in names}, path)
    assert check_role(path, CONTROLNET) is check_role(path, BASE) is not None


@pytest.mark.parametrize(
    "nested",
    [
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": {"module": tensors}, "optimizer": {"state": {0: torch.ones(2)}}},
        lambda tensors: {"ema": tensors, "step": 4},
        lambda tensors: {"state_dict": {"network": tensors}, "args": {"lr": 1e-4}},
    ],
)
def test_tensors_in_dictionaries_of_a_torch_file_are_found(tmp_path: Path, nested: Any) -> None:
    tensors = {name: torch.zeros(2) for name in FORMS["a ControlNet of Z-Image"]}
    torch.save(nested(tensors), tmp_path / "x.pth")
    assert what(identify(tmp_path / "x.pth", CONTROLNET)) == "a ControlNet of Z-Image"


def test_a_network_in_several_dictionaries_is_found(tmp_path: Path) -> None:
    groups = {
        "image_proj": {"latents": torch.zeros(2)},
        "ip_adapter": {"1.to_k_ip.weight": torch.zeros(2)},
    }
    torch.save(groups, tmp_path / "ip-adapter.bin")
    assert what(identify(tmp_path / "ip-adapter.bin", CONTROLNET)) == "an IP-Adapter"


@pytest.mark.parametrize(
    ("files", "role", "expected"),
    [
        ({"model_index.json": "Flux2Pipeline"}, BASE, "is a base of FLUX.2$"),
        ({"model_index.json": "StableDiffusion3Pipeline"}, CONTROLNET, "3, not a ControlNet$"),
        ({"model_index.json": "ZImagePipeline"}, CONTROLNET, "a base of Z-Image, not a ControlNet"),
        ({"model_index.json": "StableDiffusionXLPipeline"}, CONTROLNET, "a base of Stable Dif"),
        ({"transformer/config.json": "NewTransformer3DModel"}, BASE, "a diffusion transformer$"),
        ({"config.json": "WanTransformer3DModel"}, BASE, "is a base of Wan$"),
        ({"config.json": "SanaControlNetModel"}, CONTROLNET, "is a ControlNet of Sana$"),
        ({"config.json": "T2IAdapter"}, CONTROLNET, "is a T2I-Adapter, not a ControlNet"),
        ({"config.json": "ControlNetModel"}, BASE, "is a ControlNet, not a base"),
        ({"config.json": "NewControlNetModel"}, CONTROLNET, "a ControlNet of a form that is "),
    ],
)  # fmt: skip
def test_folders_are_named_for_what_they_are(
    tmp_path: Path, files: dict[str, str], role: str, expected: str
) -> None:
    for name, kind in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(CnctlError, match=expected):
        find_layout(tmp_path, role)


def test_the_tensors_of_a_folder_say_more_than_its_class(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "ControlNetModel"}')
    names = FORMS["a ControlNet of Kolors"]
    tensors = {name: torch.zeros(2) for name in names}
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    assert what(identify(tmp_path, CONTROLNET)) == "a ControlNet of Kolors"


def test_rows_have_a_known_role_and_a_way_to_be_told() -> None:
    for row in SIGNATURES:
        assert row.role in {*FLAGS, OTHER}, row.what
        assert row.rule or row.classes, row.what
        assert row.what.split()[0] in {"a", "an", "SDXL's", "weights"}, row.what
