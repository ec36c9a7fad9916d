"""Operations between a ControlNet and bases: each beside its definition, or diffusers' own."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from cnctl.commands.convert.init_from_base import init_from_base
from cnctl.commands.convert.request import ConvertRequest, InitRequest
from cnctl.commands.convert.run import convert
from cnctl.errors import CnctlError, MissingError
from cnctl.models.low_rank import split
from cnctl.models.save import save_network
from cnctl.models.unet.checkpoint.architecture import read_encoder
from cnctl.models.unet.checkpoint.keymap import decoder_names, pairs
from cnctl.models.unet.checkpoint.source import read_description
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.models.unet.load import load_controlnet
from cnctl.tensorfiles.base_update_file import load_base_update

UNET = "model.diffusion_model."
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tuned(random_base, tmp_path_factory) -> Path:
    """A fine-tune of the random base: every weight moved a little."""
    unet = UNet2DConditionModel.from_pretrained(random_base / "unet")
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    folder = tmp_path_factory.mktemp("tuned")
    unet.save_pretrained(folder / "unet")
    return folder


@pytest.fixture
def control(random_controlnet, tmp_path) -> Path:
    save_network(random_controlnet, tmp_path / "control", description={"condition": "canny"})
    return tmp_path / "control"


def state(folder: Path) -> Tensors:
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def as_original(control: Path, tmp_path: Path) -> Tensors:
    """Its tensors with `control_model.` before the original's names."""
    convert(ConvertRequest(sources=control, target=tmp_path / "as-original.safetensors"))
    return load_file(tmp_path / "as-original.safetensors")


def checkpoint(base: Path, path: Path) -> Path:
    """The base's U-Net as one file with the original's names."""
    unet = state(base / "unet")
    encoder = read_encoder({name: tuple(tensor.shape) for name, tensor in unet.items()})
    names = [(pair.diffusers, pair.original) for pair in pairs(encoder)]
    table = dict([*names, *decoder_names(encoder)])
    assert table.keys() == unet.keys()
    save_file({UNET + table[name]: tensor for name, tensor in unet.items()}, path)
    return path


# transfer


def test_transfer_is_the_tool_of_the_original(control, random_base, tuned, tmp_path) -> None:
    result = convert(
        ConvertRequest(
            sources=control, target=tmp_path / "out", from_base=random_base, to_base=tuned
        )
    )
    before, after = state(control), state(result.path)
    old, new = state(random_base / "unet"), state(tuned / "unet")
    assert before.keys() == after.keys()
    moved = 0
    for name, tensor in before.items():
        expected = tensor + (new[name] - old[name]) if name in old else tensor
        assert torch.equal(after[name], expected), name
        moved += name in old
    assert moved == len(before) - 34  # 16 of the hint encoder, 18 of the zero convolutions
    converted = read_description(result.path)["converted"]
    assert {"from_base", "to_base", "sha256", "by", "form"} <= converted.keys()


@pytest.mark.slow
def test_transfer_to_the_same_base_changes_nothing(control, random_base, tmp_path) -> None:
    result = convert(
        ConvertRequest(
            sources=control, target=tmp_path / "out", from_base=random_base, to_base=random_base
        )
    )
    assert state(result.path).keys() == state(control).keys()
    assert all(torch.equal(state(control)[name], t) for name, t in state(result.path).items())


