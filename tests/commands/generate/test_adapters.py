"""LoRA and textual inversion on a base, against diffusers' own loaders of the same files."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from cnctl.commands.generate.adapters import (
    check_adapters,
    load_adapters,
    parse_embedding,
    parse_lora,
)
from cnctl.commands.generate.replay import replay
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.errors import CnctlError, MissingError
from cnctl.images import read_image, read_metadata, write_image
from cnctl.models.base import Base
from cnctl.models.prompts import count_chunks, encode_prompts

RANK, ALPHA = 2, 3.0
TO_SGM = {
    "down_blocks.1.attentions.0.": "input_blocks.4.1.",
    "down_blocks.1.attentions.1.": "input_blocks.5.1.",
    "down_blocks.2.attentions.0.": "input_blocks.7.1.",
    "down_blocks.2.attentions.1.": "input_blocks.8.1.",
    "mid_block.attentions.0.": "middle_block.1.",
    **{
        f"up_blocks.{b}.attentions.{i}.": f"output_blocks.{3 * b + i}.1."
        for b in (0, 1)
        for i in range(3)
    },
}
"""Stability's names, which kohya's trainers use for SDXL."""

Places = dict[tuple[str, str], tuple[Tensor, Tensor]]
"""(part, layer) -> down and up."""


def fresh(base: Base) -> Base:
    """A copy of the base, which may be changed."""
    parts = ("denoiser", "text_encoders")
    return replace(base, **{part: copy.deepcopy(getattr(base, part)) for part in parts})


@pytest.fixture(params=["SD 1.x", "SDXL"])
def untouched(
    request: pytest.FixtureRequest, loaded_random_base: Base, loaded_sdxl_base: Base
) -> Base:
    """Do not change it."""
    return loaded_random_base if request.param == "SD 1.x" else loaded_sdxl_base


@pytest.fixture
def base(untouched: Base) -> Base:
    return fresh(untouched)


def pipeline(base: Base) -> Any:
    """A pipeline of diffusers over the same weights, which it may change."""
    own = fresh(base)
    parts = {
        "vae": own.vae,
        "text_encoder": own.text_encoders[0].model,
        "tokenizer": own.text_encoders[0].tokenizer,
        "unet": own.denoiser,
        "scheduler": own.process.scheduler,
    }
    if len(own.text_encoders) > 1:
        model, tokenizer = own.text_encoders[1]
        second = {"text_encoder_2": model, "tokenizer_2": tokenizer}
        return StableDiffusionXLPipeline(**parts, **second, add_watermarker=False)
    return StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def places(base: Base, *, text: bool = True) -> Places:
    """Random factors for the layers of all attentions."""
    generator = torch.Generator().manual_seed(0)
    wanted = {"unet": ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "net.2")}
    if text:
        wanted |= {"text_encoder": ("q_proj", "fc1"), "text_encoder_2": ("q_proj", "fc1")}
    found = {}
    for part, ends in wanted.items():
        module = base.parts.get(part)
        for name, layer in module.named_modules() if module else ():
            attends = part != "unet" or "attentions" in name
            if isinstance(layer, nn.Linear | nn.Conv2d) and name.endswith(ends) and attends:
                inner, kernel = layer.weight.shape[1], layer.weight.shape[2:]
                down = torch.randn(RANK, inner, *kernel, generator=generator)
                up = torch.randn(layer.weight.shape[0], RANK, *kernel, generator=generator)
                found[part, name] = 0.1 * down, 0.1 * up
    return found


def full_name(part: str, name: str) -> str:
    """Transformers has lost a level of names that all files still have."""
    return name if part == "unet" or name.startswith("text_model") else f"text_model.{name}"


def as_kohya(factors: Places, *, sgm: bool = False) -> dict[str, Tensor]:
    two = any(part == "text_encoder_2" for part, _ in factors) or sgm
    prefixes = {"unet": "lora_unet", "text_encoder_2": "lora_te2"}
    tensors = {}
    for (part, name), (down, up) in factors.items():
        name = full_name(part, name)
        for ours, theirs in TO_SGM.items():
            name = name.replace(ours, theirs) if sgm and part == "unet" else name
        prefix = prefixes.get(part, "lora_te1" if two else "lora_te")
        key = f"{prefix}_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        tensors[f"{key}.alpha"] = torch.tensor(ALPHA)
    return tensors


def as_peft(factors: Places) -> dict[str, Tensor]:
    tensors = {}
    for (part, name), (down, up) in factors.items():
        key = f"{part}.{full_name(part, name)}"
        tensors |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    return tensors


def as_processors(factors: Places) -> dict[str, Tensor]:
    """As diffusers kept them in the attentions' processors at first."""
    tensors = {}
    for (part, name), (down, up) in factors.items():
        attention, _, layer = name.removesuffix(".0").rpartition(".")
        key = f"{part}.{attention}.processor.{layer}_lora"
        tensors |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
    return tensors


