"""Transformers folders as the hub holds them: the true classes, small, with random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def save(folder: Path, build: Callable[[], Any], processor: Any) -> Any:
    """Save model and processor to the folder; returns the model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval().requires_grad_(False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def dpt_hybrid(folder: Path) -> Any:
    """The structure of Intel/dpt-hybrid-midas: a BiT backbone below a vision transformer."""
    backbone = {
        "model_type": "bit",
        "embedding_size": 16,
        "hidden_sizes": [16, 32, 64],
        "depths": [1, 1, 1],
        "layer_type": "bottleneck",
        "out_features": STAGES[:3],
        "embedding_dynamic_padding": True,
        "num_groups": 4,
        "global_padding": "SAME",
    }
    config = t.DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=64,
        is_hybrid=True,
        backbone_config=backbone,
        backbone_featmap_shape=[1, 64, 4, 4],
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 32, 16, 16],
        fusion_hidden_size=16,
        neck_ignore_stages=[0, 1],
        readout_type="project",
        reassemble_factors=[1, 1, 1, 0.5],
    )
    processor = t.DPTImageProcessor(
        size={"height": 64, "width": 64}, keep_aspect_ratio=True, ensure_multiple_of=32
    )
    return save(folder, lambda: t.DPTForDepthEstimation(config), processor)


def depth_anything(folder: Path) -> Any:
    backbone = t.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=STAGES,
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = t.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        patch_size=14,
    )
    processor = t.DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    return save(folder, lambda: t.DepthAnythingForDepthEstimation(config), processor)


def zoedepth(folder: Path) -> Any:
    backbone = t.BeitConfig(
        image_size=64,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        out_features=STAGES,
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = t.ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        bin_embedding_dim=8,
        num_attractors=[4, 2, 1, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 1e-3, "max_depth": 10.0, "name": "nyu"}],
        num_patch_transformer_layers=1,
        patch_transformer_hidden_size=16,
        patch_transformer_intermediate_size=16,
        patch_transformer_num_attention_heads=2,
    )
    processor = t.ZoeDepthImageProcessor(size={"height": 64, "width": 64}, ensure_multiple_of=32)
    return save(folder, lambda: t.ZoeDepthForDepthEstimation(config), processor)


def upernet(folder: Path, *, labels: int = 150) -> Any:
    """The structure of openmmlab/upernet-convnext-small."""
    backbone = t.ConvNextConfig(
        hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES
    )
    config = t.UperNetConfig(
        backbone_config=backbone,
        hidden_size=16,
        num_labels=labels,
        auxiliary_in_channels=16,
        auxiliary_channels=8,
    )
    processor = t.SegformerImageProcessor(size={"height": 64, "width": 64})

    def build() -> Any:
        model = t.UperNetForSemanticSegmentation(config)
        model.decode_head.classifier.weight.data *= 50  # else all classes score alike
        return model

    return save(folder, build, processor)


def rt_detr(folder: Path) -> Any:
    """The structure of PekingU/rtdetr_r50vd_coco_o365, for whom everything is a person."""
    backbone = t.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=STAGES[1:],
    )
    config = t.RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[16, 16, 16],
        decoder_in_channels=[16, 16, 16],
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_layers=1,
        encoder_layers=1,
        num_queries=3,
        num_denoising=0,
        num_labels=1,
    )
    processor = t.RTDetrImageProcessor(size={"height": 64, "width": 64})
    return save(folder, lambda: t.RTDetrForObjectDetection(config), processor)


def vitpose(folder: Path) -> Any:
    """The structure of usyd-community/vitpose-base-simple."""
    backbone = t.VitPoseBackboneConfig(
        image_size=[64, 48],
        patch_size=[16, 16],
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        out_indices=[2],
        out_features=["stage2"],
    )
    config = t.VitPoseConfig(backbone_config=backbone, num_labels=17, use_simple_decoder=True)
    processor = t.VitPoseImageProcessor(size={"height": 64, "width": 48})

    def build() -> Any:
        return t.VitPoseForPoseEstimation(config)

    return save(folder, build, processor)


def maskformer(folder: Path, *, labels: int = 171) -> Any:
    """The structure of facebook/maskformer-resnet101-coco-stuff."""
    backbone = t.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES
    )
    decoder = t.DetrConfig(
        encoder_layers=1,
        decoder_layers=1,
        d_model=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
        backbone_config=backbone,
    )
    config = t.MaskFormerConfig(
        fpn_feature_size=32,
        mask_feature_size=16,
        backbone_config=backbone,
        decoder_config=decoder,
        num_labels=labels,
    )
    processor = t.MaskFormerImageProcessor(size={"height": 64, "width": 64}, size_divisor=32)

    def build() -> Any:
        model = t.MaskFormerForInstanceSegmentation(config)
        model.class_predictor.weight.data *= 50  # else all classes score alike
        return model

    return save(folder, build, processor)


def oneformer(folder: Path, *, labels: int = 150) -> Any:
    """The structure of shi-labs/oneformer_ade20k_swin_large, whose weights are a pickle."""
    backbone = t.SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
        out_features=STAGES,
    )
    letters = sorted(set("the task is semantic"))
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    config = t.OneFormerConfig(
        backbone_config=backbone,
        num_queries=5,
        hidden_dim=32,
        mask_dim=32,
        conv_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        num_attention_heads=4,
        encoder_layers=1,
        decoder_layers=2,
        query_dec_layers=1,
        text_encoder_width=32,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=len(vocabulary),
        text_encoder_n_ctx=2,
        num_labels=labels,
    )

    def build() -> Any:
        model = t.OneFormerForUniversalSegmentation(config)
        model.model.transformer_module.decoder.class_embed.weight.data *= 50
        return model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval().requires_grad_(False)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    said = {"size": {"shortest_edge": 64}, "class_info_file": "ade20k_panoptic.json"}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return model