@pytest.mark.slow
def test_transfer_reads_bases_of_either_form(control, random_base, tuned, tmp_path) -> None:
    file = checkpoint(tuned, tmp_path / "tuned.safetensors")
    torch.save({"state_dict": load_file(file), "epoch": 1}, tmp_path / "tuned.ckpt")
    expected = convert(
        ConvertRequest(sources=control, target=tmp_path / "a", from_base=random_base, to_base=tuned)
    )
    for base in (file, tmp_path / "tuned.ckpt"):
        found = convert(
            ConvertRequest(
                sources=control,
                target=tmp_path / "b",
                from_base=random_base,
                to_base=base,
                overwrite=True,
            )
        )
        assert all(
            torch.equal(state(expected.path)[name], tensor)
            for name, tensor in state(found.path).items()
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"from_base": "BASE"}, "must be given together"),
        ({"from_base": "BASE", "to_base": "CONTROL"}, "holds no U-Net"),
        ({"from_base": "BASE", "to_base": "OTHER"}, "not of one family"),
        ({"from_base": "OTHER", "to_base": "OTHER"}, "not of one family"),
    ],
)
def test_transfer_refuses_what_makes_no_sense(
    control, random_base, tmp_path, options, sentence
) -> None:
    other = UNet2DConditionModel(
        block_out_channels=(16, 32, 32, 32),
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=16,
    )
    other.save_pretrained(tmp_path / "other" / "unet")
    places = {"BASE": random_base, "CONTROL": control, "OTHER": tmp_path / "other"}
    with pytest.raises(CnctlError, match=sentence):
        convert(
            ConvertRequest(
                sources=control,
                target=tmp_path / "out",
                **{k: places[v] for k, v in options.items()},
            )
        )
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_not_there_is_missing(control, tmp_path) -> None:
    with pytest.raises(MissingError):
        convert(
            ConvertRequest(
                sources=control, target=tmp_path / "out", from_base="nowhere", to_base="nowhere"
            )
        )


# difference files of the web interface


def difference(control: Tensors, base: Tensors) -> Tensors:
    """What the web interface's own script writes, by its description."""
    found = {"difference": torch.tensor(1.0)}
    for name, tensor in control.items():
        key = UNET + name.removeprefix("control_model.")
        if key not in base:
            found[name] = tensor
        elif (tensor - base[key]).abs().max() >= 1e-6:
            found[name] = tensor - base[key]
    return found


@pytest.mark.slow
def test_a_difference_file_and_its_base_make_the_controlnet(
    control, random_base, tuned, tmp_path, random_controlnet
) -> None:
    # The trained control: what the base had, moved; two tensors of it unmoved.
    moved = ControlNetModel.from_config(random_controlnet.config)
    moved.load_state_dict(random_controlnet.state_dict())
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if not name.startswith(("conv_in", "time_embedding.linear_1")):
                parameter += 0.1
    save_network(moved, tmp_path / "moved", description={})
    file = checkpoint(random_base, tmp_path / "base.safetensors")
    found = difference(as_original(tmp_path / "moved", tmp_path), load_file(file))
    assert "control_model.input_blocks.0.0.weight" not in found
    save_file(found, tmp_path / "diff.safetensors")
    torch.save({"state_dict": found}, tmp_path / "diff.pth")
    with pytest.raises(CnctlError, match="only together with a base"):
        convert(ConvertRequest(sources=tmp_path / "diff.safetensors", target=tmp_path / "out"))
    for source in ("diff.safetensors", "diff.pth"):
        result = convert(
            ConvertRequest(
                sources=tmp_path / source,
                target=tmp_path / "out",
                base=random_base,
                overwrite=True,
                verify=True,
            )
        )
        assert result.source_form == "webui difference"
        loaded, _ = load_controlnet(result.path)
        assert loaded.config.attention_head_dim == 2
        for name, tensor in moved.state_dict().items():
            assert torch.allclose(loaded.state_dict()[name], tensor, atol=1e-6), name
    # With another base it is the same as moving it there.
    convert(
        ConvertRequest(sources=tmp_path / "diff.safetensors", target=tmp_path / "there", base=tuned)
    )
    convert(
        ConvertRequest(
            sources=tmp_path / "moved",
            target=tmp_path / "moved-there",
            from_base=random_base,
            to_base=tuned,
        )
    )
    there = state(tmp_path / "there")
    for name, tensor in state(tmp_path / "moved-there").items():
        assert torch.allclose(there[name], tensor, atol=1e-6), name