def write(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    save_file({n: t.contiguous().clone() for n, t in tensors.items()}, path, metadata or None)
    return path


def assert_equal_weights(base: Base, theirs: Any) -> None:
    for part, module in base.parts.items():
        # peft keeps what it was injected into a level deeper.
        named = getattr(theirs, part).state_dict().items()
        expected = {name.replace(".base_layer", ""): weight for name, weight in named}
        for name, weight in module.state_dict().items():
            torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


FORMS: dict[str, Callable[[Places], dict[str, Tensor]]] = {"kohya": as_kohya, "peft": as_peft}


@pytest.mark.parametrize("form", ["kohya", pytest.param("peft", marks=pytest.mark.slow)])
def test_a_lora_changes_the_base_as_diffusers_has_it(base: Base, tmp_path: Path, form: str) -> None:
    # Of kohya's files diffusers itself leaves out the text encoders' attention.
    factors = places(base, text=form != "kohya")
    path = write(tmp_path / "style.safetensors", FORMS[form](factors))
    theirs = pipeline(base)
    theirs.load_lora_weights(str(tmp_path), weight_name=path.name)
    theirs.fuse_lora(lora_scale=0.7)
    parts = {part for part, _ in factors}
    before = {part: copy.deepcopy(base.parts[part].state_dict()) for part in parts}
    loaded = load_adapters(base, [f"{path}:0.7"], [])
    for part, name in factors:
        weight = f"{name}.weight"
        assert not torch.equal(base.parts[part].state_dict()[weight], before[part][weight])
    assert_equal_weights(base, theirs)
    [lora] = loaded.loras
    assert (lora.name, lora.scale) == ("style.safetensors", 0.7)


@pytest.mark.slow
def test_stabilitys_names_in_sdxl(loaded_sdxl_base: Base, tmp_path: Path) -> None:
    # diffusers reads these names in U-Nets of two layers, as published ones have.
    two_layers = {**loaded_sdxl_base.denoiser.config, "layers_per_block": 2}
    base = replace(
        fresh(loaded_sdxl_base), denoiser=UNet2DConditionModel.from_config(two_layers).eval()
    )
    path = write(tmp_path / "xl.safetensors", as_kohya(places(base, text=False), sgm=True))
    theirs = pipeline(base)
    theirs.load_lora_weights(str(tmp_path), weight_name=path.name)
    theirs.fuse_lora()
    load_adapters(base, [str(path)], [])
    assert_equal_weights(base, theirs)


def test_the_rank_and_alpha_of_peft_stand_in_the_metadata(
    loaded_random_base: Base, tmp_path: Path
) -> None:
    base = fresh(loaded_random_base)
    factors = places(base, text=False)
    adapter = json.dumps({"unet.r": RANK, "unet.lora_alpha": ALPHA})
    path = write(tmp_path / "a.safetensors", as_peft(factors), lora_adapter_metadata=adapter)
    load_adapters(base, [str(path)], [])
    before = loaded_random_base.denoiser.state_dict()
    for (_, name), (down, up) in factors.items():
        weight = f"{name}.weight"
        change = (ALPHA / RANK * up.flatten(1) @ down.flatten(1)).reshape(before[weight].shape)
        torch.testing.assert_close(base.denoiser.state_dict()[weight], before[weight] + change)


@pytest.mark.slow
@pytest.mark.parametrize(
    "patterns",
    [
        {"to_q": 1},
        {"attn2.to_k": 2, "to_k": 8},
        {"to_k": 8, "attn2.to_k": 2},
        {r".*attn1\..*": 3},
        {"o_q": 5, "mid_block.attentions.0.transformer_blocks.0.attn1.to_v": 7},
        {"^to_q": 9},
    ],
)
@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys did not match")
def test_the_patterns_of_alpha_are_matched_as_diffusers_does(
    loaded_random_base: Base, tmp_path: Path, patterns: dict[str, int]
) -> None:
    base = fresh(loaded_random_base)
    attentions = {
        place: pair for place, pair in places(base, text=False).items() if ".to_" in place[1]
    }
    adapter = {
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["to_q", "to_k", "to_v", "to_out.0"],
    }
    adapter |= {"alpha_pattern": patterns}
    metadata = json.dumps({f"unet.{name}": value for name, value in adapter.items()})
    path = write(tmp_path / "a.safetensors", as_peft(attentions), lora_adapter_metadata=metadata)
    theirs = pipeline(base)
    theirs.load_lora_weights(str(tmp_path), weight_name=path.name)
    theirs.fuse_lora()
    load_adapters(base, [str(path)], [])
    assert_equal_weights(base, theirs)


def test_a_pattern_that_could_take_for_ever_is_refused(
    loaded_random_base: Base, tmp_path: Path
) -> None:
    base = fresh(loaded_random_base)
    adapter = json.dumps({"unet.r": RANK, "unet.alpha_pattern": {"(o+)+": 1}})
    tensors = as_peft(places(base, text=False))
    path = write(tmp_path / "a.safetensors", tensors, lora_adapter_metadata=adapter)
    with pytest.raises(CnctlError, match="alpha_pattern has"):
        load_adapters(base, [str(path)], [])


@pytest.mark.slow
def test_several_add_up_and_old_names_are_known(loaded_random_base: Base, tmp_path: Path) -> None:
    base, other = fresh(loaded_random_base), fresh(loaded_random_base)
    attentions = {
        place: pair for place, pair in places(base, text=False).items() if ".to_" in place[1]
    }
    old = write(tmp_path / "old.safetensors", as_processors(attentions))
    new = write(tmp_path / "new.safetensors", as_peft(attentions))
    loaded = load_adapters(base, [f"{old}:0.5", f"{new}:0.25"], [])
    load_adapters(other, [f"{new}:0.75"], [])
    assert len(loaded.loras) == 2
    for name, weight in base.denoiser.state_dict().items():
        torch.testing.assert_close(weight, other.denoiser.state_dict()[name])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_unet_nowhere.lora_down.weight": torch.ones(2, 2)}, "1 of 1 tensors fit nothing"),
        ({"lora_te2_text_projection.lora_up.weight": torch.ones(2, 2)}, "fit nothing in this base"),
        ({"lora_unet_conv_in.hada_w1_a": torch.ones(2, 2)}, "lora_unet_conv_in.hada_w1_a"),
        ({"lora_unet_conv_in.lora_down.weight": torch.ones(2, 4, 3, 3)}, "lacks a factor of"),
        (
            {
                "lora_unet_conv_in.lora_down.weight": torch.ones(2, 9, 3, 3),
                "lora_unet_conv_in.lora_up.weight": torch.ones(16, 2, 1, 1),
            },
            r"factors of unet's conv_in are \[16, 2, 1, 1\] and \[2, 9, 3, 3\], the weight is",
        ),
        ({"lora_unet_conv_in.alpha": torch.ones((), dtype=torch.int64)}, "has dtype I64"),
    ],
)
def test_what_fits_nothing_is_named(
    loaded_random_base: Base, tmp_path: Path, tensors: dict[str, Tensor], message: str
) -> None:
    path = write(tmp_path / "bad.safetensors", tensors)
    with pytest.raises(CnctlError, match=message):
        load_adapters(loaded_random_base, [str(path)], [])


