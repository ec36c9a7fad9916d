"""Transformers folders as the hub holds them: the true classes, small, with random weights."""

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