def test_a_difference_file_with_a_misshapen_tensor_is_refused(
    control, random_base, tmp_path
) -> None:
    file = checkpoint(random_base, tmp_path / "base.safetensors")
    found = difference(as_original(control, tmp_path), load_file(file))
    bad = found | {"control_model.time_embed.0.bias": torch.ones(3)}
    save_file(bad, tmp_path / "diff.safetensors")
    with pytest.raises(CnctlError, match=r"time_embed\.0\.bias is \[3\], not \[64\]"):
        convert(
            ConvertRequest(
                sources=tmp_path / "diff.safetensors", target=tmp_path / "out", base=random_base
            )
        )
    save_file(found | {"surprise": torch.ones(3)}, tmp_path / "diff.safetensors")
    with pytest.raises(CnctlError, match="unknown tensors beside"):
        convert(
            ConvertRequest(
                sources=tmp_path / "diff.safetensors", target=tmp_path / "out", base=random_base
            )
        )


# bases that have learnt along


def test_the_names_of_a_whole_unet_are_those_that_diffusers_knows(
    random_base, loaded_random_base, tmp_path
) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    file = load_file(checkpoint(random_base, tmp_path / "base.safetensors"))
    renamed = convert_ldm_unet_checkpoint(dict(file), dict(loaded_random_base.denoiser.config))
    unet = state(random_base / "unet")
    assert renamed.keys() == unet.keys()
    assert all(torch.equal(renamed[name], tensor) for name, tensor in unet.items())


@pytest.fixture
def unfrozen(control, random_base, tmp_path) -> Path:
    """A full checkpoint whose decoder was trained too."""
    tensors = load_file(checkpoint(random_base, tmp_path / "base.safetensors"))
    for name, tensor in tensors.items():
        if name.startswith((f"{UNET}output_blocks.", f"{UNET}out.")):
            tensor += 0.01
    save_file(tensors | as_original(control, tmp_path), tmp_path / "full.safetensors")
    return tmp_path / "full.safetensors"