def test_reads_what_the_flags_say(tmp_path: Path) -> None:
    assert parse_lora("a.safetensors") == (Path("a.safetensors"), 1.0)
    assert parse_lora("C:/a.safetensors:-0.5") == (Path("C:/a.safetensors"), -0.5)
    assert parse_lora("C:/a.safetensors") == (Path("C:/a.safetensors"), 1.0)
    assert parse_embedding("x/cat.pt") == (Path("x/cat.pt"), "")
    assert parse_embedding("<cat>=x/cat.pt") == (Path("x/cat.pt"), "<cat>")
    with pytest.raises(MissingError, match=r"there is no file .*no.pt"):
        check_adapters([], [str(tmp_path / "no.pt")])


def embedding_files(folder: Path, base: Base) -> dict[str, Path]:
    """The same vectors as each kind of file."""
    generator = torch.Generator().manual_seed(1)
    widths = [model.config.hidden_size for model, _ in base.text_encoders]
    vectors = [torch.randn(3, width, generator=generator) for width in widths]
    if len(vectors) == 2:
        pair = dict(zip(("clip_l", "clip_g"), vectors, strict=True))
        return {"sdxl": write(folder / "sdxl.safetensors", pair)}
    own = vectors[0]
    webui = {"string_to_token": {"*": 265}, "string_to_param": {"*": own}, "name": "x", "step": 9}
    torch.save(webui, folder / "webui.pt")
    torch.save({"<toy>": own}, folder / "diffusers.bin")
    return {
        "webui": folder / "webui.pt",
        "webui safetensors": write(folder / "webui.safetensors", {"emb_params": own}),
        "diffusers": folder / "diffusers.bin",
        "diffusers safetensors": write(folder / "d.safetensors", {"<toy>": own}),
    }


