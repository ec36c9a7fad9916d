"""The key map against diffusers' own modules, a table written by hand, and the known counts."""

from collections import Counter
from dataclasses import replace
from math import prod

import pytest
import torch
from diffusers import ControlNetModel
from hypothesis import given, settings
from hypothesis import strategies as st

from cnctl.models.unet.checkpoint.architecture import Architecture, read_architecture
from cnctl.models.unet.checkpoint.keymap import pairs

SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
SD21 = {
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}


def shapes_of(**config) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        controlnet = ControlNetModel(**config)
    return {name: tuple(tensor.shape) for name, tensor in controlnet.state_dict().items()}


@pytest.fixture(scope="module", params=[SD15, SD21], ids=["SD 1.5", "SD 2.1"])
def true_size(request) -> dict[str, tuple[int, ...]]:
    return shapes_of(**request.param)


def test_true_size_has_the_names_of_the_table_by_hand(true_size, name_by_hand) -> None:
    table = pairs(read_architecture(true_size))
    assert len(table) == 340
    assert {pair.diffusers: pair.shape for pair in table} == true_size
    assert {pair.diffusers: pair.original for pair in table} == {
        name: name_by_hand(name) for name in true_size
    }


def test_true_size_has_the_published_numbers_of_parameters(true_size) -> None:
    table = pairs(read_architecture(true_size))
    found = Counter()
    for pair in table:
        found[pair.original.split(".")[0]] += prod(pair.shape)
    expected = {
        "time_embed": 2_050_560,
        "input_hint_block": 1_086_480,
        "zero_convs": 9_840_000,
        "middle_block_out": 1_639_680,
    }
    linear = len(true_size["mid_block.attentions.0.proj_in.weight"]) == 2
    expected |= (
        {"input_blocks": 251_918_080, "middle_block": 97_693_440}
        if linear
        else {"input_blocks": 249_624_320, "middle_block": 97_038_080}
    )
    assert found == expected
    assert found.total() == (364_228_240 if linear else 361_279_120)


def test_some_official_tensors_have_their_published_shapes() -> None:
    table = {pair.original: pair.shape for pair in pairs(read_architecture(shapes_of(**SD15)))}
    assert table["input_hint_block.14.weight"] == (320, 256, 3, 3)
    assert table["input_blocks.4.0.skip_connection.weight"] == (640, 320, 1, 1)
    assert table["input_blocks.1.1.proj_in.weight"] == (320, 320, 1, 1)
    assert table["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"] == (320, 768)
    assert table["middle_block.1.transformer_blocks.0.ff.net.0.proj.weight"] == (10240, 1280)
    assert table["input_blocks.9.0.op.weight"] == (1280, 1280, 3, 3)
    assert "input_blocks.10.1.norm.weight" not in table
    assert table["zero_convs.11.0.bias"] == (1280,)


architectures = st.builds(
    lambda depths, widths, **rest: Architecture(
        widths=tuple(widths[: len(depths)]), depths=tuple(depths), **rest
    ),
    depths=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    widths=st.lists(st.integers(1, 9).map(lambda n: 8 * n), min_size=4, max_size=4),
    in_channels=st.integers(1, 9),
    hint_channels=st.integers(1, 8),
    hint_widths=st.lists(st.integers(1, 99), min_size=1, max_size=5).map(tuple),
    layers=st.integers(1, 3),
    middle_depth=st.integers(1, 2),
    text_width=st.integers(1, 99),
    linear=st.booleans(),
    label_width=st.sampled_from([0, 40]),
)


@given(architecture=architectures)
@settings(max_examples=60, deadline=None)
def test_is_a_bijection_that_either_side_gives_back(architecture) -> None:
    table = pairs(architecture)
    ours = {pair.diffusers: pair.shape for pair in table}
    theirs = {pair.original: pair.shape for pair in table}
    assert len(ours) == len(theirs) == len(table)
    assert read_architecture(ours) == architecture
    assert read_architecture(theirs) == architecture


@given(architecture=architectures)
@settings(max_examples=6, deadline=None)
def test_has_the_tensors_of_diffusers_at_any_width(architecture) -> None:
    # diffusers has one number for the depth of the last block and of the middle block.
    last = architecture.middle_depth if architecture.depths[-1] else 0
    a = replace(architecture, depths=(*architecture.depths[:-1], last))
    table = pairs(a)
    assert {pair.diffusers: pair.shape for pair in table} == shapes_of(
        block_out_channels=a.widths,
        cross_attention_dim=a.text_width,
        attention_head_dim=1,
        norm_num_groups=8,
        conditioning_channels=a.hint_channels,
        conditioning_embedding_out_channels=a.hint_widths,
        in_channels=a.in_channels,
        layers_per_block=a.layers,
        transformer_layers_per_block=[depth or a.middle_depth for depth in a.depths],
        use_linear_projection=a.linear,
        addition_embed_type="text_time" if a.label_width else None,
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=a.label_width or None,
        down_block_types=["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in a.depths],
    )