@pytest.mark.slow
def test_what_a_base_has_learnt_along_is_kept_beside(
    unfrozen, control, random_base, tmp_path
) -> None:
    config = random_base / "unet" / "config.json"
    result = convert(
        ConvertRequest(sources=unfrozen, target=tmp_path / "out", base=random_base, config=config)
    )
    unet = state(random_base / "unet")
    delta = load_base_update(result.path)
    assert set(delta) == {
        name for name in unet if name.startswith(("up_blocks", "conv_norm_out", "conv_out"))
    }
    for name, tensor in delta.items():
        assert torch.allclose(tensor, torch.full_like(tensor, 0.01), atol=1e-6), name
    assert all(torch.equal(state(control)[n], tensor) for n, tensor in state(result.path).items())
    assert f"moved in {len(delta)} tensors" in result.notes[-1]
    again = convert(ConvertRequest(sources=result.path, target=tmp_path / "again"))
    assert load_base_update(again.path).keys() == delta.keys()
    assert (
        "is left out"
        in convert(ConvertRequest(sources=result.path, target=tmp_path / "x.safetensors")).notes[-1]
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_to_half_precision_is_not_learnt(unfrozen, random_base, tmp_path, dtype) -> None:
    whole = load_file(tmp_path / "base.safetensors")
    half = tmp_path / "half.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in whole.items()}, half)
    locked = tmp_path / "locked.safetensors"
    own = {n: t for n, t in load_file(unfrozen).items() if n.startswith("control_model.")}
    save_file(whole | own, locked)
    how = {"base": half, "config": random_base / "unet" / "config.json"}
    result = convert(ConvertRequest(sources=locked, target=tmp_path / "locked", **how))
    named = str(dtype).removeprefix("torch.")
    said = f"its U-Net is that of the base, apart from the rounding to {named}"
    assert result.notes[-1] == said
    assert not (result.path / "base_delta.safetensors").exists()
    moved = convert(ConvertRequest(sources=unfrozen, target=tmp_path / "moved", **how))
    assert moved.notes[-1].endswith(f"; other tensors differ by the rounding to {named} alone")
    assert all(name.startswith(("up_blocks", "conv_")) for name in load_base_update(moved.path))


def test_a_locked_base_has_learnt_nothing(control, random_base, tmp_path) -> None:
    tensors = load_file(checkpoint(random_base, tmp_path / "base.safetensors"))
    save_file(tensors | as_original(control, tmp_path), tmp_path / "full.safetensors")
    config = random_base / "unet" / "config.json"
    result = convert(
        ConvertRequest(
            sources=tmp_path / "full.safetensors",
            target=tmp_path / "out",
            base=random_base,
            config=config,
        )
    )
    assert result.notes[-1] == "its U-Net is that of the base"
    assert not (result.path / "base_delta.safetensors").exists()


# averages


@pytest.mark.slow
def test_an_average_is_the_weighted_sum(control, random_base, tuned, tmp_path) -> None:
    other = convert(
        ConvertRequest(
            sources=control, target=tmp_path / "other", from_base=random_base, to_base=tuned
        )
    ).path
    result = convert(
        ConvertRequest(
            sources=[control, other], target=tmp_path / "out.safetensors", to="diffusers"
        )
    )
    weighted = convert(
        ConvertRequest(sources=[control, other], target=tmp_path / "weighted", shares=[0.9, 0.3])
    )
    one, two = state(control), state(other)
    for name, tensor in load_file(result.path).items():
        assert torch.allclose(tensor, (one[name] + two[name]) / 2, atol=1e-6)
        expected = 0.9 * one[name] + 0.3 * two[name]
        assert torch.allclose(state(weighted.path)[name], expected, atol=1e-6)
    averaged = read_description(weighted.path)["converted"]["averaged"]
    assert [part["share"] for part in averaged] == [0.9, 0.3]


def test_only_alike_controlnets_are_averaged(control, loaded_random_base, tmp_path) -> None:
    save_network(
        build_controlnet(loaded_random_base.denoiser, hint_channels=1),
        tmp_path / "b",
        description={},
    )
    with pytest.raises(CnctlError, match="has another structure"):
        convert(ConvertRequest(sources=[control, tmp_path / "b"], target=tmp_path / "out"))
    with pytest.raises(CnctlError, match="1 shares for 2"):
        convert(ConvertRequest(sources=[control, control], target=tmp_path / "out", shares=[1.0]))


# untrained ControlNets


@pytest.mark.parametrize("channels", [3, 1, 6])
@pytest.mark.parametrize("hint_encoder", ["released", "paper"])
def test_an_untrained_controlnet_is_that_of_training(
    random_base, loaded_random_base, tmp_path, channels, hint_encoder
) -> None:
    result = init_from_base(
        InitRequest(
            base=random_base,
            target=tmp_path / "out",
            hint_channels=channels,
            hint_encoder=hint_encoder,
        )
    )
    expected = build_controlnet(
        loaded_random_base.denoiser, hint_channels=channels, hint_encoder=hint_encoder
    ).state_dict()
    found = state(result.path)
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}
    for name, tensor in expected.items():
        if name.startswith("controlnet_cond_embedding"):
            assert bool(found[name].any()) == bool(tensor.any()), name
        else:
            assert torch.equal(found[name], tensor), name
    description = read_description(result.path)
    assert description["hint_channels"] == channels
    assert description["family"] == loaded_random_base.family.name
    assert description["config"]["attention_head_dim"] == 2


def test_an_untrained_controlnet_depends_on_its_seed(random_base, tmp_path) -> None:
    first, same, other = (
        state(
            init_from_base(InitRequest(base=random_base, target=tmp_path / str(n), seed=seed)).path
        )
        for n, seed in enumerate([1, 1, 2])
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    name = "controlnet_cond_embedding.conv_in.weight"
    assert not torch.equal(first[name], other[name])


def test_a_base_in_parts_is_read(random_base, loaded_random_base, tmp_path) -> None:
    base = shutil.copytree(random_base, tmp_path / "base")
    next((base / "unet").glob("*.safetensors")).unlink()
    loaded_random_base.denoiser.save_pretrained(base / "unet", max_shard_size="200KB")
    assert len([*(base / "unet").glob("*-of-*.safetensors")]) > 1
    found, expected = (
        init_from_base(InitRequest(base=source, target=tmp_path / name)).path
        for name, source in (("found", base), ("expected", random_base))
    )
    torch.testing.assert_close(state(found), state(expected), rtol=0, atol=0)


@pytest.mark.slow
def test_an_untrained_controlnet_of_a_checkpoint_needs_a_config_at_odd_widths(
    control, random_base, tmp_path
) -> None:
    file = checkpoint(random_base, tmp_path / "base.safetensors")
    with pytest.raises(CnctlError, match="number of attention heads"):
        init_from_base(InitRequest(base=file, target=tmp_path / "out"))
    config = random_base / "unet" / "config.json"
    init_from_base(InitRequest(base=file, target=tmp_path / "out", config=config))
    init_from_base(InitRequest(base=random_base, target=tmp_path / "expected"))
    for name, tensor in state(tmp_path / "expected").items():
        assert torch.equal(state(tmp_path / "out")[name], tensor)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hint_channels": 0}, "--hint-channels is 0; it must be at least 1"),
        ({"hint_channels": 10**9}, "--hint-channels is 1000000000"),
        ({"hint_encoder": "other"}, "unknown hint encoder 'other'"),
        ({"hint_encoder": "paper", "to": "original"}, r"does not end in \.safetensors"),
    ],
)
def test_what_no_untrained_controlnet_can_be_is_said(
    random_base, tmp_path, options, sentence
) -> None:
    with pytest.raises(CnctlError, match=sentence):
        init_from_base(InitRequest(base=random_base, target=tmp_path / "out", **options))