def test_an_embedding_is_read_as_diffusers_reads_it(base: Base, tmp_path: Path) -> None:
    prompt = "a red <toy> on a <toy>"
    theirs = pipeline(base)
    for kind, path in embedding_files(tmp_path, base).items():
        ours = fresh(base)
        loaded = load_adapters(ours, [], [f"<toy>={path}"])
        assert loaded.embeddings[0].word == "<toy>"
        if kind in ("sdxl", "webui"):
            vectors = [
                model.get_input_embeddings().weight[-3:].detach().clone()
                for model, _ in ours.text_encoders
            ]
            theirs.load_textual_inversion({"<toy>": vectors[0]}, token="<toy>")
            if kind == "sdxl":
                second = {"tokenizer": theirs.tokenizer_2, "text_encoder": theirs.text_encoder_2}
                theirs.load_textual_inversion({"<toy>": vectors[1]}, token="<toy>", **second)
                with torch.no_grad():
                    tokens, _, pooled, _ = theirs.encode_prompt(prompt)
            else:
                with torch.no_grad():
                    tokens, _ = theirs.encode_prompt(prompt, "cpu", 1, False)
        features = encode_prompts(ours, [prompt])
        torch.testing.assert_close(features.tokens, tokens, rtol=1e-4, atol=1e-5)
        if kind == "sdxl":
            torch.testing.assert_close(features.pooled, pooled, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(features.tokens, encode_prompts(base, [prompt]).tokens)


def test_all_vectors_of_a_word_count(loaded_random_base: Base, tmp_path: Path) -> None:
    base = fresh(loaded_random_base)
    path = write(tmp_path / "long.safetensors", {"emb_params": torch.zeros(40, 32)})
    load_adapters(base, [], [str(path)])  # its word is the file's name
    assert count_chunks(base, "long") == 1
    assert count_chunks(base, "long long") == 2
    assert count_chunks(base, "longer") == 1


def test_where_the_text_ends_does_not_move(loaded_sdxl_base: Base, tmp_path: Path) -> None:
    """Older configs take the highest token for the end, which would be the learnt word."""
    base = fresh(loaded_sdxl_base)
    for module in base.text_encoders[1].model.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = 2
    before = encode_prompts(base, ["a cat"]).pooled
    load_adapters(base, [], [f"toy={embedding_files(tmp_path, base)['sdxl']}"])
    torch.testing.assert_close(encode_prompts(base, ["a cat"]).pooled, before)
    words = encode_prompts(base, ["toy a", "toy b"]).pooled
    assert not torch.allclose(words[0], words[1])  # the end has seen what follows the word


@pytest.mark.parametrize(
    ("tensors", "flag", "message"),
    [
        ({"emb_params": torch.ones(2, 31)}, "", "vectors of 31 numbers, .* reads 32"),
        ({"clip_l": torch.ones(1, 32), "clip_g": torch.ones(1, 24)}, "", "of 32 and 24 numbers"),
        ({"emb_params": torch.ones(80, 32)}, "", r"vectors of shape \[80, 32\]"),
        (
            {"a": torch.ones(1), "b": torch.ones(1)},
            "",
            "is not a textual inversion; its tensors are a, b",
        ),
        ({"emb_params": torch.ones(1, 32)}, "a</w>=", "knows the word 'a</w>' already"),
        ({"emb_params": torch.ones(1, 32)}, "two words=", "'two words' cannot be a word"),
    ],
)
def test_refuses_embeddings(
    loaded_random_base: Base, tmp_path: Path, tensors: dict[str, Tensor], flag: str, message: str
) -> None:
    path = write(tmp_path / "x.safetensors", tensors)
    with pytest.raises(CnctlError, match=message):
        load_adapters(fresh(loaded_random_base), [], [f"{flag}{path}"])


@pytest.mark.slow
def test_images_say_what_was_added_and_are_made_again(
    random_base: Path, loaded_random_base: Base, random_controlnet: ControlNetModel, tmp_path: Path
) -> None:
    random_controlnet.save_pretrained(tmp_path / "control")
    style = write(tmp_path / "style.safetensors", as_kohya(places(loaded_random_base)))
    toy = write(tmp_path / "toy.safetensors", {"emb_params": torch.randn(2, 32)})
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    write_image(tmp_path / "photo.png", pixels)
    request = GenerateRequest(
        controls=[ControlSpec(condition="canny")],
        images=[tmp_path / "photo.png"],
        prompt="a toy",
        weights=[str(tmp_path / "control")],
        loras=[f"{style}:0.8"],
        embeddings=[f"thing={toy}"],
        base=str(random_base),
        settings={"steps": 2},
        out=tmp_path,
    )
    [made] = generate(request)
    record = json.loads(read_metadata(made.path)["cnctl"])
    assert record["loras"][0]["scale"] == 0.8
    assert record["embeddings"][0]["word"] == "thing"
    assert "a toy <lora:style:0.8>" in read_metadata(made.path)["parameters"]
    asked = GenerateRequest(
        base=str(random_base), weights=[str(tmp_path / "control")], out=tmp_path / "again"
    )
    [again] = generate(replay(made.path, asked))
    assert np.array_equal(read_image(again.path), read_image(made.path))
    style.unlink()
    asked = replace(asked, overwrite=True)
    with pytest.raises(MissingError, match=r"was made from style.safetensors, which is"):
        next(generate(replay(made.path, asked)))


@pytest.mark.parametrize("kind", ["loras", "embeddings"])
def test_what_is_for_another_family_is_refused_before_weights_are_read(
    own_base: Path, loaded_sdxl_base: Base, random_controlnet: Any, tmp_path: Path, kind: str
) -> None:
    for weights in own_base.rglob("*.safetensors"):
        weights.unlink()
    random_controlnet.save_pretrained(tmp_path / "control")
    lora = write(tmp_path / "x.safetensors", as_kohya(places(loaded_sdxl_base)))
    embedding = write(tmp_path / "y.safetensors", {"emb_params": torch.zeros(1, 7)})
    write_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    request = GenerateRequest(
        [ControlSpec(condition="canny")], [tmp_path / "a.png"], prompt="a", base=str(own_base),
        out=tmp_path / "out", weights=[str(tmp_path / "control")],
        **{kind: [str(lora if kind == "loras" else embedding)]},
    )  # fmt: skip
    what = "fit nothing in this base" if kind == "loras" else "has vectors of 7 numbers, own reads"
    with pytest.raises(CnctlError, match=what):
        list(generate(request))