# Control-LoRA


def is_smaller(weight: torch.Tensor, rank: int) -> bool:
    """Whether two factors of this rank have fewer numbers than the weight itself."""
    if weight.ndim < 2:
        return False
    rows, columns = weight.flatten(1).shape
    return rank * (rows + columns) < weight.numel()


def relative_error(control: Tensors, base: Tensors, rank: int) -> float:
    """The norm of the singular values that are left out, over that of all, by SVD itself."""
    lost = learnt = 0.0
    for name, tensor in control.items():
        if name in base and is_smaller(tensor, rank):
            values = torch.linalg.svdvals((tensor - base[name]).flatten(1).double())
            lost += float(values[rank:].square().sum())
            learnt += float(values.square().sum())
    return (lost / learnt) ** 0.5


@pytest.fixture
def trained(random_controlnet, random_base, tmp_path) -> Path:
    """A ControlNet that has moved away from its base everywhere."""
    trained = ControlNetModel.from_config(random_controlnet.config)
    trained.load_state_dict(random_controlnet.state_dict())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    save_network(trained, tmp_path / "trained", description={"condition": "canny"})
    return tmp_path / "trained"


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_a_low_rank_is_the_best_of_that_rank_and_says_what_it_lost(
    trained, random_base, tmp_path, rank
) -> None:
    lora = convert(
        ConvertRequest(
            sources=trained,
            target=tmp_path / "lora.safetensors",
            to="control-lora",
            base=random_base,
            rank=rank,
        )
    )
    expected = relative_error(state(trained), state(random_base / "unet"), rank)
    assert lora.error == pytest.approx(expected, rel=1e-4)
    # The file itself loses as much: merged, it is as far from the ControlNet.
    merged = convert(
        ConvertRequest(sources=lora.path, target=tmp_path / "merged", base=random_base)
    )
    whole, back, base = state(trained), state(merged.path), state(random_base / "unet")
    weights = [name for name in whole if name in base and is_smaller(whole[name], rank)]
    far = sum(float((whole[n] - back[n]).square().sum()) for n in weights) ** 0.5
    learnt = sum(float((whole[n] - base[n]).square().sum()) for n in weights) ** 0.5
    assert far / learnt == pytest.approx(expected, rel=1e-3)
    assert all(torch.equal(whole[n], back[n]) for n in whole if n not in weights)
    assert read_description(merged.path)["condition"] == "canny"


def test_full_rank_loses_nothing(trained, random_base, tmp_path) -> None:
    lora = convert(
        ConvertRequest(
            sources=trained,
            target=tmp_path / "lora.safetensors",
            to="control-lora",
            base=random_base,
            rank=9999,
            verify=True,
        )
    )
    assert lora.error is not None
    assert lora.difference is not None
    assert lora.error < 1e-6
    assert lora.difference < 1e-4


@pytest.mark.slow
def test_diffusers_reads_the_control_lora_as_we_do(own_base, tmp_path) -> None:
    """Biases apart, which diffusers leaves out beside factors. It reads two layers per block."""
    torch.manual_seed(1)
    config = UNet2DConditionModel.load_config(own_base / "unet") | {"layers_per_block": 2}
    unet = UNet2DConditionModel.from_config(config)
    unet.save_pretrained(own_base / "unet")
    widths = {"conditioning_embedding_out_channels": (8, 8, 8, 16)}
    moved = ControlNetModel.from_unet(unet, **widths)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if parameter.ndim > 1 or name.startswith("controlnet_"):
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    save_network(moved, tmp_path / "moved", description={"condition": "canny"})
    path = tmp_path / "lora.safetensors"
    convert(
        ConvertRequest(
            sources=tmp_path / "moved", target=path, to="control-lora", base=own_base, rank=3
        )
    )
    theirs = ControlNetModel.from_unet(unet, **widths).eval()
    with warnings.catch_warnings():  # peft is not sure whether conv_in is meant
        warnings.simplefilter("ignore")
        theirs.load_lora_adapter(load_file(path), prefix=None)
    ours, description = load_controlnet(path, base=own_base)
    assert description["condition"] == "canny"
    generator = torch.Generator().manual_seed(0)
    given = (
        torch.randn(1, 4, 8, 8, generator=generator),
        torch.tensor(500),
        torch.randn(1, 7, 32, generator=generator),
        torch.rand(1, 3, 64, 64, generator=generator),
    )
    with torch.no_grad():
        (down, middle), (their_down, their_middle) = (
            net(*given, return_dict=False) for net in (ours, theirs)
        )
    assert float(middle.abs().max()) > 0.01
    for one, other in zip([*down, middle], [*their_down, their_middle], strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_generate_reads_a_control_lora_with_its_base(
    trained, random_base, loaded_random_base, tmp_path
) -> None:
    from cnctl.commands.shared.weights import open_control
    from cnctl.registry import get_condition

    path = tmp_path / "lora.safetensors"
    convert(
        ConvertRequest(sources=trained, target=path, to="control-lora", base=random_base, rank=2)
    )
    merged = convert(ConvertRequest(sources=path, target=tmp_path / "merged", base=random_base))
    opened = open_control(get_condition("canny"), loaded_random_base, weights=str(path))
    for name, tensor in state(merged.path).items():
        assert torch.equal(opened.state_dict()[name], tensor)


def test_a_control_lora_with_one_factor_is_refused(trained, random_base, tmp_path) -> None:
    path = tmp_path / "lora.safetensors"
    convert(
        ConvertRequest(sources=trained, target=path, to="control-lora", base=random_base, rank=2)
    )
    tensors = load_file(path)
    del tensors["input_blocks.1.0.in_layers.2.down"]
    save_file(tensors, path)
    with pytest.raises(
        CnctlError, match=r"input_blocks\.1\.0\.in_layers\.2 lacks one of its factors"
    ):
        load_controlnet(path, base=random_base)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"to": "control-lora"}, "name the base|needs the base"),
        ({"to": "control-lora", "base": "BASE", "rank": 0}, "--rank is 0; it must be at least 1"),
        ({"to": "original", "rank": 4}, "a rank of 4"),
    ],
)
def test_what_a_control_lora_needs_is_said(
    trained, random_base, tmp_path, options, sentence
) -> None:
    options = {k: random_base if v == "BASE" else v for k, v in options.items()}
    with pytest.raises(CnctlError, match=sentence):
        convert(ConvertRequest(sources=trained, target=tmp_path / "out.safetensors", **options))


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (4, 4), (1, 9)])
@pytest.mark.parametrize("rank", [1, 3, 99])
def test_split_is_the_truncated_svd(shape, rank) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = min(rank, *shape)
    expected = left[:, :kept] * values[:kept] @ right[:kept]
    up, down = split(matrix, rank)
    assert (up.shape, down.shape) == ((shape[0], kept), (kept, shape[1]))
    assert torch.allclose(up @ down, expected, atol=1e-10)


def test_split_of_nothing_is_nothing() -> None:
    up, down = split(torch.zeros(3, 5, dtype=torch.float64), 2)
    assert torch.equal(up @ down, torch.zeros(3, 5, dtype=torch.float64))
